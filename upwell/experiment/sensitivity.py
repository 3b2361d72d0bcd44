"""How much each headline figure hangs on each parameter that is assumed, not fitted.

One parameter at a time is lowered and raised, nothing else is changed and nothing refitted, and the arms run on the
same seeds as in the unchanged world.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from upwell.errors import BadRequest
from upwell.experiment.runner import Plan, Run, days_to_run
from upwell.experiment.runner import run as run_plan
from upwell.experiment.summary import objectives
from upwell.world.config import SECTIONS, WorldConfig, flatten, unit_of

ARMS = ("raw", "thompson", "marl", "oracle")
ASSUMED: dict[str, tuple[str, ...]] = {
    "interest": (
        "persona", "discovered", "discovered_new", "undiscovered_pull", "curiosity_pull", "discovery", "patience",
    ),
    "content": (
        "skill_share", "life_days", "tag_evenness", "clickbait", "clickbait_boost", "own_style", "duration_s",
        "duration_spread", "bought", "bought_clicks_per_day",
    ),
    "creator": ("leave", "followers_spread", "ring", "ring_click"),
    "ranker": ("lag_days", "memory_days", "learning", "no_repeat_h"),
    "response": (
        "satiation_step", "satiation_half_life_h", "dwell", "share", "purchase", "elasticity", "enjoy", "boredom",
        "regret", "memory",
    ),
    "activity": (
        "active_spread", "satisfaction", "visits", "visits_spread", "visits_satisfaction", "leave",
        "leave_satisfaction",
    ),
}  # fmt: skip
"""By section. Of the other keys the search fits some, KuaiRand gives some, and some are choices: sizes, money, goal."""
WHOLE = ("ranker.lag_days", "ranker.no_repeat_h")
"""Counted in whole days and hours: changed by one at least."""
FIGURES = {
    "objective": "objective of raw",
    "gap_marl": "gap closed by marl",
    "gap_thompson": "gap closed by thompson",
    "top100_share": "top-100 share under raw",
    "interest_tags": "interest tags under raw",
    "cold_start_success": "cold-start success under raw",
}


class Setting(NamedTuple):
    """A parameter and the two values it is changed to."""

    key: str
    value: float
    low: float
    high: float


def assumed() -> list[str]:
    """Every assumed key, "section.key"."""
    return [f"{section}.{key}" for section, keys in ASSUMED.items() for key in keys]


def setting(config: WorldConfig, key: str, change: float) -> Setting:
    """The values ``change`` (a share) below and above. Raises BadRequest for an unknown key or one that cannot change.

    Where a share would pass 1, what it lacks to 1 is changed by as much instead.
    """
    values = flatten(config)
    if key not in values or key.startswith("sizes."):
        raise BadRequest(f"no world parameter '{key}' to change: see `upwell simulate --print-world`; not sizes")
    value, section = values[key], key.partition(".")[0]
    low, high = sorted((value * (1 - change), value * (1 + change)))
    if unit_of(SECTIONS[section], key.partition(".")[2]) in ("share", "probability") and high > 1.0:
        low, high = 1 - (1 - value) * (1 + change), 1 - (1 - value) * (1 - change)
    if key in WHOLE:
        low, high = float(math.floor(low)), float(math.ceil(high))
    if low == high:
        raise BadRequest(f"{key} is {value:g}: a share of that changes nothing; leave it out")
    return Setting(key, value, low, high)


def plans(base: Plan, settings: Sequence[Setting]) -> dict[str, Plan]:
    """What is run, by folder name."""
    found = {"base": base}
    for s in settings:
        for side, value in (("low", s.low), ("high", s.high)):
            config = base.config.override({s.key: value})
            found[f"{s.key}-{side}"] = Plan(config, base.arms, base.seeds, base.days, base.burn_in)
    return found


def days_left(base: Plan, settings: Sequence[Setting], out: Path) -> int:
    """Simulated days still to do, for the progress bar. Raises BadRequest where ``out`` holds other runs."""
    return sum(days_to_run(plan, out / name) for name, plan in plans(base, settings).items())


def run(base: Plan, settings: Sequence[Setting], out: Path, step: Callable[[], None]) -> dict[str, Any]:
    """Run what is missing in ``out`` and say what it tells.

    Returns:
        "base" → figure → its value; "noise" → figure → half-width of the 95% interval of a change (NaN with one seed);
        "parameters": each with its values and, by figure, "low", "high" and "elasticity", the relative change of the
        figure over that of the parameter.
    """
    by_seed = {name: figures(plan, run_plan(plan, out / name, step)) for name, plan in plans(base, settings).items()}
    mean = {name: {f: ratio(v) for f, v in values.items()} for name, values in by_seed.items()}
    parameters = [s._asdict() | {"figures": {f: effect(s, mean, f) for f in FIGURES}} for s in settings]
    return {
        "base": mean["base"],
        "noise": {f: noise([values[f] for values in by_seed.values()]) for f in FIGURES},
        "parameters": parameters,
        "seeds": list(base.seeds),
        "users": base.config.sizes.users,
        "contents": base.config.sizes.contents,
        "days": base.days,
        "burn_in": base.burn_in,
    }


Ratio = tuple[np.ndarray, np.ndarray]
"""A figure by seed, as what is to be summed over what: a share of a gap is a ratio of means."""


def figures(plan: Plan, runs: Sequence[Run]) -> dict[str, Ratio]:
    """Each headline figure by seed."""
    objective = objectives(plan, runs)
    raw = [run.metrics for run in runs if run.arm == "raw"]
    gap, one = objective["oracle"] - objective["raw"], np.ones(len(plan.seeds))
    return {
        "objective": (objective["raw"], one),
        "gap_marl": (objective["marl"] - objective["raw"], gap),
        "gap_thompson": (objective["thompson"] - objective["raw"], gap),
    } | {name: (np.array([m[name] for m in raw]), one) for name in list(FIGURES)[3:]}


def ratio(figure: Ratio) -> float:
    return float(figure[0].sum() / figure[1].sum()) if figure[1].sum() else math.nan


def effect(s: Setting, mean: dict[str, dict[str, float]], figure: str) -> dict[str, float]:
    low, high, base = mean[f"{s.key}-low"][figure], mean[f"{s.key}-high"][figure], mean["base"][figure]
    moved = (s.high - s.low) / s.value if s.value else math.nan
    return {"low": low, "high": high, "elasticity": (high - low) / base / moved if base and moved else math.nan}


def noise(values: Sequence[Ratio]) -> float:
    """Half-width of the 95% interval of a change from the base (the first), its spread over seeds pooled over all."""
    by_seed = np.array([top / under for top, under in values])  # [settings, seeds]
    change = by_seed[1:] - by_seed[0]
    settings, seeds = change.shape
    if seeds < 2 or not settings:
        return math.nan
    spread = ((change - change.mean(1, keepdims=True)) ** 2).sum() / (settings * (seeds - 1))
    return float(1.96 * math.sqrt(spread / seeds))
