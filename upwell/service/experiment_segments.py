"""Whom an arm's effects are of: accounts that are new, and what small creators made, each against the rest.

For one look, at the end: where an effect differs is not watched, and many looks would find it somewhere.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from upwell.service.experiment_effects import Seen, ends, known, sums_of
from upwell.service.experiments import Held
from upwell.service.memory import GROUPS, NEW, SMALL
from upwell.statistics.effects import ratio_effect
from upwell.statistics.moments import Table, moments
from upwell.statistics.segments import holm, interaction

OUTCOMES = ("ctr", "real_engagement", "heated_share")


class Kind(NamedTuple):
    """A segment, the rest, and the metrics that either has by itself."""

    name: str
    rest: str
    metrics: tuple[str, ...]


KINDS = {
    NEW: Kind("new users", "other users", (*OUTCOMES, "gmv_per_dau", "watch_minutes_per_dau", "d1_retention")),
    SMALL: Kind("small creators", "other creators", OUTCOMES),
}


def told(held: Held, seen: Seen) -> dict[str, list[dict[str, Any]]]:
    """By arm after the control, effects on segments: lifts with intervals, and how they differ from the rest's.

    A row a segment and metric, and after it the rest's. ``beyond_rest`` is 1 + the segment's lift over 1 + the rest's,
    less 1; ``p`` of no difference, by Holm over all that is told of an arm. Nothing of a segment that nobody is in, or
    everybody.
    """
    names = [arm.name for arm in held.plan.experiment.arms]
    return {name: of_arm(seen, i, 0.05 / (len(names) - 1)) for i, name in enumerate(names[1:], 1)}


def of_arm(seen: Seen, arm: int, alpha: float) -> list[dict[str, Any]]:
    arms = [seen.arms[0], seen.arms[arm]]
    units = np.repeat(np.arange(2 * GROUPS), 2)  # groups of the control's users, then of the arm's, each in two parts
    inside = np.tile([True, False], 2 * GROUPS)
    out, p = list[dict[str, Any]](), list[float]()
    for segment, kind in KINDS.items():
        for metric in kind.metrics:
            columns = [
                np.stack([part.ravel(), (whole - part).ravel()], -1).ravel()
                for whole, part in zip(sums_of(arms, metric), sums_of(arms, metric, segment), strict=True)
            ]
            if not columns[1][inside].any() or not columns[1][~inside].any():
                continue
            table = Table(units // GROUPS, *columns, cluster=units)
            beyond = interaction(table, inside, alpha)
            for name, rows in ((kind.name, inside), (kind.rest, ~inside)):
                found = moments(table.rows(rows), 2)
                lift = ratio_effect(found.at(0), found.at(1), alpha).lift
                out.append({"segment": name, "metric": metric, **ends(lift)})
            out[-2]["beyond_rest"] = known(beyond.lift.mean)
            p.append(float(beyond.p))
    for one, adjusted in zip(out[::2], holm(np.array(p)).tolist(), strict=True):
        one["p"] = adjusted
    return out
