"""A random search of the same size for every arm over its declared space, on seeds that are never judged.

Trial 0 is the middle of every range, the others are drawn; the draws hang on the arm's name and the trial alone, so
that a search comes out the same whatever the defaults have become. Each trial on each seed is one JSON file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import msgspec
import numpy as np

from upwell.arms.registry import Space, members, space
from upwell.errors import BadRequest
from upwell.experiment import metrics
from upwell.experiment.runner import Plan
from upwell.world import world
from upwell.world.arm import Arm
from upwell.world.state import WorldState

FIRST_SEED = 100
"""Seeds from here on are for development; those below are judged on and never tuned on."""
Step = Callable[[], None]


class Trial(msgspec.Struct):
    """One setting on one seed."""

    stamp: str
    values: dict[str, float]
    member: str  # which of the arm's family it was
    metrics: dict[str, float]


def values_of(name: str, of: Space, trial: int) -> dict[str, float]:
    """The setting of a trial."""
    digest = hashlib.sha256(f"{name}/{trial}".encode()).digest()
    random = np.random.default_rng(int.from_bytes(digest[:8], "little"))
    return {key: of.ranges[key].at(0.5 if trial == 0 else float(random.random())) for key in of.ranges}


def check(seeds: Sequence[int]) -> None:
    """Raises BadRequest for a seed that is judged on."""
    for seed in seeds:
        if seed < FIRST_SEED:
            raise BadRequest(f"--seeds {seed}: seeds below {FIRST_SEED} are judged on and never tuned on")


def lived(plan: Plan, arm: Arm, tuned: Any, state: WorldState, step: Step) -> dict[str, float]:
    """Metrics of an arm under ``tuned`` from a burnt-in platform, which is left untouched."""
    now = world.under(plan.config, arm, jax.tree.map(jnp.copy, state), tuned)
    reports: list[metrics.Report] = []
    for _ in range(plan.days):
        now, report = world.run_day(plan.config, arm, now)
        reports.append(world.to_host(report))
        step()
    return metrics.over(plan.config, reports)


def worth(plan: Plan, raw: Trial, trial: Trial) -> float:
    """Objective of a trial against raw ranking on the same seed."""
    return metrics.objective(plan.config, trial.metrics, raw.metrics)


def path_of(out: Path, name: str, trial: int | str, seed: int) -> Path:
    return out / name / f"{trial}-{seed}.json"


def load(path: Path, stamp: str, values: dict[str, float]) -> Trial | None:
    """A trial that is there already. Raises BadRequest when it belongs to another search."""
    if not path.exists():
        return None
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Trial)
    except msgspec.DecodeError as error:
        raise BadRequest(f"{path}: not a trial ({error}); give another --out or remove it") from None
    if found.stamp != stamp or found.values != values:
        raise BadRequest(f"{path}: made with another world, length or space; give another --out or remove it")
    return found


def save(path: Path, trial: Trial) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_bytes(msgspec.json.encode(trial))
    part.replace(path)


def days_left(plan: Plan, trials: int, out: Path) -> int:
    """Simulated days still to do, for the progress bar."""
    stamp, days = plan.stamp(), 0
    for seed in plan.seeds:
        many = plan.days * (load(path_of(out, "raw", 0, seed), stamp, {}) is None)
        for name in plan.arms:
            of = space(name)
            for trial in range(trials):
                there = load(path_of(out, name, trial, seed), stamp, values_of(name, of, trial))
                many += plan.days * len(of.family) * (there is None)
        days += many + plan.burn_in * bool(many)
    return days


def run(plan: Plan, trials: int, out: Path, step: Step) -> dict[str, Any]:
    """Every trial of every arm of the plan, those in ``out`` read back; see ``summarise``."""
    stamp = plan.stamp()
    found: dict[str, list[list[Trial]]] = {name: [[] for _ in range(trials)] for name in plan.arms}
    raw: list[Trial] = []
    for seed in plan.seeds:
        state: WorldState | None = None

        def start(seed: int = seed) -> WorldState:
            nonlocal state
            if state is None:
                state = world.burnt_in(plan.config, seed, plan.burn_in, step)
            return state

        path = path_of(out, "raw", 0, seed)
        first = load(path, stamp, {})
        if first is None:
            arm = members("raw")[0]
            first = Trial(stamp, {}, arm.name, lived(plan, arm, None, start(), step))
            save(path, first)
        raw.append(first)
        for name in plan.arms:
            of = space(name)
            for trial in range(trials):
                values, path = values_of(name, of, trial), path_of(out, name, trial, seed)
                done = load(path, stamp, values)
                if done is None:
                    each = [
                        Trial(stamp, values, arm.name, lived(plan, arm, of.make(values), start(), step))
                        for arm in of.family
                    ]
                    done = max(each, key=partial(worth, plan, first))
                    save(path, done)
                found[name][trial].append(done)
    return {name: summarise(plan, rows, raw) for name, rows in found.items()}


def summarise(plan: Plan, trials: Sequence[Sequence[Trial]], raw: Sequence[Trial]) -> dict[str, Any]:
    """The best trial by mean objective over seeds, and all of them.

    Returns:
        "values", "objective" and "gain" (over raw on the same seeds) of the best, its number "trial"; "raw": raw's
        objective; "trials": of each its values, objective, and gain by seed.
    """

    base = np.array([worth(plan, first, first) for first in raw])
    rows: list[dict[str, Any]] = []
    for trial in trials:
        objective = np.array([worth(plan, first, t) for t, first in zip(trial, raw, strict=True)])
        gains = [float(g) for g in objective - base]
        rows.append({"values": trial[0].values, "objective": float(objective.mean()), "gains": gains})
    best = max(range(len(rows)), key=lambda i: rows[i]["objective"])
    gain = float(np.mean(rows[best]["gains"]))
    return {
        "trial": best,
        "values": rows[best]["values"],
        "objective": rows[best]["objective"],
        "gain": gain,
        "raw": float(base.mean()),
        "trials": rows,
    }
