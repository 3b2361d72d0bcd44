"""A random search of the same size for every arm over its declared space, on seeds that are never judged.

Trial 0 is the middle of every range, the others are drawn; the draws hang on the arm's name and the trial alone, so
that a search comes out the same whatever the defaults have become. Each trial on each seed is one JSON file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from upwell import files
from upwell.arms.registry import Space, members, space
from upwell.errors import BadRequest
from upwell.experiment import metrics
from upwell.experiment.runner import Plan, Step, lived
from upwell.world import world
from upwell.world.state import WorldState

FIRST_SEED = 100
"""Seeds from here on are for development; those below are judged on and never tuned on."""


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
    files.put(path, msgspec.json.encode(trial))


def jobs(plan: Plan, trials: int, oracle: bool) -> list[tuple[str, int, Space, dict[str, float]]]:
    """What is run on each seed: arm, trial, its space and the setting. Raw comes first."""
    as_it_is = ["raw", *(["oracle"] if oracle else [])]
    found = [(name, 0, Space(members(name), {}, lambda _: None), dict[str, float]()) for name in as_it_is]
    for name in plan.arms:
        of = space(name)
        found += [(name, trial, of, values_of(name, of, trial)) for trial in range(trials)]
    return found


def days_left(plan: Plan, trials: int, out: Path, oracle: bool = False) -> int:
    """Simulated days still to do, for the progress bar."""
    stamp, days = plan.stamp(), 0
    for seed in plan.seeds:
        missing = [
            len(of.family)
            for name, trial, of, values in jobs(plan, trials, oracle)
            if load(path_of(out, name, trial, seed), stamp, values) is None
        ]
        days += plan.days * sum(missing) + plan.burn_in * bool(missing)
    return days


def run(plan: Plan, trials: int, out: Path, step: Step, oracle: bool = False) -> dict[str, Any]:
    """Every trial of every arm of the plan, those in ``out`` read back; see ``summarise``.

    Args:
        oracle: run the oracle on the same seeds, for the share of its gap closed.
    """
    stamp = plan.stamp()
    found: dict[tuple[str, int], list[Trial]] = {}
    for seed in plan.seeds:
        state: WorldState | None = None
        for name, trial, of, values in jobs(plan, trials, oracle):
            path = path_of(out, name, trial, seed)
            done = load(path, stamp, values)
            if done is None:
                if state is None:
                    state = world.burnt_in(plan.config, seed, plan.burn_in, step)
                each = [
                    Trial(stamp, values, arm.name, lived(plan.config, arm, state, plan.days, step, of.make(values)))
                    for arm in of.family
                ]
                first = found["raw", 0][-1] if name != "raw" else each[0]
                done = max(each, key=partial(worth, plan, first))
                save(path, done)
            found.setdefault((name, trial), []).append(done)
    raw, best = found["raw", 0], found.get(("oracle", 0))
    return {name: summarise(plan, [found[name, trial] for trial in range(trials)], raw, best) for name in plan.arms}


def summarise(
    plan: Plan, trials: Sequence[Sequence[Trial]], raw: Sequence[Trial], oracle: Sequence[Trial] | None
) -> dict[str, Any]:
    """The best trial by mean objective over seeds, and all of them.

    Returns:
        "values", "objective" and "gain" (over raw on the same seeds) of the best, its number "trial"; "raw": raw's
        objective; "trials": of each its values, objective, and gain by seed; "gap_closed": the best's share of the gap
        from raw to the oracle (None where that did not run).
    """
    base = np.array([worth(plan, first, first) for first in raw])
    rows: list[dict[str, Any]] = []
    for trial in trials:
        objective = np.array([worth(plan, first, t) for t, first in zip(trial, raw, strict=True)])
        gains = [float(g) for g in objective - base]
        rows.append({"values": trial[0].values, "objective": float(objective.mean()), "gains": gains})
    best = max(range(len(rows)), key=lambda i: rows[i]["objective"])
    gain, gap = float(np.mean(rows[best]["gains"])), None
    if oracle is not None:
        gap = float(np.mean([worth(plan, first, t) for t, first in zip(oracle, raw, strict=True)]) - base.mean())
    return {
        "trial": best,
        "values": rows[best]["values"],
        "objective": rows[best]["objective"],
        "gain": gain,
        "raw": float(base.mean()),
        "gap_closed": gain / gap if gap else None,
        "trials": rows,
    }
