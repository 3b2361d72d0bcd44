"""How long an experiment takes, or what it can find in a time: power, minimum detectable effect, days needed."""

from __future__ import annotations

from bisect import bisect_left
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri

from upwell.errors import BadRequest
from upwell.statistics.effects import POWER
from upwell.statistics.evidence import reach

LONGEST = 3_650
"""Days beyond which nobody waits."""


class Design(NamedTuple):
    """A planned experiment on a metric of observations: impressions, visits, or users, each once.

    ``variation`` is the coefficient of variation of a user's observations in the whole time (0: all come as often;
    real users are near 1), ``returning`` the share of a later day's users who were there on an earlier one, over the
    whole time.
    """

    mean: float  # of an observation
    variance: float  # of an observation
    daily_users: float
    observations: float = 1.0  # of a user on a day on which the user comes
    correlation: float = 0.0  # of two observations of one user
    variation: float = 0.0
    returning: float = 0.0
    shares: tuple[float, float] = (0.5, 0.5)  # of traffic: control, arm
    sequential: bool = False  # decided by ``sequential_effect``, which takes more, though often less than planned
    alpha: float = 0.05


def power(design: Design, days: float, effect: float) -> float:
    """Chance of finding a relative effect in so many days (two-sided; of a finding on the right side)."""
    return float(ndtr(abs(effect * design.mean) / standard_error(design, days) - bar(design)))


def minimum_detectable_effect(design: Design, days: float, chance: float = POWER) -> float:
    """Relative effect that is found with that chance in so many days. Raises BadRequest for an impossible design."""
    return (bar(design) + float(ndtri(chance))) * standard_error(design, days) / abs(design.mean)


def days_needed(design: Design, effect: float, chance: float = POWER) -> int:
    """Whole days until a relative effect is found with that chance.

    Raises:
        BadRequest: for an impossible design, and where ten years are not enough: who comes back tells less each time.
    """
    days = bisect_left(
        range(1, LONGEST + 1), True, key=lambda d: minimum_detectable_effect(design, d, chance) <= abs(effect)
    )
    if days == LONGEST:
        least = minimum_detectable_effect(design, LONGEST, chance)
        raise BadRequest(
            f"an effect of {effect:.2%} is not found in {LONGEST:,} days, only {least:.2%}: take more users"
        )
    return days + 1


def bar(design: Design) -> float:
    """Standard errors that an effect must be off zero."""
    return float(reach(1.0, design.alpha, 1.0) if design.sequential else ndtri(1.0 - design.alpha / 2.0))


def standard_error(design: Design, days: float) -> float:
    """Of the difference of the arms' means after so many days.

    Design effect 1 + ((1 + variation^2) · observations of a user - 1) · correlation (Eldridge, Ashby & Kerry 2006,
    "Sample size for cluster randomized trials: effect of coefficient of variation of cluster size").

    Raises:
        BadRequest: for a design that cannot be.
    """
    check(design, days)
    users = design.daily_users * (1.0 + (1.0 - design.returning) * (days - 1.0))
    seen = design.daily_users * design.observations * days
    inflation = max(1.0 + ((1.0 + design.variation**2) * seen / users - 1.0) * design.correlation, 0.0)
    return float(np.sqrt(design.variance * inflation / seen * sum(1.0 / share for share in design.shares)))


def check(design: Design, days: float) -> None:
    """Raises BadRequest with what is wrong, and what it may be."""
    wrong = {
        "mean: other than 0": design.mean == 0.0,
        "variance: above 0": not design.variance > 0.0,
        "daily_users: above 0": not design.daily_users > 0.0,
        "observations: above 0": not design.observations > 0.0,
        "correlation: 0 to 1": not 0.0 <= design.correlation <= 1.0,
        "variation: 0 or more": not design.variation >= 0.0,
        "returning: 0 to 1": not 0.0 <= design.returning <= 1.0,
        "shares: above 0, 1 together at most": min(design.shares) <= 0.0 or sum(design.shares) > 1.0 + 1e-9,
        "alpha: above 0, below 1": not 0.0 < design.alpha < 1.0,
        "days: 1 or more": not days >= 1.0,
    }
    if any(wrong.values()):
        raise BadRequest(f"an experiment must have {next(what for what, is_so in wrong.items() if is_so)}")
