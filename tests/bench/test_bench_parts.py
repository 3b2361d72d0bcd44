"""What the benchmarks of the service count, and how they sum it up."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from upwell.bench import fleet, ingest, serve, traffic
from upwell.bench.figures import parsed
from upwell.errors import BadRequest
from upwell.model import Answer, Request, Shown

ANSWER = Answer("d1", [Shown(f"c{n}", n, False, False, 1.0, ()) for n in range(10)], "rules", "1", "0", False)


def test_figures_without_labels_are_read():
    text = '# HELP a b\nupwell_decided 12.0\nupwell_requests_total{route="/"} 3.0\nupwell_compute_seconds 0.5\n'
    assert parsed(text) == {"upwell_decided": 12.0, "upwell_compute_seconds": 0.5}


def test_each_event_is_one_unit_of_its_content():
    """So that a lost or doubled one shows, whichever it is."""
    events = traffic.events(3, ANSWER, 1_000)
    assert len(events) == traffic.EVENTS_A_DECISION
    assert len({event.event_id for event in events}) == len(events)
    per_content = Counter(event.content_id for event in events)
    assert per_content["c3"] == 3
    counts = {"dwell_ms": 1_000, "clicks": 1, "shares": 1, "impressions": 9}
    assert traffic.units(counts) == per_content["c3"]


def test_requests_are_well_formed_and_concentrated():
    made = [msgspec.json.decode(serve.bodies(r), type=Request) for r in traffic.requests(range(300), 2_000, 30, 1)]
    assert all(len({c.id for c in one.candidates}) == 30 for one in made)
    scores = [c.score for c in made[0].candidates]
    assert scores == sorted(scores, reverse=True)
    drawn = Counter(c.id for one in made for c in one.candidates)
    first = sum(n for name, n in drawn.items() if int(name[1:]) < 20)
    assert 0.3 < first / drawn.total() < 0.5


def test_lost_and_doubled_do_not_make_up_for_each_other():
    assert ingest.difference(Counter(a=3, b=2), Counter(a=2, b=4)) == (1, 2)


def test_all_events_are_called_in():
    batches = ingest.calls([traffic.events(n, ANSWER, 0) for n in range(10)], 50)
    assert [len(batch) for batch in batches] == [50, 50, 20]


def test_what_limits_is_told_from_shares_of_a_core():
    assert serve.limit(0.98, 0.4) == "the server's core"
    assert serve.limit(0.5, 0.95).startswith("the callers' core")
    assert serve.limit(0.5, 0.1).startswith("waits")


@pytest.mark.parametrize("url", ["redis://192.0.2.1:6379/0", "kafka://example.org:9092"])
def test_only_this_machine_is_put_under_load(url, tmp_path):
    with (
        pytest.raises(BadRequest, match="on this machine"),
        fleet.prepared(url, "embedded" if "redis" in url else url, tmp_path),
    ):
        pass
