"""Fit a world's free parameters to targets, with CMA-ES (Hansen, arXiv 1604.00772; the ``cma`` library).

Only the raw ranking and real logs are ever fitted: no arm but ``raw`` runs here. The world is lived from its healthy
start through the burn-in; what it is then, under the ranker's own order, is held against the targets.
"""

from __future__ import annotations

import hashlib
import math
import os
import warnings
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from upwell.arms.raw import raw
from upwell.errors import BadRequest
from upwell.experiment import metrics
from upwell.logs.targets import Target
from upwell.world import world
from upwell.world.config import WorldConfig, flatten, to_toml

FREE: dict[str, tuple[float, float]] = {
    "response.base": (-4.0, 1.0),
    "response.attention": (0.2, 4.0),
    "response.position": (0.02, 0.3),
    "response.satiation": (0.02, 2.0),
    "content.quality_spread": (0.8, 3.0),
    "content.freshness_days": (8.0, 120.0),
    "interest.half_life_days": (0.2, 10.0),
    "interest.spread": (0.3, 1.5),
    "ranker.popularity": (0.2, 4.0),
    "ranker.popular_at": (50.0, 20_000.0),
    "ranker.personal": (4.0, 20.0),
    "ranker.click_rate": (0.3, 4.0),
    "ranker.prior_ratio": (0.001, 1.0),
    "ranker.prior_weight": (20.0, 5_000.0),
    "ranker.trial": (0.1, 12.0),
    "ranker.trials": (0.001, 0.05),
    "ranker.fresh_days": (1.0, 30.0),
    "ranker.noise": (0.1, 4.0),
    "activity.active": (-2.0, 2.0),
}
"""Fitted parameters and their bounds. Watch time and GMV are linear in ``passive_s`` and ``price``: see ``SOLVED``."""


def live(config: WorldConfig, seed: int, days: int) -> dict[str, float]:
    """Metrics of the last week under raw ranking from a healthy start; of the healthy week, what it tells."""
    state = world.reset(config, seed)
    reports: list[metrics.Report] = []
    for day in range(days):
        state, report = world.run_day(config, raw, state)
        reports.append(world.to_host(report))
        if day == 6:  # thresholds in impressions follow the traffic there is
            shown = float(np.mean([r["impressions"] for r in reports]))
            state = state._replace(scale=state.scale * 0 + shown / config.sizes.contents / 500.0)
    result = metrics.over(config, reports[-7:])
    result["healthy_interest_tags"] = float(reports[6]["tags"])
    result["random_ctr"] = metrics.over(config, reports[:7])["ctr"]
    return result


Bounds = dict[str, tuple[float, float]]


def bounds_of(keys: Sequence[str]) -> Bounds:
    """The bounds of some of the free parameters. Raises BadRequest for a key that is not free."""
    unknown = [key for key in keys if key not in FREE]
    if unknown:
        raise BadRequest(f"not a free parameter: {', '.join(unknown)}; choose from {', '.join(FREE)}")
    return {key: FREE[key] for key in keys}


def decode(config: WorldConfig, x: np.ndarray, free: Bounds) -> WorldConfig:
    """Unit-cube point to a world; parameters positive throughout are searched on a log scale."""
    changes: dict[str, float] = {}
    for u, (name, (low, high)) in zip(np.clip(x, 0.0, 1.0), free.items(), strict=True):
        changes[name] = low * (high / low) ** float(u) if low > 0 else low + float(u) * (high - low)
    return config.override(changes)


def encode(config: WorldConfig, free: Bounds) -> np.ndarray:
    """A world's point in the unit cube."""
    flat = flatten(config)
    point = [
        math.log(flat[name] / low) / math.log(high / low) if low > 0 else (flat[name] - low) / (high - low)
        for name, (low, high) in free.items()
    ]
    return np.clip(np.array(point), 0.02, 0.98)


def loss(fitted: dict[str, float], targets: dict[str, Target]) -> float:
    """Weighted sum of squared log ratios, watch time and GMV left out where they will be solved."""
    total = 0.0
    for name, target in targets.items():
        if name in SOLVED or (target.upper and fitted[name] <= target.value):
            continue
        total += target.weight * math.log(max(fitted[name], 1e-5) / target.value) ** 2
    return total


SOLVED = {"watch_minutes_per_dau": "response.passive_s", "gmv_per_dau": "response.price"}


Job = tuple[WorldConfig, int, int]
"""A world, the seed to live it on, and for how many days."""


def evaluate(job: Job) -> dict[str, float]:
    """One point's metrics (run in a worker process)."""
    return live(*job)


@contextmanager
def workers(count: int) -> Generator[ProcessPoolExecutor]:
    # One thread a process: the points of a generation are what runs side by side.
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
    with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
        yield pool


class Journal:
    """Evaluations done so far, one JSON line each: a search that was cut off asks for the same points again."""

    def __init__(self, path: Path | None):
        self.path, self.known = path, dict[str, dict[str, float]]()
        if path and path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                entry = msgspec.json.decode(line)
                self.known[entry["key"]] = entry["metrics"]

    def key(self, job: Job) -> str:
        config, seed, days = job
        return hashlib.sha256(f"{to_toml(config)}{seed}/{days}".encode()).hexdigest()[:16]

    def run(self, pool: ProcessPoolExecutor, jobs: list[Job]) -> list[dict[str, float]]:
        """Metrics of each job, computed where not known yet."""
        keys = [self.key(job) for job in jobs]
        missing = [i for i, key in enumerate(keys) if key not in self.known]
        for i, fitted in zip(missing, pool.map(evaluate, [jobs[i] for i in missing]), strict=True):
            self.known[keys[i]] = fitted
            if self.path:
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(msgspec.json.encode({"key": keys[i], "metrics": fitted}).decode() + "\n")
        return [self.known[key] for key in keys]


def fit(
    start: WorldConfig,
    targets: dict[str, Target],
    *,
    generations: int,
    population: int = 12,
    days: int = 42,
    seed: int = 0,
    processes: int = 2,
    step: float = 0.08,
    free: Bounds = FREE,
    journal: Path | None = None,
    report: Callable[[int, float, WorldConfig], None] = lambda generation, best, config: None,
) -> tuple[WorldConfig, dict[str, float]]:
    """The world at the centre of the search's last generation, and its metrics on seeds the search has not seen.

    Each generation lives on a seed of its own, so that the search cannot fit one platform's luck; its centre
    averages that luck out, where its best point would collect it.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Could not import matplotlib")  # we draw our own plots
        import cma
    options: Any = {"bounds": [0, 1], "popsize": population, "seed": seed + 1, "verbose": -9}
    search = cma.CMAEvolutionStrategy(encode(start, free), step, options)
    book = Journal(journal)
    with workers(processes) as pool:
        for generation in range(generations):
            points = [np.asarray(x) for x in search.ask()]
            results = book.run(pool, [(decode(start, x, free), seed + generation, days) for x in points])
            losses = [loss(fitted, targets) for fitted in results]
            search.tell(points, losses)
            report(generation, float(np.median(losses)), decode(start, np.asarray(search.result.xfavorite), free))
        centre = decode(start, np.asarray(search.result.xfavorite), free)
        return solve(centre, targets, seed + 1_000, days)


IDENTIFIED: dict[str, tuple[str, tuple[float, float]]] = {
    "ctr": ("response.attention", (0.02, 20.0)),
    "random_ctr": ("response.base", (-6.0, 2.0)),
    "top100_share": ("ranker.popularity", (0.02, 4.0)),
}
"""The one parameter that each figure of a log says most of, and its bounds: the level of click rates, how far below it
those of what nothing chose are, how much is made of what is popular. Others a log does not tell apart."""
PROBE, REACH = 0.08, 0.4
"""``approach``: its first step aside and its longest, as shares of a parameter's range."""
CLOSE = 0.03
"""Log ratio to a target that is close enough."""


def lives(targets: dict[str, Target], rounds: int, seeds: int) -> int:
    """Most worlds that ``approach`` lives."""
    return 1 + len(targets) + rounds + seeds


def approach(
    start: WorldConfig,
    targets: dict[str, Target],
    *,
    rounds: int,
    seeds: int,
    days: int,
    seed: int = 0,
    journal: Path | None = None,
    step: Callable[[], None] = lambda: None,
) -> tuple[WorldConfig, dict[str, float]]:
    """A quick fit of the parameters in IDENTIFIED alone, by Broyden's method (1965) on the log ratios to the targets.

    Returns the best world met, and its metrics on ``seeds`` seeds that the search has not seen. ``step`` is called for
    each world lived. One process: compiling takes longer than all the living.
    """
    free = dict(IDENTIFIED[name] for name in targets)
    book = Journal(journal)
    with workers(1) as pool:

        def lived(config: WorldConfig, seed: int) -> dict[str, float]:
            (fitted,) = book.run(pool, [(config, seed, days)])
            step()
            return fitted

        def miss_at(point: np.ndarray) -> np.ndarray:
            fitted = lived(decode(start, point, free), seed)
            return np.array([math.log(max(fitted[name], 1e-5) / target.value) for name, target in targets.items()])

        x = encode(start, free)
        best, miss = x, miss_at(x)
        least = miss
        probes = np.where(x < 0.5, PROBE, -PROBE)
        slopes = np.stack([(miss_at(x + aside) - miss) / aside.sum() for aside in np.diag(probes)], axis=1)
        for _ in range(rounds):
            if np.abs(miss).max() < CLOSE:
                break
            move = -np.linalg.lstsq(slopes, miss, rcond=1e-2)[0]
            move *= min(1.0, REACH / max(float(np.abs(move).max()), 1e-9))
            after = np.clip(x + move, 0.0, 1.0)
            gone = after - x
            if not gone.any():
                break
            then = miss_at(after)
            slopes = slopes + np.outer(then - miss - slopes @ gone, gone) / (gone @ gone)
            x, miss = after, then
            if miss @ miss < least @ least:
                best, least = x, miss
        config = decode(start, best, free)
        return config, mean_of([lived(config, seed + 1_001 + i) for i in range(seeds)])


def solve(
    config: WorldConfig, targets: dict[str, Target], seed: int, days: int, seeds: int = 4
) -> tuple[WorldConfig, dict[str, float]]:
    """Set what the targets determine directly on one seed, then measure the mean over ``seeds`` others."""
    fitted = live(config, seed, days)
    flat = flatten(config)
    changes = {
        key: flat[key] * targets[name].value / max(fitted[name], 1e-6)
        for name, key in SOLVED.items()
        if name in targets
    }
    config = config.override(changes)
    return config, measure(config, range(seed + 1, seed + 1 + seeds), days)


def measure(config: WorldConfig, seeds: Iterable[int], days: int) -> dict[str, float]:
    """Mean of each metric over seeds."""
    return mean_of([live(config, seed, days) for seed in seeds])


def mean_of(runs: list[dict[str, float]]) -> dict[str, float]:
    """Mean of each metric over runs."""
    return {name: float(np.mean([run[name] for run in runs])) for name in runs[0]}
