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
    """What one test says."""

    false_positive: bool  # of one look at the end
    peeking: bool  # of the sequential test, at any look
    peeking_naively: bool  # of the test for one look, taken at every look
    covered: bool  # the planted lift, by the interval after CUPED
    reduction: float
    alarm_balanced: bool
    alarm_imbalanced: bool


def run(tests: int, seed: int, step: Callable[[], None], make: Make = made_up) -> dict[str, Any]:
    """Rates with 95% intervals over so many tests, each of users of its own."""
    found: list[Found] = []
    for rng in np.random.default_rng(seed).spawn(tests):
        found.append(one(rng, make(rng)))
        step()
    false_positive, peeking, naive, covered, reductions, balanced, imbalanced = zip(*found, strict=True)
    shares = {
        "false_positive_rate": false_positive, "false_positive_rate_peeking": peeking,
        "false_positive_rate_naive_peeking": naive, "coverage": covered,
        "srm_alarms_balanced": balanced, "srm_alarms_imbalanced": imbalanced,
    }  # fmt: skip
    return {
        "tests": tests,
        **{name: rate(sum(hits), tests)._asdict() for name, hits in shares.items()},
        "cuped_variance_reduction": interval(np.array(reductions))._asdict(),
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
    ended = moments(Table(arm, fewer, users.impressions.sum(0), users.before), 2)
    after = cuped(ended.at(0), ended.at(1))
    lift = ratio_effect(after.control, after.treated).lift
    return Found(
        bool(p[-1] < 0.05),
        bool(((watched.low > 0.0) | (watched.high < 0.0)).any()),
        bool((p < 0.05).any()),
        bool(lift.low <= EFFECT <= lift.high),
        float(after.variance_reduction),
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
