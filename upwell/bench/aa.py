"""A/A tests on made-up users: how often the statistics of live experiments see what is not there, or miss what is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from upwell.experiment.stats import interval, rate
from upwell.statistics.cuped import cuped
from upwell.statistics.effects import ratio_effect, sequential_effect
from upwell.statistics.moments import Moments, Table, moments
from upwell.statistics.srm import ALARM, sequential_srm

USERS, DAYS, LOOKS_A_DAY = 2_000, 14, 6
EFFECT = -0.05
"""Lift that is planted where coverage is asked for: each click of the arm is lost with that chance."""
MDE = 0.2
"""What the sequential test is made for: about what so many users can show."""
ASSIGNED, IMBALANCED = 500_000, 0.505
"""Users who are counted for sample-ratio mismatch, and the control's share where assignment is broken."""
EVEN = np.array([0.5, 0.5])


class Users(NamedTuple):
    """What U users do between T looks, and did before the experiment."""

    clicks: npt.NDArray[np.int64]  # [T, U]
    impressions: npt.NDArray[np.int64]  # [T, U]
    before: npt.NDArray[np.float64]  # [U, 2], clicks and impressions in a time as long; NaN for new users


Make = Callable[[np.random.Generator], Users]


def made_up(rng: np.random.Generator) -> Users:
    """2,000 users over 14 days, looked at every four hours.

    Visits are Poisson, at a rate that is Gamma over users (shape .7, 1 a day in the mean: most come seldom, a few all
    day long), with ten impressions each in the mean. Click rates are Beta over users (mean 8%, deviation 5.6%),
    less for those who come more, and move from one look to the next by a mood (lognormal, .3). A fifth are new; the
    others came before as they do now, with tastes that were somewhat other (lognormal, .4). So the impressions of a
    user hang together, numerators go with denominators, and the same users come back.
    """
    looks = DAYS * LOOKS_A_DAY
    visits = rng.gamma(0.7, 1.0 / 0.7, USERS)
    likes = rng.beta(1.8, 20.7, USERS) * (1.0 + visits) ** -0.2

    def clicked(shown: npt.NDArray[np.int64], moves: float) -> npt.NDArray[np.int64]:
        return rng.binomial(shown, np.minimum(likes * rng.lognormal(-(moves**2) / 2.0, moves, shown.shape), 1.0))

    shown = rng.poisson(10.0 * rng.poisson(visits / LOOKS_A_DAY, (looks, USERS)))
    shown_before = rng.poisson(10.0 * rng.poisson(visits * DAYS))
    before = np.stack([clicked(shown_before, 0.4), shown_before], axis=1).astype(np.float64)
    before[rng.random(USERS) < 0.2] = np.nan
    return Users(clicked(shown, 0.3), shown, before)


class Found(NamedTuple):
    """What one test says, or what many do, in columns."""

    false_positive: Any  # of one look at the end
    peeking: Any  # of the sequential test, at any look
    peeking_naively: Any  # of the test for one look, taken at every look
    covered: Any  # the planted lift, by the interval after CUPED, of clicks an impression
    reduction: Any
    covered_each: Any  # the same of clicks a user
    reduction_each: Any
    alarm_balanced: Any
    alarm_imbalanced: Any


def run(tests: int, seed: int, step: Callable[[], None], make: Make = made_up) -> dict[str, Any]:
    """Rates with 95% intervals over so many tests, each of users of its own."""
    each: list[Found] = []
    for rng in np.random.default_rng(seed).spawn(tests):
        each.append(one(rng, make(rng)))
        step()
    found = Found(*zip(*each, strict=True))
    shares = {
        "false_positive_rate": found.false_positive, "false_positive_rate_peeking": found.peeking,
        "false_positive_rate_naive_peeking": found.peeking_naively, "coverage": found.covered,
        "coverage_per_user": found.covered_each, "srm_alarms_balanced": found.alarm_balanced,
        "srm_alarms_imbalanced": found.alarm_imbalanced,
    }  # fmt: skip
    reductions = {
        "cuped_variance_reduction": found.reduction, "cuped_variance_reduction_per_user": found.reduction_each
    }  # fmt: skip
    return {
        "tests": tests,
        **{name: rate(sum(hits), tests)._asdict() for name, hits in shares.items()},
        **{name: interval(np.array(of))._asdict() for name, of in reductions.items()},
    }


def one(rng: np.random.Generator, users: Users) -> Found:
    """One experiment of a fair coin a user."""
    arm = rng.integers(0, 2, users.impressions.shape[1])
    lived = followed(arm, users)
    control, treated = (Moments(*(of[:, a] for of in lived)) for a in (0, 1))
    p = ratio_effect(control, treated).p
    watched = sequential_effect(control, treated, MDE).lift
    clicks = users.clicks.sum(0)
    fewer = np.where(arm == 1, rng.binomial(clicks, 1.0 + EFFECT), clicks)
    lifts, reductions = list[bool](), list[float]()
    for under in (users.impressions.sum(0), None):
        ended = moments(Table(arm, fewer, under, users.before), 2)
        after = cuped(ended.at(0), ended.at(1))
        lift = ratio_effect(after.control, after.treated).lift
        lifts.append(bool(lift.low <= EFFECT <= lift.high))
        reductions.append(float(after.variance_reduction))
    return Found(
        bool(p[-1] < 0.05),
        bool(((watched.low > 0.0) | (watched.high < 0.0)).any()),
        bool((p < 0.05).any()),
        lifts[0],
        reductions[0],
        lifts[1],
        reductions[1],
        *(alarmed(rng, len(p), control_share) for control_share in (0.5, IMBALANCED)),
    )


def followed(arm: npt.NDArray[np.int64], users: Users) -> Moments:
    """Moments ``[T, 2]`` of what users did up to each look, of those who had come by then."""
    clicks, shown = users.clicks.cumsum(0), users.impressions.cumsum(0)
    look, who = np.nonzero(shown)
    looks = len(shown)
    flat = moments(Table(look * 2 + arm[who], clicks[look, who], shown[look, who]), looks * 2)
    return Moments(*(of.reshape(looks, 2, *of.shape[1:]) for of in flat))


def alarmed(rng: np.random.Generator, looks: int, share: float) -> bool:
    """Whether a mismatch is ever told while ``ASSIGNED`` users come, that share of them to the control."""
    came = rng.multinomial(ASSIGNED // looks, [share, 1.0 - share], looks).cumsum(0)
    return bool((sequential_srm(came, EVEN) < ALARM).any())
