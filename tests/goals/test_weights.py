"""From what was asked for to bounded weights: every step by hand, and any JSON at all."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upwell.goals.weights import DEFAULT, NAMES, Limits, checked, projected, shares
from upwell.model import Weights

FREE = Limits(smallest=0.0, step=1.0, smoothing=1.0, large=0.3)
NOW = Weights(user_satisfaction=0.5, platform_revenue=0.3, long_term=0.2)
HUGE = int("1" * 3_000)


def asked(user: object, revenue: object, long_term: object) -> dict[str, object]:
    return dict(zip(NAMES, (user, revenue, long_term), strict=True))


def got(weights: Weights) -> list[float]:
    return [weights.user_satisfaction, weights.platform_revenue, weights.long_term]


def test_only_ratios_count():
    assert got(checked(asked(4, 4, 2), NOW, FREE).weights) == pytest.approx([0.4, 0.4, 0.2])
    assert got(checked(asked(1e308, 1e308, 1e308), NOW, FREE).weights) == pytest.approx([1 / 3] * 3)
    assert got(checked(asked(5e-324, 0, 0), NOW, FREE).weights) == pytest.approx([1, 0, 0])


def test_no_share_is_under_the_smallest():
    # (0, 1, 0) to shares of at least .1: what is missing below is taken from above, .2 from the one that has it
    assert got(checked(asked(0, 1, 0), NOW, FREE._replace(smallest=0.1)).weights) == pytest.approx([0.1, 0.8, 0.1])
    assert projected(np.array([0.6, 0.35, 0.05]), 0.1).tolist() == pytest.approx([0.575, 0.325, 0.1])
    assert projected(np.array([0.2, 0.5, 0.3]), 1 / 3).tolist() == pytest.approx([1 / 3] * 3)


@given(st.lists(st.floats(-10, 10), min_size=3, max_size=3), st.floats(0, 1 / 3), st.integers(0, 2**32 - 1))
def test_the_projection_is_the_nearest_point(values: list[float], smallest: float, seed: int):
    point = np.array(values)
    nearest = projected(point, smallest)
    assert nearest.sum() == pytest.approx(1.0)
    assert nearest.min() >= smallest - 1e-12
    others = smallest + (1 - 3 * smallest) * np.random.default_rng(seed).dirichlet([0.5] * 3, 50)
    assert np.linalg.norm(nearest - point) <= np.linalg.norm(others - point, axis=1).min() + 1e-9


def test_no_share_moves_by_more_than_a_step_and_a_part_of_it_is_smoothed_away():
    # asked: (-.4, +.6, -.2); a step of .3 keeps half of that, smoothing .5 a half of the half
    assert got(checked(asked(0.1, 0.9, 0), NOW, FREE._replace(step=0.3)).weights) == pytest.approx([0.3, 0.6, 0.1])
    half = FREE._replace(step=0.3, smoothing=0.5)
    assert got(checked(asked(0.1, 0.9, 0), NOW, half).weights) == pytest.approx([0.4, 0.45, 0.15])
    assert got(checked(asked(0.5, 0.4, 0.1), NOW, half).weights) == pytest.approx([0.5, 0.35, 0.15])


def test_asking_again_and_again_gets_there():
    weights = NOW
    for _ in range(50):
        weights = checked(asked(0, 1, 0), weights).weights
    assert got(weights) == pytest.approx([0.05, 0.9, 0.05])


def test_a_large_move_is_told_by_what_was_asked_for_not_by_the_step():
    assert checked(asked(0, 1, 0), NOW).large
    assert checked(asked(0.2, 0.6, 0.2), NOW, FREE._replace(step=0.01)).large is False  # .3, the limit itself
    assert checked(asked(0.19, 0.61, 0.2), NOW, FREE._replace(step=0.01)).large
    assert not checked(asked("x", 1, 0), NOW).large


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (asked(float("inf"), 1, 1), "user_satisfaction must be finite"),
        (asked(1, float("-inf"), 1), "platform_revenue must be finite"),
        (asked(1, 1, float("nan")), "long_term must be finite"),
        (asked(1, -0.1, 1), "not negative"),
        (asked(1, json.loads("3e63194"), 1), "platform_revenue must be finite"),
        (asked(1, HUGE, 1), "must be finite"),
        (asked(True, 1, 1), "user_satisfaction must be a number"),
        (asked(1, "0.5", 1), "must be a number"),
        (asked(1, None, 1), "must be a number"),
        (asked(1, {"value": 0.5}, 1), "must be a number"),
        (asked(1, [0.5], 1), "must be a number"),
        (asked(0, 0, 0), "above 0"),
        ({}, "user_satisfaction, platform_revenue, long_term missing"),
        ({"user_satisfaction": 1, "long_term": 1}, ": platform_revenue missing"),
        (asked(1, 1, 1) | {"profit": 1}, ": 1 more"),
        ({f"key{i}": i for i in range(1_000)}, "missing and 1000 more"),
        (asked(1, 1, 1) | {f"key{i}": i for i in range(1_000)}, ": 1000 more"),
        ([0.4, 0.4, 0.2], "an object of"),
        ("all on revenue", "an object of"),
        (1.0, "an object of"),
        (True, "an object of"),
    ],
)
def test_what_is_no_three_numbers_changes_nothing_and_is_told(wrong: object, why: str):
    weights, large, refused = checked(wrong, NOW)
    assert got(weights) == got(NOW)
    assert not large
    assert len(refused) == 1
    assert why in refused[0].why
    assert len(refused[0].what) <= 200


def test_the_last_good_weights_then_the_default():
    assert checked(None, NOW) == (NOW, False, ())
    assert checked("?", None).weights == DEFAULT
    assert checked(None, Weights(user_satisfaction=0, platform_revenue=0, long_term=0)).weights == DEFAULT
    assert checked(None, Weights(user_satisfaction=float("nan"), platform_revenue=1, long_term=0)).weights == DEFAULT
    assert got(checked(None, Weights(user_satisfaction=2, platform_revenue=1, long_term=1)).weights) == [
        0.5,
        0.25,
        0.25,
    ]


def test_from_weights_out_of_bounds_every_step_comes_nearer():
    weights = Weights(user_satisfaction=0, platform_revenue=1, long_term=0)
    for _ in range(3):
        after = checked(asked(0, 1, 0), weights).weights
        assert 0.05 > after.long_term > weights.long_term
        weights = after


numbers = st.one_of(st.floats(), st.integers(), st.integers(10**300, 10**400), st.booleans(), st.none(), st.text())
anything = st.recursive(
    numbers, lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(NAMES) | st.text(), inner), max_leaves=20
)
three = st.fixed_dictionaries(dict.fromkeys(NAMES, numbers | anything))
positive = st.floats(0, 1e300)


@given(
    anything | three | st.fixed_dictionaries(dict.fromkeys(NAMES, positive)),
    st.tuples(positive, positive, positive),
    st.floats(0.01, 0.2),
    st.floats(0, 1),
    st.floats(0.01, 1),
)
def test_whatever_is_asked_for_the_weights_stay_within_bounds_and_a_step(
    wanted: object, now: tuple[float, float, float], smallest: float, step: float, smoothing: float
):
    limits = Limits(smallest, step, smoothing, large=0.3)
    here = projected(np.array(now) / max(1.0, *now), smallest)
    before = Weights(**dict(zip(NAMES, here.tolist(), strict=True)))
    after = shares(checked(wanted, before, limits).weights)
    assert after is not None
    assert after.sum() == pytest.approx(1.0)
    assert after.min() >= smallest - 1e-9
    assert np.abs(after - here).max() <= step * smoothing + 1e-9
