"""What an experiment's runs say together: intervals, differences from raw ranking, shares of the oracle's gap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from upwell.experiment import metrics
from upwell.experiment.runner import Plan, Run
from upwell.experiment.stats import gap_closed, interval


def objectives(plan: Plan, runs: Sequence[Run]) -> dict[str, np.ndarray]:
    """The objective of each arm ``[seeds]``, revenue against raw ranking on the same seed."""
    by = {(run.arm, run.seed): run.metrics for run in runs}
    return {
        arm: np.array([metrics.objective(plan.config, by[arm, seed], by["raw", seed]) for seed in plan.seeds])
        for arm in plan.arms
    }


def summarise(plan: Plan, runs: Sequence[Run]) -> dict[str, Any]:
    """Means with intervals, paired differences against raw, and the share of the oracle's gap each arm closes."""
    by = {(run.arm, run.seed): run for run in runs}
    names = list(runs[0].metrics)
    objective = objectives(plan, runs)
    values = {
        arm: {name: np.array([by[arm, seed].metrics[name] for seed in plan.seeds]) for name in names}
        | {"objective": objective[arm]}
        for arm in plan.arms
    }
    others = [arm for arm in plan.arms if arm != "raw"]
    judged = others if "oracle" in plan.arms else []
    return {
        "arms": {arm: {name: interval(value)._asdict() for name, value in values[arm].items()} for arm in plan.arms},
        "versus_raw": {
            arm: {name: interval(value - values["raw"][name])._asdict() for name, value in values[arm].items()}
            for arm in others
        },
        "oracle_gap_closed": {
            arm: gap_closed(objective[arm], objective["raw"], objective["oracle"])._asdict() for arm in judged
        },
        "oracle_beaten": beaten(plan, objective),
        "members": {arm: {str(seed): by[arm, seed].member for seed in plan.seeds} for arm in plan.arms},
        "seeds": list(plan.seeds),
        "days": plan.days,
        "burn_in": plan.burn_in,
        "users": plan.config.sizes.users,
        "contents": plan.config.sizes.contents,
    }


def beaten(plan: Plan, objective: dict[str, np.ndarray]) -> list[str]:
    """Where an arm's objective exceeds the oracle's: each of these says that the oracle is no upper bound."""
    if "oracle" not in plan.arms:
        return []
    return [
        f"{arm} on seed {seed} by {objective[arm][i] - objective['oracle'][i]:.4f}"
        for arm in plan.arms
        for i, seed in enumerate(plan.seeds)
        if objective[arm][i] > objective["oracle"][i]
    ]
