"""Effects of live experiments: numbers by hand, and A/A tests by the thousand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from upwell.bench.aa import Users, followed
from upwell.errors import BadRequest
from upwell.experiment.ope import mean_by_cluster
from upwell.statistics.cuped import cuped
from upwell.statistics.effects import ratio_effect, sequential_effect
from upwell.statistics.moments import Moments, Table, moments
from upwell.statistics.segments import segments

ARM = np.array([0, 0, 0, 1, 1])
CLICKS, SHOWN = np.array([1.0, 2.0, 3.0, 2.0, 3.0]), np.array([2.0, 2.0, 4.0, 2.0, 4.0])


def arms(table: Table) -> tuple[Moments, Moments]:
    found = moments(table, 2)
    return found.at(0), found.at(1)


def batch(sims: int, looks: int, users: int, numerator: np.ndarray, denominator: np.ndarray | None = None, **more):
    """Both arms' moments ``[sims, looks]``, of ``users`` new ones an arm at each look, and all before them."""
    flat = moments(
        Table(np.repeat(np.arange(sims * looks * 2), users), numerator, denominator, **more), sims * looks * 2
    )
    return tuple(
        Moments(*(of.reshape(sims, looks, 2, *of.shape[1:])[:, :, a].cumsum(1) for of in flat)) for a in (0, 1)
    )


def clickers(rng: np.random.Generator, many: int) -> tuple[np.ndarray, np.ndarray]:
    """Users with several impressions each, whose clicks hang together."""
    shown = 1 + rng.poisson(5.0, many)
    return rng.binomial(shown, rng.beta(0.5, 4.5, many)).astype(float), shown.astype(float)


def revenue(rng: np.random.Generator, many: int) -> tuple[np.ndarray, None]:
    """One in ten buys; what they pay has a heavy tail (a deviation of 5.6 means)."""
    return (rng.random(many) < 0.1) * rng.lognormal(3.0, 1.2, many), None


# By hand ------------------------------------------------------------------------------------------------------------


def test_a_ratio_by_hand():
    found = ratio_effect(*arms(Table(ARM, CLICKS, SHOWN)))
    # Control 6/8; off it by -.5, .5, 0: .5 / 2 / 3 over (8/3)^2. Arm 5/6; off it by 1/3, -1/3: 2/9 / 1 / 2 over 3^2.
    e0, e1 = 3.0 / 256.0, 1.0 / 81.0
    degrees = (e0 + e1) ** 2 / (e0**2 / 2.0 + e1**2)
    t, error = stats.t.ppf(0.975, degrees), np.sqrt(e0 + e1)
    assert found.difference.mean == pytest.approx(1.0 / 12.0)
    assert found.difference.high == pytest.approx(1.0 / 12.0 + t * error)
    assert found.p == pytest.approx(2.0 * stats.t.sf(1.0 / 12.0 / error, degrees))
    # Fieller: the ratios r for which 5/6 - r · 6/8 is t errors off zero.
    ends = np.roots([0.75**2 - t**2 * e0, -2.0 * 0.75 * 5.0 / 6.0, (5.0 / 6.0) ** 2 - t**2 * e1])
    assert found.lift.mean == pytest.approx(1.0 / 9.0)
    assert (found.lift.low, found.lift.high) == pytest.approx((ends.min() - 1.0, ends.max() - 1.0))


def test_a_mean_is_welchs_t_test():
    rng = np.random.default_rng(0)
    arm, values = rng.integers(0, 2, 100), rng.exponential(1.0, 100)
    found, other = (
        ratio_effect(*arms(Table(arm, values))),
        stats.ttest_ind(values[arm == 1], values[arm == 0], equal_var=False),
    )
    ends = other.confidence_interval()
    assert (found.p, found.difference.low, found.difference.high) == pytest.approx((other.pvalue, ends.low, ends.high))


def test_clustered_errors_are_those_of_the_linearised_ratio():
    rng = np.random.default_rng(1)
    cluster, values = rng.integers(0, 60, 500), rng.exponential(1.0, 500)
    arm = cluster % 2
    found = ratio_effect(*arms(Table(arm, values, cluster=cluster)))
    (m0, e0), (m1, e1) = (mean_by_cluster(values[arm == a], cluster[arm == a] // 2) for a in (0, 1))
    t = stats.t.ppf(0.975, (e0**2 + e1**2) ** 2 / ((e0**4 + e1**4) / 29.0))
    assert found.difference.low == pytest.approx(m1 - m0 - t * np.hypot(e0, e1))


def test_cuped_by_hand():
    # Of y on x: variances 1 and 3, covariances 1 and 1.5, of x 1 and 1; three users each. Theta 2.5 / 2.
    y, x = np.array([1.0, 2.0, 3.0, 2.0, 5.0, 2.0]), np.array([1.0, 2.0, 3.0, 2.0, 4.0, 3.0])
    after = cuped(*arms(Table(np.repeat([0, 1], 3), y, pre=x)))
    found = ratio_effect(after.control, after.treated)
    assert after.variance_reduction == pytest.approx(1.25 * 2.5 / 4.0)
    assert found.difference.mean == pytest.approx(1.0 - 1.25 * 1.0)
    e0, e1 = (1.0 - 2.0 * 1.25 + 1.25**2) / 3.0, (3.0 - 2.0 * 1.25 * 1.5 + 1.25**2) / 3.0
    degrees = (e0 + e1) ** 2 / (e0**2 / 2.0 + e1**2 / 2.0)
    assert found.difference.high == pytest.approx(-0.25 + stats.t.ppf(0.975, degrees) * np.sqrt(e0 + e1))


def test_cuped_is_least_squares_on_the_covariates_and_on_whether_they_are_known():
    rng = np.random.default_rng(2)
    arm, pre = np.repeat([0, 1], 500), rng.normal(5.0, 1.0, (1_000, 2))
    y = pre @ [1.0, -2.0] + rng.normal(20.0, 1.0, 1_000)
    pre[rng.random(1_000) < 0.3] = np.nan
    after = cuped(*arms(Table(arm, y, pre=pre)))
    known = ~np.isnan(pre[:, 0])
    columns = np.column_stack([np.eye(2)[arm], known, np.nan_to_num(pre)])
    fitted = np.linalg.lstsq(columns, y, rcond=None)[0]
    assert ratio_effect(after.control, after.treated).difference.mean == pytest.approx(fitted[1] - fitted[0])
    within = y - np.array([y[arm == a].mean() for a in (0, 1)])[arm]
    assert after.variance_reduction == pytest.approx(1.0 - (y - columns @ fitted).var() / within.var())


def test_a_covariate_that_says_nothing_changes_nothing():
    table = Table(ARM, CLICKS, SHOWN)
    after = cuped(*arms(table._replace(pre=np.full(5, 7.3))))
    assert after.variance_reduction == pytest.approx(0.0)
    before, now = ratio_effect(*arms(table)), ratio_effect(after.control, after.treated)
    assert np.ravel(before.difference + before.lift) == pytest.approx(np.ravel(now.difference + now.lift))


def test_where_nothing_can_be_said_nothing_is():
    for control, treated in (
        arms(Table(np.array([0, 0, 1]), np.array([1.0, 2.0, 3.0]))),  # one unit
        arms(Table(ARM, np.zeros(5), SHOWN)),  # no clicks
        arms(Table(ARM, 0.1 * SHOWN, SHOWN)),  # the same of each
    ):
        for found in (ratio_effect(control, treated), sequential_effect(control, treated, 0.1)):
            assert (found.difference.low, found.difference.high, found.p) == (-np.inf, np.inf, 1.0)
            assert (found.lift.low, found.lift.high) == (-1.0, np.inf)


def test_a_lift_over_next_to_nothing_has_no_upper_end():
    control, treated = arms(
        Table(np.repeat([0, 1], 50), np.concatenate([np.eye(50)[0], np.full(50, 2.0) + np.eye(50)[0]]))
    )
    found = ratio_effect(control, treated)
    assert 10.0 < found.lift.low < found.lift.mean == pytest.approx(100.0)
    assert found.lift.high == np.inf
    assert ratio_effect(treated, control).lift.low == -1.0


def test_too_little_to_be_watched():
    rng = np.random.default_rng(3)
    few, more = (arms(Table(np.arange(n) % 2, rng.exponential(1.0, n))) for n in (30, 300))
    assert sequential_effect(*few, 0.1).lift.high == np.inf
    assert np.isfinite(sequential_effect(*more, 0.1).lift.high)
    assert np.isfinite(ratio_effect(*few).lift.high)


@pytest.mark.parametrize("left", [0.0, 0.01])
def test_an_arm_in_which_next_to_nobody_buys_any_more_is_found_out(left):
    rng, users = np.random.default_rng(12), 20_000
    arm = np.arange(2 * users) % 2
    control, treated = arms(Table(arm, (rng.random(2 * users) < np.where(arm == 1, left, 1.0) * 0.05).astype(float)))
    lost, won = sequential_effect(control, treated, 0.05), sequential_effect(treated, control, 0.05)
    assert lost.lift.low == -1.0
    assert lost.lift.high < -0.8
    assert lost.difference.high < 0.0
    assert won.lift.low == pytest.approx(1.0 / (1.0 + lost.lift.high) - 1.0)
    assert won.lift.high == np.inf
    assert float(won.p) == pytest.approx(float(lost.p))
    assert lost.p < 1e-6


def test_what_is_refused():
    good = Table(ARM, CLICKS, SHOWN)
    for bad in (
        good._replace(denominator=SHOWN[:4]),
        good._replace(numerator=np.full(5, np.nan)),
        good._replace(denominator=-SHOWN),
        good._replace(arm=ARM + 1),
        good._replace(cluster=np.zeros(5, np.int64)),
        good._replace(cluster=np.zeros(4, np.int64)),
        good._replace(pre=SHOWN[:4]),
    ):
        with pytest.raises(BadRequest):
            moments(bad, 2)
    with pytest.raises(BadRequest, match="pre-period"):
        cuped(*arms(good))
    with pytest.raises(BadRequest, match="above zero"):
        sequential_effect(*arms(good), 0.0)
    with pytest.raises(BadRequest, match="labels"):
        segments(good, np.zeros(4))


# Properties ---------------------------------------------------------------------------------------------------------

seeds = st.integers(0, 2**32 - 1)


def some(seed: int, users: int = 40) -> Table:
    rng = np.random.default_rng(seed)
    clicks, shown = clickers(rng, users)
    return Table(np.arange(users) % 2, clicks + 0.01 * rng.random(users), shown, rng.normal(0.0, 1.0, users))


@given(seeds)
def test_swapped_arms_flip_signs(seed):
    control, treated = arms(some(seed))
    for of in (ratio_effect, lambda c, t: sequential_effect(c, t, 0.5)):
        one, other = of(control, treated), of(treated, control)
        assert one.p == pytest.approx(other.p)
        assert (one.difference.mean, one.difference.low) == pytest.approx(
            (-other.difference.mean, -other.difference.high)
        )
        assert 1.0 + one.lift.mean == pytest.approx(1.0 / (1.0 + other.lift.mean))
    (c, t, saved), (t2, c2, saved2) = cuped(control, treated), cuped(treated, control)
    assert saved == pytest.approx(saved2)
    assert np.concatenate([c.sums, t.sums]) == pytest.approx(np.concatenate([c2.sums, t2.sums]))


@given(seeds, st.integers(1, 39))
def test_moments_of_parts_add_up_to_those_of_all(seed, cut):
    table = some(seed)
    first = np.arange(40) < cut
    whole, a, b = (moments(table.rows(of), 2) for of in (first | ~first, first, ~first))
    for one, other in ((a.plus(b), whole), (whole.minus(b), a)):
        for left, right in zip(one, other, strict=True):
            np.testing.assert_allclose(left, right, atol=1e-9)


@given(seeds, st.floats(1e-3, 1e3), st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_units_do_not_matter(seed, above, below, before):
    table = some(seed)
    control, treated, saved = cuped(*arms(table))
    scaled = cuped(
        *arms(
            table._replace(
                numerator=table.numerator * above, denominator=table.denominator * below, pre=table.pre * before
            )
        )
    )
    one, other = ratio_effect(control, treated), ratio_effect(scaled.control, scaled.treated)
    assert scaled.variance_reduction == pytest.approx(saved)
    assert np.ravel(other.lift) == pytest.approx(np.ravel(one.lift))
    assert np.ravel(other.difference) == pytest.approx(np.ravel(one.difference) * above / below)
    assert other.p == pytest.approx(one.p)


# Calibration --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("draw", "users", "sims"), [(clickers, 200, 4_000), (revenue, 1_000, 2_500)])
def test_one_look_is_wrong_as_often_as_said(draw, users, sims):
    found = ratio_effect(*batch(sims, 1, users, *draw(np.random.default_rng(4), sims * 2 * users)))
    assert 0.04 <= (found.p < 0.05).mean() <= 0.06
    for wrong in (
        (found.difference.low > 0.0) | (found.difference.high < 0.0),
        (found.lift.low > 0.0) | (found.lift.high < 0.0),
    ):
        assert (wrong == (found.p < 0.05)).all()


def test_impressions_taken_for_independent_are_wrong_far_more_often():
    rng, users = np.random.default_rng(5), 200
    wrong = 0
    for _ in range(200):
        clicks, shown = clickers(rng, 2 * users)
        arm, rows = np.repeat([0, 1], users), shown.astype(int)
        each = np.concatenate([np.arange(n) < k for n, k in zip(rows, clicks, strict=True)]).astype(float)
        wrong += bool(ratio_effect(*arms(Table(np.repeat(arm, rows), each))).p < 0.05)
    assert wrong / 200 > 0.12


@pytest.mark.parametrize("draw", [clickers, revenue])
def test_watched_all_the_time_it_is_wrong_no_more_often_than_said(draw):
    rng, sims, looks, users = np.random.default_rng(6), 1_000, 200, 10
    both = batch(sims, looks, users, *draw(rng, sims * looks * 2 * users))
    found = sequential_effect(*both, 0.5)
    assert ((found.lift.low > 0.0) | (found.lift.high < 0.0)).any(1).mean() <= 0.05
    assert ((found.difference.low > 0.0) | (found.difference.high < 0.0)).any(1).mean() <= 0.05
    assert (found.p < 0.05).any(1).mean() <= 0.05
    assert (ratio_effect(*both).p < 0.05).any(1).mean() > 0.2  # the test for one look is not for this


def test_users_who_come_back_do_not_break_it():
    rng, sims, looks, users = np.random.default_rng(7), 300, 150, 200
    wrong = 0
    for _ in range(sims):
        shown = rng.poisson(rng.gamma(0.7, 1.0, users), (looks, users))
        clicks = rng.binomial(shown, np.minimum(rng.beta(1.0, 9.0, users), 1.0))
        lived = followed(np.arange(users) % 2, Users(clicks, shown, np.empty((users, 2))))
        lift = sequential_effect(*(Moments(*(of[:, a] for of in lived)) for a in (0, 1)), 0.5).lift
        wrong += bool(((lift.low > 0.0) | (lift.high < 0.0)).any())
    assert wrong / sims <= 0.05


def test_watched_after_cuped_it_is_wrong_no_more_often_than_said():
    rng, sims, looks, users = np.random.default_rng(11), 500, 60, 10
    many = sims * looks * 2 * users
    before = rng.exponential(1.0, many)
    numerator = before + rng.exponential(1.0, many)
    after = cuped(*batch(sims, looks, users, numerator, pre=np.where(rng.random(many) < 0.2, np.nan, before)))
    found = sequential_effect(after.control, after.treated, 0.2)
    assert (found.p < 0.05).any(1).mean() <= 0.05


def test_an_effect_is_found_while_watched():
    rng, sims, looks, users = np.random.default_rng(8), 300, 100, 20
    values = rng.exponential(1.0, (sims, looks, 2, users)) * np.array([1.0, 1.2])[:, None]
    found = sequential_effect(*batch(sims, looks, users, values.ravel()), 0.2)
    assert (found.lift.low > 0.0).any(1).mean() > 0.9
    assert ((found.lift.low <= 0.2) & (found.lift.high >= 0.2)).all(1).mean() >= 0.95


@pytest.mark.parametrize("control_users", [300, 100])
def test_intervals_hold_the_truth_after_cuped_as_often_as_before(control_users):
    """Clicks of the arm are thinned, so that the lift is -10% to the last digit; a fifth of the users are new."""
    rng, sims, users, lift, rate = np.random.default_rng(9), 2_000, 300, -0.1, 0.1
    many = sims * 2 * users
    likes, shown, shown_before = rng.beta(1.0, 9.0, many), 1 + rng.poisson(20.0, many), 1 + rng.poisson(20.0, many)
    kept = np.where(np.repeat(np.tile([0, 1], sims), users) == 1, 1.0 + lift, 1.0)
    pre = np.stack([rng.binomial(shown_before, likes), shown_before], axis=1).astype(float)
    pre[rng.random(many) < 0.2] = np.nan
    there = np.tile(np.arange(2 * users) >= users - control_users, sims)
    table = Table(
        np.repeat(np.arange(sims * 2), users), rng.binomial(shown, likes * kept).astype(float), shown.astype(float), pre
    )
    flat = moments(table.rows(there), sims * 2)
    control, treated = (Moments(*(of[a::2] for of in flat)) for a in (0, 1))
    after = cuped(control, treated)
    plain, adjusted = ratio_effect(control, treated), ratio_effect(after.control, after.treated)
    for found in (plain, adjusted):
        assert 0.93 <= ((found.lift.low <= lift) & (lift <= found.lift.high)).mean() <= 0.97
        assert 0.93 <= ((found.difference.low <= lift * rate) & (lift * rate <= found.difference.high)).mean() <= 0.97
    saved = after.variance_reduction.mean()
    assert saved > 0.2
    assert adjusted.difference.mean.var() / plain.difference.mean.var() == pytest.approx(1.0 - saved, abs=0.05)


def test_segments_by_hand():
    arm, label = np.array([0, 0, 1, 1] * 2), np.repeat(["new", "old"], 4)
    clicks = np.array([1.0, 3.0, 4.0, 8.0, 2.0, 2.5, 2.0, 2.5])
    new, old = segments(Table(arm, clicks), label)
    assert (new.label, new.units, old.label) == ("new", 4, "old")
    assert (float(new.effect.lift.mean), float(old.effect.lift.mean)) == pytest.approx((2.0, 0.0))
    assert (float(new.interaction.mean), float(old.interaction.mean)) == pytest.approx((2.0, -2.0 / 3.0))
    # New over old is 4 / 4.5 and 12 / 4.5; of the sums 4, 12 and 4.5 each of two users is 1, 2 and .25 off.
    e0, e1 = (
        ratio**2 * 2.0 * (off**2 + (0.25 / 4.5) ** 2) * 4.0 / 3.0
        for ratio, off in ((4.0 / 4.5, 1.0 / 4.0), (12.0 / 4.5, 2.0 / 12.0))
    )
    t = 8.0 / 4.5 / np.sqrt(e0 + e1)
    p = 2.0 * stats.t.sf(t, (e0 + e1) ** 2 / ((e0**2 + e1**2) / 3.0))
    assert new.p == pytest.approx(2.0 * p)  # the smaller of two, by Holm


def test_a_lone_segment_has_no_rest():
    (one,) = segments(Table(ARM, CLICKS, SHOWN), np.zeros(5))
    assert (one.p, one.interaction.low, one.interaction.high) == (1.0, -1.0, np.inf)


def test_segments_find_what_differs_and_nothing_else():
    """Segments of contents: each user is in all three. A lift is of all alike, or a loss of one alone."""
    rng, users, sims = np.random.default_rng(10), 300, 250
    false = missed = 0
    for _ in range(sims):
        likes = 0.7 * np.repeat(rng.beta(2.0, 6.0, users), 3) * np.tile([1.0, 0.6, 0.4], users)
        shown, label, whose = 1 + rng.poisson(6.0, users * 3), np.tile([0, 1, 2], users), np.repeat(np.arange(users), 3)
        arm = whose % 2
        alike = Table(
            arm, rng.binomial(shown, likes * (1.0 + 0.3 * arm)).astype(float), shown.astype(float), None, whose
        )
        false += min(one.p for one in segments(alike, label)) < 0.05
        hurt = alike._replace(numerator=rng.binomial(shown, likes * (1.0 - 0.5 * arm * (label == 1))).astype(float))
        missed += not segments(hurt, label)[1].p < 0.05
    assert false / sims <= 0.07
    assert missed / sims < 0.2
