"""Plans of live experiments: numbers by hand, and what simulated ones find."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upwell.errors import BadRequest
from upwell.statistics.effects import ratio_effect, sequential_effect
from upwell.statistics.moments import Moments, Table, moments
from upwell.statistics.planning import Design, days_needed, minimum_detectable_effect, power, standard_error

USERS = Design(mean=0.1, variance=0.09, daily_users=1_000.0)


def test_by_hand():
    # Textbook: (1.95996 + .84162)^2 · 2 · .09 / .01^2 = 14,128 users an arm for 10% of .1.
    assert minimum_detectable_effect(USERS, 28.256) == pytest.approx(0.1, rel=1e-3)
    assert days_needed(USERS, 0.1) == 29
    assert power(USERS, 28.256, 0.1) == pytest.approx(0.8, abs=1e-3)
    assert power(USERS, 28.256, -0.1) == power(USERS, 28.256, 0.1)
    # Three days, half of the later ones' users known: 2,000 users, 15 impressions each, 30,000 in all.
    visits = USERS._replace(observations=10.0, returning=0.5, correlation=0.05, variation=1.0, shares=(0.8, 0.2))
    inflation = 1.0 + (2.0 * 15.0 - 1.0) * 0.05
    assert standard_error(visits, 3.0) ** 2 == pytest.approx(0.09 * inflation / 30_000 * (1.0 / 0.8 + 1.0 / 0.2))


@given(st.floats(0.03, 0.5), st.floats(0.0, 0.9), st.floats(0.0, 0.3), st.booleans())
def test_days_needed_is_the_first_day_on_which_the_effect_is_found(effect, returning, correlation, sequential):
    design = USERS._replace(observations=5.0, returning=returning, correlation=correlation, sequential=sequential)
    days = days_needed(design, effect)
    assert minimum_detectable_effect(design, days) <= effect
    assert days == 1 or minimum_detectable_effect(design, days - 1) > effect


def test_users_who_are_always_the_same_do_not_tell_everything():
    same = USERS._replace(returning=1.0, correlation=0.2)
    assert minimum_detectable_effect(same, 1_000.0) > 0.1
    with pytest.raises(BadRequest, match="take more users"):
        days_needed(same, 0.05)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"mean": 0.0}, "mean"), ({"variance": 0.0}, "variance"), ({"daily_users": np.nan}, "daily_users"),
        ({"observations": 0.0}, "observations"), ({"correlation": 1.1}, "correlation"),
        ({"variation": -1.0}, "variation"), ({"returning": 1.1}, "returning"), ({"shares": (0.9, 0.2)}, "shares"),
        ({"shares": (1.0, 0.0)}, "shares"), ({"alpha": 0.0}, "alpha"),
    ],
)  # fmt: skip
def test_what_is_refused(change, match):
    with pytest.raises(BadRequest, match=match):
        days_needed(USERS._replace(**change), 0.1)


def both(found: Moments, sims: int, looks: int) -> list[Moments]:
    return [Moments(*(of.reshape(sims, looks, 2, *of.shape[1:])[:, :, a].cumsum(1) for of in found)) for a in (0, 1)]


def test_what_is_planned_for_is_found_four_times_in_five():
    """Users with 2 or 18 impressions, whose clicks hang together with .05: one day, no one comes back."""
    design = Design(0.1, 0.09, daily_users=1_000.0, observations=10.0, correlation=0.05, variation=0.8)
    half = minimum_detectable_effect(design, 1.0) / 2.0
    rng, sims = np.random.default_rng(0), 2_000
    arm = np.repeat(np.arange(sims * 2), 500)
    shown = rng.choice([2, 18], len(arm))
    # Each arm half the effect off the mean, so that its variance is the planned one.
    likes = np.minimum(rng.beta(1.9, 17.1, len(arm)) * np.where(arm % 2, 1.0 + half, 1.0 - half), 1.0)
    found = ratio_effect(*both(moments(Table(arm, rng.binomial(shown, likes) * 1.0, shown * 1.0), sims * 2), sims, 1))
    assert 0.77 <= (found.difference.low > 0.0).mean() <= 0.83


def test_what_is_planned_for_is_found_at_least_as_often_when_watched():
    design = Design(mean=1.0, variance=1.0, daily_users=200.0, sequential=True)
    effect, days = 0.2, days_needed(design, 0.2)
    rng, sims = np.random.default_rng(1), 500
    arm = np.repeat(np.arange(sims * days * 2), 100)
    values = rng.normal(1.0, 1.0, len(arm)) + effect * (arm % 2)
    lift = sequential_effect(*both(moments(Table(arm, values), sims * days * 2), sims, days), effect).lift
    assert (lift.low[:, -1] > 0.0).mean() == pytest.approx(0.8, abs=0.06)
    assert (lift.low > 0.0).any(1).mean() >= 0.8
    assert days > days_needed(design._replace(sequential=False), effect)
