"""Whether an experiment can be believed: arms that are alike must differ by nothing, and other experiments' arms must
be spread over its own as its users are. All p-values hold at every look together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from upwell.service.experiment_effects import COUNTED, Seen, effect, groups, moments_of, spread
from upwell.service.experiments import Held
from upwell.service.memory import beside_of
from upwell.statistics.segments import holm


def told(held: Held, seen: Seen, others: Sequence[Held]) -> dict[str, Any]:
    """``others``: experiments that there are beside it."""
    return {"aa": alike(held, seen), "overlap": overlap(held, seen, others)}


def alike(held: Held, seen: Seen) -> list[dict[str, Any]]:
    """A/A: where an arm was as the control, the metric that it differs by most and its p-value, by Holm over metrics.

    That is all arms while they warmed up, and those that set what the control does.
    """
    arms, out = held.plan.experiment.arms, list[dict[str, Any]]()
    warm_up = seen.arms if held.warming else seen.before
    for i, arm in enumerate(arms[1:], 1):
        if warm_up:
            out.append({"arm": arm.name, "when": "warm-up", **difference(Seen(warm_up), i, held.plan.mde)})
        if arm.settings == arms[0].settings and not held.warming:
            out.append({"arm": arm.name, "when": "since then", **difference(seen, i, held.plan.mde)})
    return out


def difference(seen: Seen, arm: int, mde: float) -> dict[str, Any]:
    """The metric by which an arm differs most from the control."""
    names = list(COUNTED)
    p = holm(np.array([effect(moments_of(seen, name), arm, mde, 0.05)["p"] for name in names]))
    most = int(p.argmin())
    return {"metric": names[most], "p": float(p[most])}


def overlap(held: Held, seen: Seen, others: Sequence[Held]) -> list[dict[str, Any]]:
    """Arms of others that its users are in too: how many, their share of all its users, and the p-value of their being
    spread over its arms by the arms' shares. Where they are not, an effect may be the other experiment's."""
    out = list[dict[str, Any]]()
    users = sum(groups(arm, "users").sum() for arm in seen.arms)
    for other in others:
        for arm in other.plan.experiment.arms:
            name = beside_of(other.name, other.stage, arm.name)
            both = [tally.get(name, 0) for tally in seen.arms]
            if any(both):
                out.append({"experiment": other.name, "arm": arm.name, "users": sum(both),
                            "share": float(sum(both) / max(users, 1.0)), "p": spread(held, both)})  # fmt: skip
    return out
