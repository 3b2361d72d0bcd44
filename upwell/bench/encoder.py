"""The behaviour encoder measured: memory beside a plain Transformer's, speed, and recall beside simpler models'."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from upwell.bench import encoder_memory, encoder_speed
from upwell.learn import lived
from upwell.learn.encode import Recipe, shape_for, train
from upwell.learn.recall import interval, ranks, recall
from upwell.learn.sequences import Sequences, movielens
from upwell.world.config import reference_world

MEMORY = ("encoder", "encoder+frugal", "plain", "plain+frugal")
USERS = {"train": 16, "last": 128}
"""Users at once when memory is measured, so many that a process's own doings do not count."""
WORLD = {"sizes.users": 1_200, "sizes.contents": 3_000, "sizes.creators": 300}
BURN_IN, DAYS = 21, 14
LONGEST = 500
"""Events of a user of MovieLens-100K, the latest: one in 200 has more."""
STEPS = {"ml-100k": 300, "world": 200}
TRIED: dict[str, list[dict[str, float]]] = {
    "encoder": [{"rate": 3e-3}, {"rate": 6e-3}, {"rate": 6e-3, "dropout": 0.5}, {"rate": 1e-2, "dropout": 0.3}],
    "gru": [{"rate": 3e-3}, {"rate": 6e-3}, {"rate": 6e-3, "dropout": 0.5}, {"rate": 1e-2, "dropout": 0.3}],
    "mean": [{"rate": 6e-3, "fading": fading} for fading in (1.0, 0.95, 0.8, 0.6)],
}
"""What is tried of each model, as many of each."""
RECIPES: dict[str, dict[str, float]] = {
    "encoder": {"rate": 6e-3},
    "gru": {"rate": 6e-3, "dropout": 0.3},
    "mean": {"rate": 6e-3, "fading": 0.8},
    "plain mean": {"rate": 6e-3},
}
"""The best by validation on MovieLens-100K, on both data sets; the plain mean is the mean that does not fade."""


@dataclass(frozen=True)
class Plan:
    """What is measured."""

    data: tuple[str, ...]
    seeds: int
    steps: int | None
    seconds: float
    events: int
    out: Path
    cache: Path


def recipe(plan: Plan, data: str, model: str, seed: int, changes: dict[str, Any]) -> Recipe:
    """How a model is trained on a data set."""
    kind = model.rpartition(" ")[-1]
    return replace(Recipe(model=kind, steps=plan.steps or STEPS[data], seed=seed), **changes)


def steps_of(plan: Plan, tune: bool) -> int:
    """Steps that the progress counts."""
    trainings = sum(map(len, TRIED.values())) if tune else plan.seeds * len(RECIPES)
    trained = sum((plan.steps or STEPS[data]) * trainings for data in plan.data)
    lives = (BURN_IN + DAYS) * ("world" in plan.data)
    return trained + lives + (0 if tune else 2 * len(MEMORY) + 1)


def loaded(plan: Plan, name: str, step: Callable[[], None]) -> Sequences:
    """A data set by name."""
    if name == "ml-100k":
        return movielens(plan.cache, LONGEST)
    config = reference_world().override({key: float(value) for key, value in WORLD.items()})
    return lived.sequences(config, 0, BURN_IN, DAYS, step=step)


def run(plan: Plan, step: Callable[[], None]) -> dict[str, Any]:
    """All figures."""
    return memory(plan.events, step) | speed(plan.seconds, step) | {
        "recall_at_20": {name: compared(plan, loaded(plan, name, step), step) for name in plan.data}
    }  # fmt: skip


def memory(events: int, step: Callable[[], None]) -> dict[str, Any]:
    """Bytes a user for histories of that length, and how many times the plain Transformer's the encoder's go into."""
    found = dict[str, dict[str, dict[str, float]]]()
    for what in encoder_memory.PASSES:
        found[what] = {}
        for model in MEMORY:
            if what == "train" or "+" not in model:
                found[what][model] = encoder_memory.run(model, what, USERS[what], events)
            step()
    train, last = found["train"], found["last"]
    return {
        "memory_events": events,
        "memory_ratio": train["plain"]["xla"] / train["encoder+frugal"]["xla"],
        "memory_ratio_rss": train["plain"]["rss"] / train["encoder+frugal"]["rss"],
        "memory_ratio_both_frugal": train["plain+frugal"]["xla"] / train["encoder+frugal"]["xla"],
        "memory_ratio_none_frugal": train["plain"]["xla"] / train["encoder"]["xla"],
        "memory_ratio_forward": last["plain"]["xla"] / last["encoder"]["xla"],
        "memory_ratio_forward_rss": last["plain"]["rss"] / max(last["encoder"]["rss"], 1.0),
        "memory_mb": {
            what: {model: {kind: n / 1e6 for kind, n in sizes.items()} for model, sizes in of.items()}
            for what, of in found.items()
        },
    }


def speed(seconds: float, step: Callable[[], None]) -> dict[str, Any]:
    """Time of one event, and events a second: the best batch's."""
    found = encoder_speed.run(seconds)
    step()
    best = max(encoder_speed.BATCHES, key=lambda users: found[f"events_per_second_{users}"])
    return {
        "update_ms": found["update_ms"],
        "events_per_second": found[f"events_per_second_{best}"],
        "events_per_cpu_second": found[f"events_per_cpu_second_{best}"],
        "batch": best,
        "speed": found,
    }


def compared(plan: Plan, data: Sequences, step: Callable[[], None]) -> dict[str, Any]:
    """Recall@20 on the test by model, with 95% intervals, and by how much the encoder is ahead, user by user."""
    hits = dict[str, npt.NDArray[np.float64]]()
    for model, changes in RECIPES.items():
        rows = [
            hit(plan, data, recipe(plan, data.name, model, seed, changes), "test", step) < 20
            for seed in range(plan.seeds)
        ]
        hits[model] = np.array(rows, np.float64)  # [seeds, users]
    popular = np.argsort(-np.where(data.barred["test"], -1.0, data.seen), axis=1)[:, :20]
    hits["popular"] = (popular == data.held["test"][:, None]).any(1)[None].astype(np.float64)
    result: dict[str, Any] = {"users": len(data.row), "contents": len(data.features)}
    for model, found in hits.items():
        mean, *ends = interval(found.mean(0))
        result[model] = {"mean": mean, "interval": ends, "by_seed": found.mean(1).tolist()}
    for model in ("gru", "mean", "plain mean"):
        mean, *ends = interval(hits["encoder"].mean(0) - hits[model].mean(0))
        result[f"encoder less {model}"] = {"mean": mean, "interval": ends}
    return result


def hit(plan: Plan, data: Sequences, how: Recipe, split: str, step: Callable[[], None]) -> npt.NDArray[np.int64]:
    """Ranks ``[U]`` of what was held out, by a model trained so; its checkpoint is in the plan's folder."""
    tried = "-".join(f"{value:g}" for value in (how.steps, how.rate, how.dropout, how.fading, how.seed))
    shape = shape_for(data)
    kept = plan.out / f"{data.name}-{how.model}-{tried}.npz"
    learner = train(data, how, shape, kept, step=lambda _: step())
    return ranks(learner, data, shape, split)


def tried(plan: Plan, step: Callable[[], None]) -> dict[str, Any]:
    """Validation recall@20 of every recipe tried, one seed that is not judged."""
    out = dict[str, Any]()
    for name in plan.data:
        data = loaded(plan, name, step)
        out[name] = {
            model: [
                {**changes, "valid": recall(hit(plan, data, recipe(plan, name, model, 100, changes), "valid", step))}
                for changes in grid
            ]
            for model, grid in TRIED.items()
        }
    return {"validation_recall_at_20": out}
