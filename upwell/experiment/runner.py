"""Arms × seeds from common burnt-in platforms, resumable: each run is one JSON file."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import msgspec
import numpy as np

from upwell import files
from upwell.arms.registry import label, members
from upwell.errors import BadRequest
from upwell.experiment import metrics, story, traffic
from upwell.world import world
from upwell.world.arm import Arm
from upwell.world.config import WorldConfig, to_toml
from upwell.world.state import WorldState

Step = Callable[[], None]


class Plan(msgspec.Struct, frozen=True):
    """What an experiment runs."""

    config: WorldConfig
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    days: int
    burn_in: int

    def stamp(self) -> str:
        """Fingerprint of everything that a run depends on but its arm and seed."""
        text = f"{to_toml(self.config)}{self.days}/{self.burn_in}"
        return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


class Run(msgspec.Struct):
    """One arm on one seed."""

    arm: str
    seed: int
    stamp: str
    member: str  # which of the arm's family it was
    seconds: float
    burn_in_seconds: float  # 0 where another run of the seed had made the burnt-in platform
    metrics: dict[str, float]
    daily: dict[str, list[float]]
    lorenz_before: list[float]
    lorenz_after: list[float]
    tags: list[float]  # share of active users with 0, 1, 2, … tags engaged, last day
    life: dict[str, list[float]]  # quantile → impressions so far of new contents at age 0, 1, … days
    traffic: traffic.Groups
    outside: dict[str, float]
    tale: story.Tale
    births: dict[str, story.Birth]  # of raw ranking only


def lived(
    config: WorldConfig, arm: Arm, state: WorldState, days: int, step: Step = lambda: None, tuned: Any = None
) -> dict[str, float]:
    """Metrics of some days under an arm with ``tuned`` in place of its own, from a state that is left untouched."""
    now = world.under(config, arm, jax.tree.map(jnp.copy, state), tuned)
    reports: list[metrics.Report] = []
    for _ in range(days):
        now, report = world.run_day(config, arm, now)
        reports.append(world.to_host(report))
        step()
    return metrics.over(config, reports)


def run_arm(
    config: WorldConfig,
    family: Sequence[Arm],
    state: WorldState,
    days: int,
    step: Step,
    deadline: float = float("inf"),
    baseline: dict[str, float] | None = None,
) -> list[metrics.Report]:
    """Daily reports of an arm from a common start, which is left untouched. Of a family, the best by objective."""
    return best_of(config, family, state, days, step, deadline, baseline)[1]


def best_of(
    config: WorldConfig,
    family: Sequence[Arm],
    state: WorldState,
    days: int,
    step: Step,
    deadline: float = float("inf"),
    baseline: dict[str, float] | None = None,
) -> tuple[str, list[metrics.Report]]:
    """Name and reports of the member with the highest objective over the days judged."""
    best: tuple[str, list[metrics.Report]] | None = None
    best_value = -np.inf
    for arm in family:
        now = world.under(config, arm, jax.tree.map(jnp.copy, state))
        reports: list[metrics.Report] = []
        for _ in range(days):
            now, report = world.run_day(config, arm, now)
            reports.append(world.to_host(report) | truth(now))
            step()
            if time.perf_counter() > deadline:
                break
        measured = metrics.over(config, reports)
        value = metrics.objective(config, measured, baseline or measured)
        if best is None or value > best_value:
            best, best_value = (arm.name, reports), value
    assert best is not None
    return best


def truth(state: WorldState) -> metrics.Report:
    """What the day's contents are, ``[M, …]``: for reports on a run, never for an arm."""
    contents = state.contents
    return {
        "log_quality": np.asarray(contents.log_quality),
        "followers": np.asarray(contents.creator_followers[contents.creator]),
        "tags_of": np.asarray(contents.tags),
        "cheats_of": np.asarray(contents.clickbait | contents.bought),
    }


def path_of(out: Path, arm: str, seed: int) -> Path:
    return out / "runs" / f"{label(arm)}-{seed}.json"


def load(plan: Plan, out: Path, arm: str, seed: int) -> Run | None:
    """A run that is already there. Raises BadRequest when it belongs to another plan."""
    path = path_of(out, arm, seed)
    if not path.exists():
        return None
    try:
        run = msgspec.json.decode(path.read_bytes(), type=Run)
    except msgspec.DecodeError as error:
        raise BadRequest(
            f"{path}: made by another version of Upwell ({error}); give another --out or remove it"
        ) from None
    if run.stamp != plan.stamp():
        raise BadRequest(f"{path}: made with another world, length or burn-in; give another --out or remove it")
    run.arm = arm  # a policy's file may have been moved since
    return run


def days_to_run(plan: Plan, out: Path) -> int:
    """Simulated days still to do, for the progress bar."""
    days = 0
    for seed in plan.seeds:
        missing = [arm for arm in plan.arms if load(plan, out, arm, seed) is None]
        days += plan.burn_in * bool(missing) + sum(plan.days * len(members(arm)) for arm in missing)
    return days


def run(plan: Plan, out: Path, step: Step) -> list[Run]:
    """Every run of the plan, those already in ``out`` read back."""
    (out / "runs").mkdir(parents=True, exist_ok=True)
    runs: list[Run] = []
    for seed in plan.seeds:
        state: WorldState | None = None
        first: Run | None = None  # of raw ranking, to which the others are compared
        for arm in plan.arms:
            done = load(plan, out, arm, seed)
            if done is None:
                seconds = 0.0
                if state is None:
                    began = time.perf_counter()
                    state = world.burnt_in(plan.config, seed, plan.burn_in, step)
                    seconds = time.perf_counter() - began
                done = run_one(plan, arm, seed, state, step, first)
                done.burn_in_seconds = seconds
                files.put(path_of(out, arm, seed), msgspec.json.encode(done))
            if arm == "raw":
                first = done
            runs.append(done)
    return runs


def run_one(plan: Plan, arm: str, seed: int, state: WorldState, step: Step, first: Run | None) -> Run:
    """One arm on one seed, from a burnt-in state that is left untouched; ``first`` is the seed's run of raw ranking."""
    config, began = plan.config, time.perf_counter()
    scale = float(state.scale)
    member, reports = best_of(config, members(arm), state, plan.days, step, baseline=first.metrics if first else None)
    tags = reports[-1]["tag_counts"]
    found, outside = story.lives(seed, reports), traffic.outside(reports)
    return Run(
        arm=arm,
        seed=seed,
        stamp=plan.stamp(),
        member=member,
        seconds=time.perf_counter() - began,
        burn_in_seconds=0.0,
        metrics=metrics.over(config, reports),
        daily=metrics.curves(config, reports),
        lorenz_before=metrics.lorenz(reports[0]["today"]),
        lorenz_after=metrics.lorenz(reports[-1]["today"]),
        tags=[float(v) for v in tags / max(tags.sum(), 1)],
        life=lives(reports),
        traffic=traffic.groups(reports),
        outside=outside,
        tale=story.tell(found, first.births if first else {}, outside["valid_rate_everywhere"], scale),
        births=story.births(found) if arm == "raw" else {},
    )


def lives(reports: Sequence[metrics.Report], ages: int = 8) -> dict[str, list[float]]:
    """Impressions so far by age in days, as quantiles over the contents born in the run."""
    levels = (10, 25, 50, 75, 90, 99)
    curves: dict[str, list[float]] = {str(level): [] for level in levels}
    for age in range(min(ages, len(reports))):
        pool = np.concatenate([r["stats"][:, 0][r["age_days"] == age] for r in reports[age:]])
        for level in levels:
            curves[str(level)].append(float(np.percentile(pool, level)) if len(pool) else 0.0)
    return curves
