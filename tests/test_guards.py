"""Guards, on numbers worked by hand."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upwell.regulator import guards
from upwell.regulator.assignment import assign


def test_price_is_flat_to_half_the_cap_and_then_rises():
    price = guards.price_factor(np, np.array([0.0, 0.1, 0.15, 0.19]), np.float64(0.2))
    assert price.tolist() == pytest.approx([1.0, 1.0, 2.0, 1 + 0.45 / 0.05])


@given(st.lists(st.integers(0, 2), min_size=1, max_size=30), st.integers(0, 40))
def test_window_cap_is_never_exceeded_and_serves_the_first(slots, left):
    cut = guards.within_window(np, np.array(slots), np.int64(left))
    assert cut.sum() == min(sum(slots), left)
    assert (cut <= np.array(slots)).all()


def test_at_the_cap_nothing_more_is_heated():
    assert guards.heated_slots_left(np, 1_000, 220, 100, 0.2) == 0
    assert guards.heated_slots_left(np, 1_000, 200, 100, 0.2) == 20


def test_new_users_and_the_holdout_are_not_explored_on():
    created, held = np.array([0, 7, 8, 0]), np.array([False, False, False, True])
    assert guards.may_explore(np.int32(10), created, 3.0, held).tolist() == [True, True, False, False]


def test_throttle_falls_on_a_loss_beyond_the_limit_and_recovers():
    one = np.float32(1.0)
    assert guards.throttle(np, one, 900, 10_000, 10_000, 100_000, 0.03) == pytest.approx(0.75)
    assert guards.throttle(np, np.float32(0.5), 980, 10_000, 10_000, 100_000, 0.03) == pytest.approx(0.55)
    assert guards.throttle(np, one, 0, 10_000, 50, 500, 0.03) == 1.0  # too little in the holdout to judge


def test_owed_a_chance_until_fifty_scaled_impressions_and_three_days():
    owed = guards.owed_a_chance(
        np.array([0, 24, 25, 0, 0]), np.array([0, 2, 2, 3, 0]), 0.5, 50.0, np.array([0, 0, 0, 0, 1], bool)
    )
    assert owed.tolist() == [True, True, False, False, False]


def test_bought_clicks_are_proven_and_honest_ones_are_not():
    proven = guards.proven_cheat(np, np.array([100.0, 100.0, 8.0]), np.array([5.0, 60.0, 0.0]))
    assert proven.tolist() == [True, False, False]


def test_assignment_is_sticky_even_and_independent_between_salts():
    units = np.arange(50_000)
    one, again, other = assign(np, units, 1), assign(np, units, 1), assign(np, units, 2)
    np.testing.assert_array_equal(one, again)
    assert (one < 0.05).mean() == pytest.approx(0.05, abs=0.004)
    assert (other[one < 0.05] < 0.5).mean() == pytest.approx(0.5, abs=0.04)


def test_a_cap_of_nothing_is_a_cap():
    """It was divided by."""
    for xp in (np, jnp):
        assert float(guards.load(xp, xp.float32(0.0), 0.0)) == 0.0
        assert float(guards.price_factor(xp, xp.float32(0.0), 0.0)) == 1.0
        assert float(guards.load(xp, xp.float32(0.1), 0.2)) == pytest.approx(0.5)
