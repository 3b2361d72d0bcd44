"""How much of an experiment's figures is noise, and how many seeds would make it small enough."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from upwell.experiment.runner import Plan, Run
from upwell.experiment.summary import summarise

ARMS = ("raw", "rules", "oracle")
TARGET = 0.05
"""Half-width of the 95% interval of ``oracle_gap_closed`` that an experiment should reach."""
MAIN = (
    "objective", "new_content_ctr", "interest_tags", "cold_start_success", "d1_retention", "d7_retention",
    "top100_share", "gmv_per_dau", "watch_minutes_per_dau", "ctr", "satisfaction_mean",
)  # fmt: skip


def half_width(interval: dict[str, float]) -> float:
    return (interval["high"] - interval["low"]) / 2


def seeds_needed(half: float, seeds: int, target: float = TARGET) -> int:
    """Seeds that bring a half-width measured with ``seeds`` of them to ``target``: it falls as 1/sqrt(seeds).

    A percentile bootstrap's variance is that of ``seeds`` values divided by ``seeds``, not by one less (Efron &
    Tibshirani 1993, 13.3): the half-width of a study of few seeds is too small by that.
    """
    return max(2, math.ceil(seeds * seeds / (seeds - 1) * (half / target) ** 2 - 1e-9))


def seconds_per_seed(plan: Plan, runs: Sequence[Run]) -> float:
    """Median over seeds of the time that burn-in and all arms take: the first seed alone pays for compiling."""
    return float(np.median([sum(r.seconds + r.burn_in_seconds for r in runs if r.seed == s) for s in plan.seeds]))


def measure(plan: Plan, runs: Sequence[Run]) -> dict[str, Any]:
    """Half-widths of one setting: of the gap closed, and of the main metrics of ``rules``, alone and against raw."""
    result = summarise(plan, runs)
    gap = result["oracle_gap_closed"]["rules"]
    half, seconds = half_width(gap), seconds_per_seed(plan, runs)
    needed = seeds_needed(half, len(plan.seeds)) if math.isfinite(half) else None
    return {
        "users": plan.config.sizes.users,
        "contents": plan.config.sizes.contents,
        "days": plan.days,
        "burn_in": plan.burn_in,
        "seeds": len(plan.seeds),
        "oracle_gap_closed": gap,
        "oracle_gap_closed_half_width": half,
        "half_width": {name: half_width(result["arms"]["rules"][name]) for name in MAIN},
        "half_width_versus_raw": {name: half_width(result["versus_raw"]["rules"][name]) for name in MAIN},
        "oracle_beaten": result["oracle_beaten"],
        "seconds_per_seed": seconds,
        "seeds_needed": needed,
        "seconds_needed": needed * seconds if needed else None,
    }
