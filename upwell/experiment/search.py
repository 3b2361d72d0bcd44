"""The search over the simplex of weights: the default that proposes without any model, and what a model must beat.

First a few candidates in all directions are lived. A quadratic surface of each metric's change is fitted through them
(response-surface methodology, Box and Wilson 1951), CMA-ES (the ``cma`` library) finds where on it the goal is answered
best, that candidate is lived too, and so on until the best one is known or the budget is spent.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from msgspec.structs import replace

from upwell.experiment.proof import Candidate, half_width, meets
from upwell.goals.goal import Effect, Goal
from upwell.goals.weights import NAMES, Limits, checked, shares
from upwell.model import Weights

PARTS = 20
"""Candidates' weights are whole twentieths, so that goals ask about the same ones."""
BUDGET = 16
"""Candidates that are lived at most."""
LOOKS = 300
"""How often CMA-ES looks at the surface, each time."""

Predicted = Mapping[str, Effect]
Prove = Callable[[Sequence[Candidate]], Sequence[Predicted]]


class Tested(NamedTuple):
    """A candidate, what it does, and how well that answers the goal (``proof.meets``)."""

    candidate: Candidate
    predicted: Predicted
    score: float


def search(goal: Goal, now: Candidate, limits: Limits, prove: Prove, budget: int = BUDGET) -> list[Tested]:
    """Candidates that were lived, best first."""
    region = Region(now.weights, limits)
    found: dict[Candidate, Predicted] = {}

    def live(points: Sequence[Weights]) -> None:
        new = [one for one in (Candidate(weights, now.program) for weights in points) if one not in found]
        found.update(zip(new, prove(new), strict=True))

    live(region.design()[:budget])
    while len(found) < budget:
        best = region.nearest(optimum(goal, region, found))
        if Candidate(best, now.program) in found:
            break
        live([best])
    return ranked(goal, found)


def ranked(goal: Goal, found: Mapping[Candidate, Predicted]) -> list[Tested]:
    """Candidates by how well they answer a goal, best first, in one measure of noise for all of them."""
    noise = half_widths(goal, found.values()) if found else {}
    tested = [Tested(one, does, meets(goal, steady(does, noise))[1]) for one, does in found.items()]
    return sorted(tested, key=lambda t: -t.score)


def half_widths(goal: Goal, found: Iterable[Predicted]) -> dict[str, float]:
    """Root mean square of the half-widths of a goal's metrics: few platforms tell each candidate's own badly."""
    names = {one.metric for one in (*goal.aims, *goal.bounds)}
    return {name: float(np.sqrt(np.mean([half_width(does[name]) ** 2 for does in found]))) for name in names}


def steady(does: Predicted, noise: Mapping[str, float]) -> dict[str, Effect]:
    """Effects with those half-widths."""
    return {name: shifted(does[name], does[name].change, half) for name, half in noise.items()}


def shifted(effect: Effect, change: float, half: float) -> Effect:
    """The same metric moved by another change, with another half-width."""
    return replace(effect, after=effect.before + change, change=change, low=change - half, high=change + half)


class Region:
    """The weights that may be proposed: on the grid, within the bounds, no further from now than a step; or now's."""

    def __init__(self, now: Weights, limits: Limits) -> None:
        here = shares(now)
        assert here is not None
        self.now, self.limits = here, limits
        self.low = np.maximum(here - limits.step * limits.smoothing, np.minimum(limits.smallest, here))
        self.high = here + limits.step * limits.smoothing
        whole = [(i, j, PARTS - i - j) for i in range(PARTS + 1) for j in range(PARTS + 1 - i)]
        grid = np.array(whole) / PARTS
        inside = grid[[self.outside(point) < 1e-9 for point in grid]]
        self.points = inside if len(inside) else here[None]

    def outside(self, point: np.ndarray) -> float:
        """How far shares ``[3]`` lie outside."""
        return float((np.maximum(self.low - point, 0.0) + np.maximum(point - self.high, 0.0)).sum())

    def nearest(self, point: np.ndarray) -> Weights:
        """The weights that may be proposed nearest to shares ``[3]``."""
        at = ((self.points - point) ** 2).sum(1).argmin()
        return weights_of(self.points[at])

    def design(self) -> list[Weights]:
        """First candidates: as far as may be towards each weight and each two of them, and halfway to each weight."""
        towards = [np.array(ends, float) for ends in ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1), (0, 1, 1))]
        far = [self.furthest(end) for end in towards]
        near = [(self.now + point) / 2.0 for point in far[:3]]
        return list(dict.fromkeys(self.nearest(point) for point in (*far, *near)))

    def furthest(self, asked: np.ndarray) -> np.ndarray:
        got = checked(dict(zip(NAMES, asked.tolist(), strict=True)), weights_of(self.now), self.limits)
        return array_of(got.weights)


def weights_of(point: np.ndarray) -> Weights:
    return Weights(**dict(zip(NAMES, point.tolist(), strict=True)))


def array_of(weights: Weights) -> np.ndarray:
    return np.array([getattr(weights, name) for name in NAMES])


def optimum(goal: Goal, region: Region, found: Mapping[Candidate, Predicted]) -> np.ndarray:
    """Where in the region the goal is answered best by the surface through what was lived, shares ``[3]``."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Could not import matplotlib")  # nothing is drawn by it
        import cma
    noise = half_widths(goal, found.values())
    names = list(noise)
    at = np.array([array_of(one.weights) for one in found])
    changes = np.array([[does[name].change for name in names] for does in found.values()])
    surface = np.linalg.lstsq(bent(at - region.now), changes, rcond=None)[0]
    before = next(iter(found.values()))

    def worse(x: np.ndarray) -> float:
        point = np.array([x[0], x[1], 1.0 - x[0] - x[1]])
        changed = (bent((point - region.now)[None]) @ surface)[0]
        does = {name: shifted(before[name], change, noise[name]) for name, change in zip(names, changed, strict=True)}
        return 100.0 * region.outside(point) - meets(goal, does)[1]

    start = ranked(goal, found)[0].candidate.weights
    options: Any = {"seed": 1, "verbose": -9, "maxfevals": LOOKS}
    best, _ = cma.fmin2(worse, [start.user_satisfaction, start.platform_revenue], 0.1, options)
    return np.array([best[0], best[1], 1.0 - best[0] - best[1]])


def bent(moves: np.ndarray) -> np.ndarray:
    """Terms of a quadratic through 0 at no move, ``[n, 5]`` of moves ``[n, 3]``: the third share follows."""
    a, b = moves[:, 0], moves[:, 1]
    return np.stack([a, b, a * a, a * b, b * b], axis=1)
