"""Whom an effect is of: segments of users, or of what they were shown, each against the rest."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from upwell.errors import BadRequest
from upwell.statistics.effects import Effect, Intervals, Ratio, compared, ratio_effect
from upwell.statistics.moments import Moments, Table, added, error2, moments


class Segment(NamedTuple):
    """What an arm does to a segment, and by how much that is more than what it does to the rest."""

    label: str
    units: int
    effect: Effect
    interaction: Intervals  # 1 + the segment's lift over 1 + the rest's, less 1; endless where there is no rest
    p: float  # of equal lifts, by Holm over the segments


def segments(table: Table, labels: npt.NDArray[Any], alpha: float = 0.05) -> list[Segment]:
    """Effects of arm 1 against the control by segment, for one look at a planned end; by label.

    Lifts are compared, not differences: where all gain a tenth, those who click more gain more clicks, which is no
    other effect. A cluster may lie in several segments (a user, where they are of contents): they are told apart
    by what each cluster did in them, so that its segments may hang together.

    Args:
        labels: ``[N]``, a segment for each row of the table.

    Raises:
        BadRequest: as ``moments``; for arms other than two, and another number of labels than units.
    """
    if len(labels) != len(table.arm):
        raise BadRequest(f"{len(labels):,} labels of segments are given for {len(table.arm):,} units")
    found: list[tuple[str, int, Effect, Effect]] = []
    for label in np.unique(labels):
        inside = labels == label
        arms = moments(table.rows(inside), 2)
        effect = ratio_effect(arms.at(0), arms.at(1), alpha)
        found.append((str(label), int(inside.sum()), effect, interaction(table, inside, alpha)))
    adjusted = holm(np.array([one[-1].p for one in found]))
    return [Segment(*one[:-1], one[-1].lift, float(p)) for one, p in zip(found, adjusted, strict=True)]


def interaction(table: Table, inside: npt.NDArray[np.bool_], alpha: float) -> Effect:
    """What arm 1 does to the segment's metric over the rest's."""
    below = np.ones(len(inside)) if table.denominator is None else table.denominator
    columns = [column * of for of in (inside, ~inside) for column in (table.numerator, below)]
    both = added(np.stack(columns, axis=1), table.arm, 2, table.cluster)
    return compared(over_rest(both.at(0)), over_rest(both.at(1)), alpha)


def over_rest(arm: Moments) -> Ratio:
    """The ratio of the first two columns over that of the last two (delta method)."""
    signs = np.array([1.0, -1.0, -1.0, 1.0])
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.prod(arm.means**signs, axis=-1)
        return Ratio(value, error2(arm, value * signs / arm.means), arm.n)


def holm(p: np.ndarray) -> np.ndarray:
    """p-values ``[M]`` of M tests, adjusted: with chance 1 - alpha none of those below alpha is false.

    Holm 1979, "A simple sequentially rejective multiple test procedure". For one look at a planned end.
    """
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted
