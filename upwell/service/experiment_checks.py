"""Whether an experiment can be believed: arms that are alike must differ by nothing, and other experiments' arms must
be spread over its own as its users are. All p-values hold at every look together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from upwell.service.experiment_effects import COUNTED, Seen, groups, moments_of, pair
from upwell.service.experiments import Held
from upwell.service.memory import beside_of
from upwell.statistics.effects import sequential_effect
from upwell.statistics.segments import holm
from upwell.statistics.srm import sequential_srm


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
    pairs = [pair(moments_of(seen, name), arm) for name in names]
    p = holm(np.array([float(sequential_effect(one.control, one.treated, mde).p) for one in pairs]))
    most = int(p.argmin())
    return {"metric": names[most], "p": float(p[most])}


def overlap(held: Held, seen: Seen, others: Sequence[Held]) -> list[dict[str, Any]]:
    """Arms of others that its users are in too: how many, their share of all its users, and the p-value of their being
    spread over its arms by the arms' shares. Where they are not, an effect may be the other experiment's."""
    experiment, out = held.plan.experiment, list[dict[str, Any]]()
    users = sum(groups(arm, "users").sum() for arm in seen.arms)
    shares = np.array(experiment.widths, np.float64)
    for other in others:
        for arm in other.plan.experiment.arms:
            name = beside_of(other.name, other.stage, arm.name)
            both = np.array([tally.get(name, 0) for tally in seen.arms], np.float64)
            if both.sum():
                dealt = experiment.design != "switchback" and shares.all()
                p = float(sequential_srm(both, shares)) if dealt else None
                out.append({"experiment": other.name, "arm": arm.name, "users": int(both.sum()),
                            "share": float(both.sum() / max(users, 1.0)), "p": p})  # fmt: skip
    return out
