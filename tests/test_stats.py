"""Intervals that may be looked at as often as one likes, rates, and many tests at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upwell.experiment.stats import rate
from upwell.statistics.evidence import always_valid, always_valid_p
from upwell.statistics.segments import holm


def test_by_hand():
    found = always_valid(1.0, 4.0, 100.0, alpha=0.05, planned=100.0)
    spread = (-2 * np.log(0.05) + np.log(-2 * np.log(0.05) + 1)) / 100.0
    assert spread == pytest.approx(0.07936, abs=1e-4)
    half = 2.0 * np.sqrt(2.0 * (100 * spread + 1) / (100**2 * spread) * np.log(np.sqrt(100 * spread + 1) / 0.05))
    assert (found.high - found.mean, found.mean - found.low) == (pytest.approx(half), pytest.approx(half))
    # A look that is planned once would be shorter, by less than a half.
    assert 1.3 < half / (1.96 * 2.0 / 10.0) < 1.7


def test_one_observation_says_nothing():
    assert always_valid(3.0, 0.0, 1.0) == (3.0, -np.inf, np.inf)


@pytest.mark.parametrize("planned", [100.0, 1_000.0])
def test_looking_after_every_observation_is_wrong_no_more_often_than_said(planned):
    rng = np.random.default_rng(3)
    runs, many = 1_000, 2_000
    x = rng.exponential(1.0, (runs, many))  # skewed, mean 1
    n = np.arange(1, many + 1)
    mean = x.cumsum(1) / n
    variance = np.maximum((x**2).cumsum(1) / n - mean**2, 1e-12)
    looked = slice(50, None)  # the sequence is asymptotic
    half = np.array([[always_valid(0.0, 1.0, c, 0.05, planned).high] for c in n[looked]])[:, 0]
    wrong = (np.abs(mean[:, looked] - 1.0) > half * np.sqrt(variance[:, looked])).any(1).mean()
    assert wrong <= 0.07
    once = (np.abs(mean[:, looked] - 1.0) > 1.96 * np.sqrt(variance[:, looked] / n[looked])).any(1).mean()
    assert once > 0.2


@given(st.floats(0.0, 10.0), st.floats(2.0, 1e6), st.floats(1e-6, 0.5))
def test_p_is_below_alpha_where_the_interval_leaves_zero_out(z, count, alpha):
    found = always_valid(z, count, count, alpha, planned=500.0)  # of so many standard errors, each 1
    p = float(always_valid_p(z, count, alpha, 500.0))
    assert (found.low > 0.0) == (p < alpha) or p == pytest.approx(alpha)


def test_holm_by_hand():
    # In order .01, .03, .04, .2, times 4, 3, 2, 1; never below the one before, never above 1.
    assert holm(np.array([0.04, 0.01, 0.2, 0.03])) == pytest.approx([0.09, 0.04, 0.2, 0.09])
    assert holm(np.array([0.9, 0.8])).tolist() == [1.0, 1.0]


def test_a_rate_by_hand():
    found = rate(0, 10)
    assert (found.mean, found.low, found.high) == pytest.approx((0.0, 0.0, 1.0 - 0.025 ** (1.0 / 10.0)))
