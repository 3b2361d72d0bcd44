"""What experiments' arms do to users so far.

Outcomes are counted by arm and by group of users (``Memory``): groups are the clusters that effects and their errors go
by, so that all that one user does hangs together. Intervals are always valid: a look at every tick finds no more than
one look would.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from upwell.service.experiments import Held
from upwell.service.memory import GROUPS, SMALL, by_group, exposed_of
from upwell.state.port import Store
from upwell.statistics.cuped import cuped
from upwell.statistics.effects import Intervals, sequential_effect
from upwell.statistics.moments import Moments, Table, moments
from upwell.statistics.srm import sequential_srm
from upwell.statistics.verdict import Metric, Verdict, verdict


class Counted(NamedTuple):
    """How a metric is counted: the sum of some counters by weight, over the sum of another, and its unit."""

    sums: Mapping[str, float]
    over: str


COUNTED = {
    "ctr": Counted({"clicks": 1.0}, "impressions"),
    "real_engagement": Counted({"valid": 1.0, "shares": 2.0}, "impressions"),
    "gmv_per_user": Counted({"fen": 0.01}, "users"),
    "watch_minutes_per_user": Counted({"seconds": 1.0 / 60.0}, "users"),
    "impressions_per_user": Counted({"impressions": 1.0}, "users"),
    "gmv_per_dau": Counted({"fen": 0.01}, "daily"),
    "watch_minutes_per_dau": Counted({"seconds": 1.0 / 60.0}, "daily"),
    "heated_share": Counted({"heated": 1.0}, "impressions"),
    "d1_retention": Counted({"returned": 1.0}, "daily"),
    "small_creator_share": Counted({f"{SMALL}_impressions": 1.0}, "impressions"),
}
Tallies = Sequence[Mapping[str, int]]


class Seen(NamedTuple):
    """What was counted of each arm."""

    arms: Tallies  # in the present stage
    before: Tallies = ()  # while it warmed up; (): it did not, or still does


def tallies(store: Store, held: Held) -> Seen:
    """What was counted so far. Raises StoreDown."""
    names = [arm.name for arm in held.plan.experiment.arms]
    stages = [0, held.stage] if held.plan.warmup_s and not held.warming else [held.stage]
    found = store.counters("meta", [exposed_of(held.name, stage, name) for stage in stages for name in names])
    return Seen(found[-len(names) :], found[: -len(names)])


def groups(tally: Mapping[str, int], name: str) -> npt.NDArray[np.float64]:
    """A counter of an arm by group of users, ``[GROUPS]``: who experiments are on is of no holdout."""
    return by_group(tally, "free", name)


def moments_of(seen: Seen, metric: str) -> Moments:
    """Moments ``[arms]`` of a metric, groups of users as units.

    The covariate, where there was a warm-up: by how much a group's sum was above what the metric of all arms together
    would have made of its denominator then. It is 0 in the mean in every arm, whatever the arm's share; per unit of its
    arm's mean denominator, so that one slope fits them all.
    """
    above, below = sums_of(seen.arms, metric)
    arm, pre = np.repeat(np.arange(len(above)), GROUPS), None
    if seen.before:
        was_above, was_below = sums_of(seen.before, metric)
        usual = was_above.sum() / max(was_below.sum(), 1e-9)
        pre = ((was_above - usual * was_below) / np.maximum(was_below.mean(1, keepdims=True), 1e-9)).ravel()
    return moments(Table(arm, above.ravel(), below.ravel(), pre), len(above))


def sums_of(arms: Tallies, metric: str, segment: str = "") -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """A metric's numerator and denominator by arm and group of users, ``[arms, GROUPS]`` each; of a segment's alone,
    where one is given."""
    how, of = COUNTED[metric], f"{segment}_" if segment else ""
    sums = how.sums.items()
    above = [sum((weight * groups(arm, of + name) for name, weight in sums), np.zeros(GROUPS)) for arm in arms]
    return np.stack(above), np.stack([groups(arm, of + how.over) for arm in arms])


class Pair(NamedTuple):
    """The control and an arm as they are compared."""

    control: Moments
    treated: Moments
    variance_reduction: float  # by CUPED


def pair(found: Moments, arm: int) -> Pair:
    """With what was before the experiment taken out, where it is known."""
    control, treated = found.at(0), found.at(arm)
    if found.sums.shape[-1] == 2:
        return Pair(control, treated, 0.0)
    adjusted = cuped(control, treated)
    if not np.isfinite(adjusted.variance_reduction):
        return Pair(bare(control), bare(treated), 0.0)
    return Pair(bare(adjusted.control), bare(adjusted.treated), float(adjusted.variance_reduction))


def bare(of: Moments) -> Moments:
    """Without covariates."""
    return Moments(of.n, of.sums[..., :2], of.products[..., :2, :2])


def mismatch(held: Held, seen: Seen) -> float:
    """p-value of the arms' users against their shares. A switchback gives users no arm: 1."""
    p = spread(held, [groups(arm, "users").sum() for arm in seen.arms])
    return 1.0 if p is None else p


def spread(held: Held, users: Sequence[float]) -> float | None:
    """p-value of numbers of users in each arm against the arms' shares; None where users have no arm of their own."""
    experiment = held.plan.experiment
    if experiment.design == "switchback" or not all(experiment.widths):
        return None
    return float(sequential_srm(np.array(users, np.float64), np.array(experiment.widths, np.float64)))


def judged(held: Held, seen: Seen, of: Callable[[str], Moments] | None = None) -> list[Verdict]:
    """A verdict for each arm after the first, the control, all right together with 95%. ``of``: moments of a metric,
    where they are at hand."""
    plan, broken, arms = held.plan, mismatch(held, seen), held.plan.experiment.arms
    of = of or cache(partial(moments_of, seen))

    def metric(arm: int, name: str, tolerated: float = 0.0, up_is_good: bool = True) -> Metric:
        both = pair(of(name), arm)
        return Metric(name, both.control, both.treated, plan.mde, tolerated, up_is_good)

    found: list[Verdict] = []
    for arm in range(1, len(arms)):
        guardrails = [metric(arm, *msgspec.structs.astuple(one)) for one in plan.guardrails]
        found.append(verdict(metric(arm, plan.metric, plan.tolerated), guardrails, broken, 0.05 / (len(arms) - 1)))
    return found


def told(held: Held, seen: Seen) -> dict[str, Any]:
    """For answers: the arms' figures, effects on every metric, and what to do."""
    names, arms = [arm.name for arm in held.plan.experiment.arms], seen.arms
    each = {name: moments_of(seen, name) for name in COUNTED}
    verdicts = judged(held, seen, each.__getitem__)
    return {
        "arms": [
            {
                "arm": name, "settings": held.plan.experiment.arms[i].settings,
                "share": held.plan.experiment.arms[i].share,
                "users": int(groups(arms[i], "users").sum()), "slates": int(groups(arms[i], "slates").sum()),
                "metrics": {metric: ratio(found, i) for metric, found in each.items()},
            }
            for i, name in enumerate(names)
        ],
        "effects": {
            name: {
                metric: effect(found, i + 1, held.plan.mde, 0.05 / (len(names) - 1)) for metric, found in each.items()
            }
            for i, name in enumerate(names[1:])
        },
        "sample_ratio_p": mismatch(held, seen),
        "verdicts": {
            name: {"decision": one.decision, "why": one.why, "why_zh": one.why_zh}
            for name, one in zip(names[1:], verdicts, strict=True)
        },
    }  # fmt: skip


def ratio(found: Moments, arm: int) -> float | None:
    above, below = found.sums[arm, 0], found.sums[arm, 1]
    return float(above / below) if below > 0.0 else None


def effect(found: Moments, arm: int, mde: float, alpha: float) -> dict[str, Any]:
    """A lift over the control with its always-valid interval; None where an end is not known yet."""
    both = pair(found, arm)
    of = sequential_effect(both.control, both.treated, mde, alpha)
    return {**ends(of.lift), "p": float(of.p), "variance_reduction": both.variance_reduction}


def ends(lift: Intervals) -> dict[str, float | None]:
    """A lift for an answer."""
    return {"lift": known(lift.mean), "low": known(lift.low), "high": known(lift.high)}


def known(figure: npt.NDArray[np.float64]) -> float | None:
    """A figure for an answer: None where it is not finite."""
    return float(figure) if np.isfinite(figure) else None
