"""Guarantee tasks: the curve, the controller on hand-worked numbers, and what it does to a plant that lags."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upwell.regulator import tasks
from upwell.regulator.tasks import Gains, Loop

NONE = np.zeros(1, bool)


def one(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_the_curve_is_a_straight_line_up_to_the_promise():
    assert tasks.due(np, 300.0, one(0.0, 1.0, 1.5, 3.0, 9.0), 3.0).tolist() == [0.0, 100.0, 150.0, 300.0, 300.0]


def test_error_is_a_share_of_the_promise():
    assert tasks.error_of(np, one(150.0, 150.0), one(90.0, 180.0), 300.0).tolist() == pytest.approx([0.2, -0.1])


def test_two_steps_by_hand():
    gains = Gains(p=10.0, i=4.0, d=0.5)
    # e = .2 after a quarter of a day: integral .05, change (.2 - 0)/.25 = .8; 2 + .2 + .4.
    loop, boost = tasks.step(np, tasks.rested(np, 1), one(0.2), gains, 0.25, 8.0, NONE)
    assert loop.integral.tolist() == pytest.approx([0.05])
    assert boost.tolist() == pytest.approx([2.6])
    # e = .1 half a day on: integral .05 + .05 = .1, change -.1/.5 = -.2; 1 + .4 - .1.
    loop, boost = tasks.step(np, loop, one(0.1), gains, 0.5, 8.0, NONE)
    assert loop.integral.tolist() == pytest.approx([0.1])
    assert boost.tolist() == pytest.approx([1.3])


def test_the_integral_waits_while_the_output_stands_at_its_bound():
    gains = Gains(p=10.0, i=4.0, d=0.0)
    loop, boost = tasks.step(np, tasks.rested(np, 1), one(0.9), gains, 1.0, 8.0, NONE)
    assert boost.tolist() == [8.0]
    assert loop.integral.tolist() == [0.0]
    # Ahead of the curve: no boost below 0, and nothing is held against it later.
    loop, boost = tasks.step(np, loop, one(-0.5), gains, 1.0, 8.0, NONE)
    assert boost.tolist() == [0.0]
    assert loop.integral.tolist() == [0.0]


def test_a_task_that_begins_inherits_nothing():
    loop, boost = tasks.step(np, Loop(one(5.0), one(0.9)), one(0.1), Gains(10.0, 4.0, 3.0), 0.5, 8.0, ~NONE)
    assert loop.integral.tolist() == pytest.approx([0.05])
    assert boost.tolist() == pytest.approx([1.2])


def test_no_time_no_change():
    before = Loop(one(0.1), one(0.2))
    loop, boost = tasks.step(np, before, one(0.3), Gains(10.0, 4.0, 3.0), 0.0, 8.0, NONE)
    assert loop.integral.tolist() == pytest.approx([0.1])
    assert boost.tolist() == pytest.approx([3.4])


def test_what_is_asked_for():
    # Of 300: 100 are due; who has 80 asks for 20 and 15 more, who is ahead for nothing, nobody beyond the promise.
    assert tasks.ask(np, 300.0, one(80.0, 120.0, 295.0), one(100.0, 100.0, 300.0), 15.0).tolist() == [35, 0, 5]


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=30), st.floats(0.1, 10))
@settings(max_examples=30)
def test_a_boost_stays_within_its_bounds_and_backends_agree(errors, most):
    gains, ours, theirs = Gains(20.0, 10.0, 1.0), tasks.rested(np, 1), tasks.rested(jnp, 1)
    for error in errors:
        ours, boost = tasks.step(np, ours, one(error), gains, 0.1, most, NONE)
        theirs, other = tasks.step(jnp, theirs, jnp.asarray(one(error)), gains, 0.1, most, jnp.asarray(NONE))
        assert 0.0 <= boost[0] <= most * (1 + 1e-6)
        np.testing.assert_allclose(boost, other, rtol=1e-4, atol=1e-4)


def test_it_keeps_a_lagging_plant_on_its_curve():
    """Impressions an hour grow with the boost of the hour before: delivery ends within 5% of the promise."""
    loop, boost, delivered = tasks.rested(np, 1), one(0.0), one(0.0)
    for hour in range(72):
        delivered = delivered + 1.5 * boost
        error = tasks.error_of(np, tasks.due(np, 300.0, one((hour + 1) / 24), 3.0), delivered, 300.0)
        loop, boost = tasks.step(np, loop, error, Gains(40.0, 20.0, 0.5), 1 / 24, 8.0, NONE)
    assert delivered[0] == pytest.approx(300.0, rel=0.05)
