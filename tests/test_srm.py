"""Sample-ratio mismatch."""

import numpy as np
import pytest
from scipy import stats

from upwell.errors import BadRequest
from upwell.statistics.srm import ALARM, sequential_srm, srm

EVEN = np.array([0.5, 0.5])


def test_chi_square_by_hand():
    # (60 - 50)^2 / 50 twice: 4, two deviations of a normal.
    assert srm(np.array([60, 40]), EVEN) == pytest.approx(2.0 * stats.norm.sf(2.0))
    assert srm(np.array([60, 30, 10]), np.array([6.0, 3.0, 1.0])) == 1.0
    assert srm(np.array([0, 0]), EVEN) == 1.0


def test_the_sequential_p_value_by_hand():
    # Chances of two users of the first arm, one of the second, each told from those before, over 1/8.
    factors = [8.0 * 0.5 * (k / 2 + 1) / (k + 1) * (k / 2) / (k + 2) for k in (100.0, 10_000.0)]
    assert np.mean(factors) < 1.0
    assert sequential_srm(np.array([2, 1]), EVEN) == 1.0
    factors = [np.prod([2.0 * (k / 2 + n) / (k + n) for n in range(40)]) for k in (100.0, 10_000.0)]
    assert sequential_srm(np.array([[0, 0], [40, 0]]), EVEN) == pytest.approx([1.0, 1.0 / np.mean(factors)])


def test_a_percent_off_is_told_with_400000_users_and_never_without_reason():
    """At one look and at any of 200; (50.5, 49.5) against even shares."""
    rng, sims, looks, users = np.random.default_rng(0), 1_000, 200, 400_000
    counts = {
        share: rng.multinomial(users // looks, [share, 1.0 - share], (sims, looks)).cumsum(1) for share in (0.5, 0.505)
    }
    alarms = {share: (sequential_srm(of, EVEN) < ALARM).any(1).mean() for share, of in counts.items()}
    at_the_end = {share: np.mean([srm(one[-1], EVEN) < ALARM for one in of]) for share, of in counts.items()}
    assert alarms[0.505] > 0.95
    assert at_the_end[0.505] > 0.99
    assert max(alarms[0.5], at_the_end[0.5]) <= 0.004  # of 1,000, one is allowed for; four are too many with p = .02
    # The test for one look, taken at each of them, is not for this.
    naive = [stats.chisquare(one, axis=1).pvalue.min() < ALARM for one in counts[0.5]]
    assert np.mean(naive) > 0.01


def test_gross_mismatch_is_told_early():
    assert sequential_srm(np.array([360, 240]), EVEN) < ALARM
    assert sequential_srm(np.array([600, 600, 300]), np.full(3, 1.0 / 3.0)) < ALARM


def test_what_is_refused():
    for counts, shares in (([1, 2], [0.5, 0.0]), ([1, 2], [0.2, 0.3, 0.5]), ([-1, 2], [0.5, 0.5])):
        for of in (srm, sequential_srm):
            with pytest.raises(BadRequest):
                of(np.array(counts), np.array(shares))
