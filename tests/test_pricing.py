"""What an impression costs, on numbers worked by hand, alone and within a tick."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upwell.regulator import ledger, pricing, tick
from upwell.regulator.ledger import COIN

PRICE, CAP = np.float32(1_000.0), np.float32(0.2)


def f(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def platform(contents: int, pool: int, share: float = 0.0) -> tick.RegulatorState:
    """A regulator with full budgets of 100 coins, ``pool`` impressions left, and a heated share this hour."""
    state = tick.opened(np, contents, 100.0)
    return state._replace(
        ledger=state.ledger._replace(pool=np.int32(pool)),
        hour_impressions=np.float32(1_000.0),
        hour_heated=np.float32(1_000.0 * share),
    )


def allocated(state, asked, score, bid, owed=None, quality=None, discount=None, elapsed=1.0):
    many = len(asked)
    none = np.zeros(many, bool)
    return tick.allocate(
        np,
        state,
        tick.Requests(np.array(asked, np.int32), f(*score), none, None if bid is None else f(*bid), discount),
        none if owed is None else np.array(owed),
        f(*([0.5] * many)) if quality is None else f(*quality),
        np.float32(5.0),
        PRICE,
        CAP,
        np.float32(elapsed),
        np.float32(int(state.ledger.pool)),
    )


def test_clearing_price_is_the_bid_of_the_first_request_the_supply_does_not_fill():
    wanted, bid = np.array([4, 0, 4, 4]), f(9, 99, 7, 3)
    assert pricing.clearing_price(np, wanted, bid, 12, 2.0) == 2.0  # all filled: the reserve
    assert pricing.clearing_price(np, wanted, bid, 11, 2.0) == 3.0  # the last is cut
    assert pricing.clearing_price(np, wanted, bid, 5, 2.0) == 7.0
    assert pricing.clearing_price(np, wanted, bid, 11, 4.0) == 4.0  # never below the reserve
    assert pricing.clearing_price(np, wanted, bid, 0, 2.0) == 9.0


def test_discount_goes_as_far_as_evidence_carries():
    quality = f(0.5, 0.75, 1.0, 0.2)
    assert pricing.discount(np, f(1.0), quality, 0.0, CAP).tolist() == [0.0, 0.25, 0.5, 0.0]
    assert pricing.discount(np, f(0.5), quality, 0.0, CAP).tolist() == [0.0, 0.125, 0.25, 0.0]
    assert pricing.discount(np, f(7.0), quality, 0.0, CAP).tolist() == [0.0, 0.25, 0.5, 0.0]  # never above the most


def test_near_the_cap_discounts_are_forced():
    quality = f(0.5, 1.0)
    assert pricing.discount(np, f(0.0), quality, 0.17, CAP).tolist() == [0.0, 0.0]
    assert pricing.discount(np, f(0.0), quality, 0.19, CAP).tolist() == [0.0, 0.5]


def test_bill_by_hand():
    # min(clearing, bid) less the discount, whole units, never free
    assert pricing.bill(np, 8.0, f(10, 6, 10, 0), f(0, 0, 0.5, 0)).tolist() == [8, 6, 4, 1]


def test_with_room_for_all_everyone_pays_the_reserve():
    after = allocated(platform(3, 1_000), [10, 20, 30], [0.9, 0.8, 0.7], [2.0, 1.5, 1.0])
    assert after.ledger.outstanding.tolist() == [10, 20, 30]
    assert after.ledger.price.tolist() == [1_000] * 3
    assert (100 * COIN - after.ledger.budget).tolist() == [10_000, 20_000, 30_000]


def test_short_of_supply_the_first_loser_sets_the_price_and_bids_bound_it():
    # 25 impressions: the first two are served in full, the third is cut short at a bid of 1.8; the second bid 1.5.
    after = allocated(platform(4, 25), [10, 10, 10, 10], [0.9, 0.8, 0.7, 0.6], [2.0, 1.5, 1.8, 3.0])
    assert after.ledger.outstanding.tolist() == [10, 10, 5, 0]
    assert after.ledger.price[:3].tolist() == [1_800, 1_500, 1_800]
    assert ledger.balanced(after.ledger)


def test_who_bids_below_the_reserve_is_not_served_but_a_chance_is_given_at_the_bid():
    after = allocated(platform(3, 1_000), [10, 10, 10], [0.9, 0.9, 0.9], [0.9, 0.9, 1.1], owed=[False, True, False])
    assert after.ledger.outstanding.tolist() == [0, 5, 10]  # the chance of 5, not the 10 asked for
    assert after.ledger.price[1:].tolist() == [900, 1_000]


def test_a_pool_that_trickles_makes_whole_chances_and_is_saved_up_for_the_next():
    # Chances of 5: twelve impressions are two, and the last two are nobody's, asked for or not.
    after = allocated(platform(4, 12), [0, 0, 0, 100], [0, 0, 0, 0.9], None, owed=[True, True, True, False])
    assert after.ledger.outstanding.tolist() == [5, 5, 0, 0]
    assert int(after.ledger.pool) == 2


def test_a_chance_is_never_larger_than_a_full_pool():
    after = allocated(platform(2, 3), [0, 100], [0, 0.9], None, owed=[True, False])
    assert after.ledger.outstanding.tolist() == [3, 0]


def test_near_the_cap_the_reserve_rises_and_only_evidence_makes_it_cheaper():
    # share .18 of a cap of .2: load .9, factor 1 + .4 / .1 = 5
    after = allocated(platform(3, 1_000, 0.18), [10, 10, 10], [0.9, 0.9, 0.9], [4.9, 6.0, 6.0], quality=[1, 0.5, 1])
    assert after.ledger.outstanding.tolist() == [0, 10, 10]
    assert after.ledger.price[1:].tolist() == pytest.approx([5_000, 2_500], abs=5)


def test_an_arm_without_bids_pays_the_reserve():
    after = allocated(platform(3, 15, 0.15), [10, 10, 10], [0.9, 0.8, 0.7], None)
    assert after.ledger.outstanding.tolist() == [10, 5, 0]
    assert after.ledger.price[:2].tolist() == pytest.approx([2_000] * 2, abs=2)


def test_a_content_gets_no_more_than_its_budget_buys_at_the_price_it_pays():
    after = allocated(platform(1, 10_000), [5_000], [0.9], [1.0])
    assert after.ledger.outstanding.tolist() == [1_000]
    assert after.ledger.budget.tolist() == [0]


numbers = st.floats(0, 4, width=32)


@given(
    st.lists(st.tuples(st.integers(0, 3_000), numbers, numbers, st.booleans(), numbers), min_size=1, max_size=12),
    st.integers(0, 8_000),
    st.floats(0, 0.25, width=32),
)
def test_no_tick_overspends_or_bills_above_the_bid(rows, pool, share):
    asked, score, bid, owed, rest = (list(column) for column in zip(*rows, strict=True))
    quality = [r / 4 for r in rest]
    state = platform(len(rows), pool, share)
    after = allocated(state, asked, score, bid, owed, quality, discount=f(*rest))
    books = after.ledger
    assert ledger.balanced(books)
    assert int(books.pool) + int(books.outstanding.sum()) == pool
    spent = 100 * COIN - books.budget.astype(np.int64)
    assert (spent == books.outstanding.astype(np.int64) * books.price).all()
    got = books.outstanding > 0
    assert (books.price[got] <= np.maximum(np.round(f(*bid)[got] * PRICE), 1)).all()
