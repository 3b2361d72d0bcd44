"""Intervals that may be looked at as often as one likes."""

import numpy as np
import pytest

from upwell.regulator.evidence import always_valid


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
