"""What experiments' arms do to users so far, and the guard that ends one which harms them.

Outcomes are counted by arm and by group of users (``Memory``): groups are the clusters that effects and their errors go
by, so that all that one user does hangs together. Intervals are always valid: a look at every tick finds no more than
one look would.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from upwell.service import experiments
from upwell.service.audit import GUARD
from upwell.service.errors import Refused
from upwell.service.experiments import Held
from upwell.service.memory import GROUPS, by_group, exposed_of
from upwell.state.batch import Batch
from upwell.state.port import Store
from upwell.statistics.effects import sequential_effect
from upwell.statistics.moments import Moments, Table, moments
from upwell.statistics.srm import sequential_srm
from upwell.statistics.verdict import Metric, Verdict, verdict

log = logging.getLogger(__name__)

LOOK_MS = 6 * 3_600_000
"""Between two looks that are kept: what curves are drawn of."""
LOOKS = 400
"""Of those kept, how many are told, the latest."""


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
}
Tallies = Sequence[Mapping[str, int]]


def tallies(store: Store, held: Held) -> list[dict[str, int]]:
    """What was counted of each arm in the present stage. Raises StoreDown."""
    arms = held.plan.experiment.arms
    return store.counters("meta", [exposed_of(held.name, held.stage, arm.name) for arm in arms])


def groups(tally: Mapping[str, int], name: str) -> npt.NDArray[np.float64]:
    """A counter of an arm by group of users, ``[GROUPS]``: who experiments are on is of no holdout."""
    return by_group(tally, "free", name)


def moments_of(arms: Tallies, metric: str) -> Moments:
    """Moments ``[arms]`` of a metric, groups of users as units."""
    how = COUNTED[metric]
    above = [sum((weight * groups(arm, name) for name, weight in how.sums.items()), np.zeros(GROUPS)) for arm in arms]
    below = [groups(arm, how.over) for arm in arms]
    arm = np.repeat(np.arange(len(arms)), GROUPS)
    return moments(Table(arm, np.concatenate(above), np.concatenate(below)), len(arms))


def mismatch(held: Held, arms: Tallies) -> float:
    """p-value of the arms' users against their shares. A switchback gives users no arm: 1."""
    experiment = held.plan.experiment
    if experiment.design == "switchback" or not all(experiment.widths):
        return 1.0
    users = np.array([groups(arm, "users").sum() for arm in arms])
    return float(sequential_srm(users, np.array(experiment.widths, np.float64)))


def judged(held: Held, arms: Tallies) -> list[Verdict]:
    """A verdict for each arm after the first, the control, all right together with 95%."""
    plan, broken = held.plan, mismatch(held, arms)
    each = {name: moments_of(arms, name) for name in {plan.metric, *(one.metric for one in plan.guardrails)}}

    def metric(arm: int, name: str, tolerated: float = 0.0, up_is_good: bool = True) -> Metric:
        return Metric(name, each[name].at(0), each[name].at(arm), plan.mde, tolerated, up_is_good)

    found: list[Verdict] = []
    for arm in range(1, len(arms)):
        guardrails = [metric(arm, *msgspec.structs.astuple(one)) for one in plan.guardrails]
        found.append(verdict(metric(arm, plan.metric, plan.tolerated), guardrails, broken, 0.05 / (len(arms) - 1)))
    return found


def told(held: Held, arms: Tallies) -> dict[str, Any]:
    """For answers: the arms' figures, effects on every metric, and what to do."""
    names = [arm.name for arm in held.plan.experiment.arms]
    each = {name: moments_of(arms, name) for name in COUNTED}
    verdicts = judged(held, arms)
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
        "sample_ratio_p": mismatch(held, arms),
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
    of = sequential_effect(found.at(0), found.at(arm), mde, alpha)
    ends = {name: float(getattr(of.lift, name)) for name in ("mean", "low", "high")}
    known = {name: value if np.isfinite(value) else None for name, value in ends.items()}
    return {"lift": known["mean"], "low": known["low"], "high": known["high"], "p": float(of.p)}


def looks_id(name: str) -> str:
    """Of the list (kind ``meta``) of looks at an experiment."""
    return f"experiment {name}"


def looks(store: Store, name: str, many: int = LOOKS) -> list[dict[str, Any]]:
    """Kept looks, oldest first. Raises StoreDown."""
    return [msgspec.json.decode(body) for body in store.tail("meta", looks_id(name), many)]


def keep_look(store: Store, held: Held, arms: Tallies, now_ms: int) -> None:
    """Keep what is seen now, where the last look is long enough ago. Raises StoreDown."""
    last = looks(store, held.name, 1)
    if last and now_ms - last[0]["at_ms"] < LOOK_MS:
        return
    found = told(held, arms)
    batch = Batch()
    look = {"at_ms": now_ms, "stage": held.stage, "arms": found["arms"], "effects": found["effects"]}
    batch.append("meta", looks_id(held.name), msgspec.json.encode(look))
    store.write(batch)


def watch(store: Store, now_ms: int) -> None:
    """End experiments whose arms harm users for certain, or whose assignment is broken. Raises StoreDown."""
    for held in experiments.read(store)[1].running:
        arms = tallies(store, held)
        keep_look(store, held, arms, now_ms)
        stop = next((one for one in judged(held, arms) if one.decision == "stop"), None)
        if stop is None:
            continue
        log.warning("experiment %s is ended: %s", held.name, stop.why)
        with suppress(Refused):  # others may have ended it by now
            experiments.change(store, lambda every, name=held.name, why=stop.why: every.stop(name, GUARD, now_ms, why))
