"""What a crash run's witnesses notice, by hand."""

from __future__ import annotations

import pytest

from upwell.bench import crash_audit as audit
from upwell.bench.crash_watch import Auditor
from upwell.regulator.ledger import COIN
from upwell.service.settings import Settings
from upwell.state import Batch, open_store

A = " halves/a"


def stored(counted: dict[str, int], book: dict[str, int]) -> audit.Stored:
    out = audit.Stored(open_store("memory:"))
    out.counted, out.books = {"c1": counted}, {"c1": book}
    return out


@pytest.mark.parametrize(
    ("heated", "of_arm", "over"),
    [(10, 4, 0), (11, 4, 1), (10, 5, 1), (12, 2, 4)],
)
def test_what_is_shown_is_held_against_the_purse_that_paid(heated, of_arm, over):
    """Everybody's purse granted 8 and took back 2, the arm's granted 4."""
    book = {"granted": 8, "released": 2, f"granted{A}": 4}
    assert audit.overspent(stored({"heated": heated, f"heated{A}": of_arm}, book)) == over


@pytest.mark.parametrize(
    ("deltas", "error"),
    [
        ({"budget_units": -300, f"budget_units{A}": 300}, 0),  # coins move
        ({"budget_units": -300, f"budget_units{A}": 299}, 1),
        ({f"budget_units{A}": 7}, 7),
        ({"granted": 5, "price_units": 20, "budget_units": -100}, 0),
        ({f"granted{A}": 5, f"price_units{A}": 20, f"budget_units{A}": -100}, 0),
        ({f"granted{A}": 5, f"price_units{A}": 20, "budget_units": -100}, 0),  # coins moved as well
        ({f"granted{A}": 5, f"price_units{A}": 20, f"budget_units{A}": -90}, 10),
    ],
)
def test_coins_are_added_up_over_all_purses(tmp_path, deltas, error):
    settings = Settings(store=f"sqlite:{tmp_path / 'state.db'}", budget=100.0)  # pyright: ignore
    store = open_store(settings.store_url)

    def write(counters: dict[str, int]) -> None:
        batch = Batch()
        batch.add("grant", "c1", counters)
        store.write(batch)

    auditor = Auditor(settings)
    write({"budget_units": 60 * COIN, f"budget_units{A}": 40 * COIN})  # a first budget, split as it is opened
    auditor.look()
    assert (auditor.steps, auditor.error_units) == (1, 0)
    write(deltas)
    auditor.look()
    assert (auditor.steps, auditor.error_units) == (2, error)
    store.close()
