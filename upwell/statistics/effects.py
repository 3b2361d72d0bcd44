"""What an arm of a live experiment does against the control, at a planned end or watched all the time.

One formula serves means, ratios and clustered errors: the delta method on sums of clusters. Functions take leading
axes ``[...]``, such as many experiments or many looks at one.

Who must guard against what: several metrics or segments at a fixed end by ``segments.holm`` over their ``p``; several
metrics that are watched by an ``alpha`` that is parted among them (Bonferroni, as ``verdict`` does), since an interval
that is to hold at every look cannot wait for the others.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.special import ndtri

from upwell.errors import BadRequest
from upwell.statistics.evidence import always_valid_p, reach
from upwell.statistics.moments import Floats, Moments, error2, slopes

Flags = npt.NDArray[np.bool_]

POWER = 0.8
"""Chance of finding what an experiment is planned to find."""
ENOUGH = 30.0
"""Independent clicks, or what tells as much, that each arm must have before it may be looked at all the time: with
fewer neither the delta method nor the confidence sequence holds."""


class Intervals(NamedTuple):
    """Means with their intervals, ``[...]`` each."""

    mean: Floats
    low: Floats
    high: Floats


class Effect(NamedTuple):
    """An arm against the control. Where nothing can be said intervals are endless and ``p`` is 1."""

    difference: Intervals  # in the metric's unit
    lift: Intervals  # the arm's metric over the control's, less 1; of metrics that are above zero
    p: Floats  # of no difference, two-sided


class Ratio(NamedTuple):
    """An arm's metric and its squared error, of n clusters, ``[...]`` each."""

    value: Floats
    error2: Floats
    n: Floats


def ratio_effect(control: Moments, treated: Moments, alpha: float = 0.05) -> Effect:
    """The effect with intervals of 1 - ``alpha`` for one look, at an end that was fixed before.

    Delta method (Deng, Knoblich & Lu 2018, arXiv 1803.06336) with Student's t and Welch's degrees of
    freedom.
    """
    return compared(ratio(control), ratio(treated), alpha)


def sequential_effect(control: Moments, treated: Moments, mde: float, alpha: float = 0.05) -> Effect:
    """The effect of a metric above zero with intervals that hold at every look together (``evidence.always_valid``).

    Looks are placed by information, 1 / the relative effect's squared error, not by users: one who comes back tells
    more, but less than a new one. What users do hangs together over time, so that looks are more alike than the theory
    has it: then intervals are wrong less often than ``alpha``. Where one arm alone has done too little to be judged,
    they end on one side, so that an arm in which nobody buys any more is found out.

    Args:
        mde: relative effect, fixed before the first look, that intervals are shortest for: where it would be found
            with 80% power.

    Raises:
        BadRequest: for an ``mde`` that is not above zero.
    """
    if not mde > 0.0:
        raise BadRequest(f"the effect that a test is made for must be above zero, not {mde:g}")
    planned = float((reach(1.0, alpha, 1.0) + ndtri(POWER)) / mde) ** 2
    before, after = ratio(control), ratio(treated)
    most, least = (before, raised(after, before)), (raised(before, after), after)
    up, loss = watched(*most, enough(before), alpha, planned)
    down, rise = watched(*least, enough(after), alpha, planned)
    now = compared(before, after, alpha)
    return Effect(
        Intervals(now.difference.mean, difference(*least, down).low, difference(*most, up).high),
        Intervals(now.lift.mean, lift(*least, down).low, lift(*most, up).high),
        np.minimum(np.where(now.difference.mean < 0.0, loss, 1.0), np.where(now.difference.mean > 0.0, rise, 1.0)),
    )


def compared(before: Ratio, after: Ratio, alpha: float) -> Effect:
    """Two metrics by Welch's t-test."""
    error = np.sqrt(before.error2 + after.error2)
    with np.errstate(divide="ignore", invalid="ignore"):
        degrees = error**4 / (before.error2**2 / (before.n - 1.0) + after.error2**2 / (after.n - 1.0))
        p = 2.0 * stats.t.sf(np.abs(after.value - before.value) / error, degrees)
    errors = stats.t.isf(alpha / 2.0, degrees)
    return Effect(difference(before, after, errors), lift(before, after, errors), np.where(error > 0.0, p, 1.0))


def watched(before: Ratio, after: Ratio, judged: Flags, alpha: float, planned: float) -> tuple[Floats, Floats]:
    """Standard errors to an end of an always valid interval, and the p-value; endless and 1 where not ``judged``."""
    variance = before.error2 + after.error2
    judged = judged & (variance > 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        information = np.maximum(before.value, after.value) ** 2 / variance
        p = always_valid_p((after.value - before.value) / np.sqrt(variance), information, alpha, planned)
        return np.where(judged, reach(information, alpha, planned), np.inf), np.where(judged, p, 1.0)


def ratio(arm: Moments) -> Ratio:
    """The metric of moments ``[..., V]``, whose covariates it takes no notice of."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return Ratio(arm.sums[..., 0] / arm.sums[..., 1], error2(arm, slopes(arm)), arm.n)


def enough(arm: Ratio) -> Flags:
    """Whether an arm may be looked at all the time."""
    return (arm.value > 0.0) & (arm.error2 * ENOUGH <= arm.value**2)


def raised(arm: Ratio, other: Ratio) -> Ratio:
    """An arm that has not done enough, as if it had just done so, by events of the other arm's size.

    More than it has done: a bound from above on it, as good as one of an arm that has done enough.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        event = other.error2 / other.value * other.n / arm.n
    value = np.where(enough(arm), arm.value, np.maximum(arm.value, ENOUGH * event))
    return Ratio(value, np.where(enough(arm), arm.error2, value**2 / ENOUGH), arm.n)


def difference(before: Ratio, after: Ratio, errors: Floats) -> Intervals:
    """So many standard errors to each side; endless where nothing was seen to vary."""
    mean, variance = after.value - before.value, before.error2 + after.error2
    with np.errstate(invalid="ignore"):
        half = np.where(variance > 0.0, errors * np.sqrt(variance), np.inf)
    centre = np.where(np.isfinite(mean), mean, 0.0)
    return Intervals(mean, centre - half, centre + half)


def lift(before: Ratio, after: Ratio, errors: Floats) -> Intervals:
    """The lifts that so many standard errors do not rule out (Fieller 1954, "Some problems in interval estimation").

    Unlike an interval from the lift's own standard error it goes with the difference's where few large values make most
    of a metric, and arms swapped give the inverse.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        known = (before.value > 0.0) & (after.value > 0.0) & (before.error2 + after.error2 > 0.0) & (errors < np.inf)
        below, above = (one.value**2 - errors**2 * one.error2 for one in (before, after))
        both = before.value * after.value
        root = both + np.sqrt(np.maximum(both**2 - below * above, 0.0))
        return Intervals(
            after.value / before.value - 1.0,
            np.where(known, np.maximum(above, 0.0) / root, 0.0) - 1.0,
            np.where(known & (below > 0.0), root / below, np.inf) - 1.0,
        )
