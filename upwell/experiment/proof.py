"""Proof before use: candidates live the same days on the same platforms as the present setting, held against it.

All randomness of the world hangs on seed, day and tick, so that two settings differ by what they do alone. Effects are
paired differences over platforms with 95% intervals; each candidate lives once on each platform, whoever asks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from upwell.arms.registry import label, members
from upwell.errors import BadRequest
from upwell.experiment import metrics
from upwell.experiment.runner import Plan, Step, lived
from upwell.experiment.stats import interval
from upwell.experiment.tuning import Trial, load, save
from upwell.goals.goal import Aim, Bound, Effect, Goal, Refusal
from upwell.goals.weights import NAMES
from upwell.model import Weights
from upwell.world import world
from upwell.world.arm import Arm
from upwell.world.config import WorldConfig
from upwell.world.state import WorldState

SETTLED_DAYS = 7
DOUBT = 0.01
"""How far beyond a bound, as a share of the present value, the unfavourable end of an interval may lie."""
BROKEN = 10.0
"""What a broken bound costs in ``meets``: more than any aim's movement is worth."""

OF_SIZE = ("gmv_per_day", "dau", "heating_spend_per_day", "heating_yuan_per_day")
"""Metrics that grow with the platform."""


class Candidate(NamedTuple):
    """A setting that may be lived. A reward program is part of the world's program: each new one compiles anew."""

    weights: Weights
    program: str = ""

    @property
    def values(self) -> dict[str, float]:
        """Overrides of a world."""
        return {f"goal.{name}": round(float(getattr(self.weights, name)), 6) for name in NAMES}

    @property
    def label(self) -> str:
        """As files are called."""
        program = [hashlib.sha256(self.program.encode()).hexdigest()[:12]] if self.program else []
        return "-".join([*(f"{value:.3f}" for value in self.values.values()), *program])


class Lived(Mapping[int, WorldState]):
    """Platforms as they stand by seed, each made when it is first looked at.

    They fell ill under raw ranking; then the arm was in force under the world's own goal for ``SETTLED_DAYS``, in
    which cold starts that began without it have ended.
    """

    def __init__(self, config: WorldConfig, arm: Arm, seeds: Sequence[int], burn_in: int, step: Step) -> None:
        self.config, self.arm, self.seeds, self.burn_in, self.step = config, arm, seeds, burn_in, step
        self.made: dict[int, WorldState] = {}

    def __len__(self) -> int:
        return len(self.seeds)

    def __iter__(self) -> Iterator[int]:
        return iter(self.seeds)

    def __getitem__(self, seed: int) -> WorldState:
        if seed not in self.made:
            state = world.burnt_in(self.config, seed, self.burn_in, self.step)
            state = world.under(self.config, self.arm, state)
            for _ in range(SETTLED_DAYS):
                state, _ = world.run_day(self.config, self.arm, state)
                self.step()
            self.made[seed] = state
        return self.made[seed]


class Kept:
    """Metrics of lived days by candidate and platform: in memory, and where a folder is given as a JSON file each."""

    def __init__(self, folder: Path | None = None, stamp: str = "") -> None:
        self.folder, self.stamp = folder, stamp
        self.known: dict[tuple[Candidate, int], dict[str, float]] = {}

    def get(self, candidate: Candidate, seed: int) -> dict[str, float] | None:
        """Raises BadRequest where the folder holds another plan's."""
        if (candidate, seed) not in self.known and self.folder:
            done = load(self.path(candidate, seed), self.stamp + candidate.program, candidate.values)
            if done:
                self.known[candidate, seed] = done.metrics
        return self.known.get((candidate, seed))

    def put(self, candidate: Candidate, seed: int, arm: str, found: dict[str, float]) -> None:
        self.known[candidate, seed] = found
        if self.folder:
            trial = Trial(self.stamp + candidate.program, candidate.values, arm, found)
            save(self.path(candidate, seed), trial)

    def path(self, candidate: Candidate, seed: int) -> Path:
        assert self.folder is not None
        return self.folder / f"{candidate.label}-{seed}.json"


class Platforms(NamedTuple):
    """Where candidates are lived, and what has been lived there."""

    config: WorldConfig
    arm: Arm
    states: Mapping[int, WorldState]  # by seed
    days: int
    step: Step  # after each lived day
    kept: Kept


def simulated(plan: Plan, out: Path, step: Step) -> Platforms:
    """Platforms of a plan with one arm, and what a folder holds of them. Raises BadRequest for a family of arms."""
    (name,) = plan.arms
    arm, *others = members(name)
    if others:
        raise BadRequest(f"--arm {name}: a family of arms, of which the goal itself would choose; give a single one")
    stamp = f"{plan.stamp()}-{label(name)}-{SETTLED_DAYS}"
    states = Lived(plan.config, arm, plan.seeds, plan.burn_in, step)
    return Platforms(plan.config, arm, states, plan.days, step, Kept(out / stamp, stamp))


def present(config: WorldConfig) -> Candidate:
    """The world's own goal: the setting that candidates are held against."""
    return Candidate(Weights(**{name: getattr(config.goal, name) for name in NAMES}), config.goal.program)


def prove(
    platforms: Platforms, now: Candidate, candidates: Sequence[Candidate], seeds: Sequence[int]
) -> list[dict[str, Effect]]:
    """What each candidate does to each metric against ``now`` on the platforms of ``seeds``; 0 exactly for ``now``."""
    before = [measured(platforms, now, seed) for seed in seeds]
    return [effects(before, [measured(platforms, candidate, seed) for seed in seeds]) for candidate in candidates]


def measured(platforms: Platforms, candidate: Candidate, seed: int) -> dict[str, float]:
    """Metrics of a candidate's days on one platform: lived where nobody has asked for them yet."""
    found = platforms.kept.get(candidate, seed)
    if found is None:
        config, arm = setting(platforms.config, candidate), platforms.arm
        found = lived(config, arm, platforms.states[seed], platforms.days, platforms.step)
        platforms.kept.put(candidate, seed, arm.name, found)
    return expected(found)


def setting(config: WorldConfig, candidate: Candidate) -> WorldConfig:
    """The world under a candidate. Weights are numbers in it and compile nothing anew; a program does."""
    return config.override({**candidate.values, "goal.program": candidate.program})


def expected(found: dict[str, float]) -> dict[str, float]:
    """The metrics with all money as it was to be expected of what was watched: most of its noise is few purchases."""
    net = found["expected_net_gmv_per_dau"]
    gross = net + found["heating_yuan_per_day"] / found["dau"]
    return metrics.expected(found) | {"gmv_per_dau": gross, "gmv_per_day": gross * found["dau"]}


def effects(before: Sequence[dict[str, float]], after: Sequence[dict[str, float]]) -> dict[str, Effect]:
    """By metric the paired effect over platforms, two or more of them."""
    found: dict[str, Effect] = {}
    for name in before[0]:
        first, then = (np.array([one[name] for one in side]) for side in (before, after))
        change = interval(then - first)
        found[name] = Effect(
            before=float(first.mean()), after=float(then.mean()), change=change.mean, low=change.low, high=change.high
        )
    return found


def meets(goal: Goal, predicted: Mapping[str, Effect]) -> tuple[bool, float, tuple[Refusal, ...]]:
    """Whether effects answer a goal; how well, to compare candidates by; and what they fail in.

    They answer it where each aim's metric moves the asked way with its interval clear of zero and each bound holds. A
    bound holds where the mean change keeps within it and the interval's unfavourable end passes it by no more than
    ``DOUBT`` of the present value: where the interval is too wide for that, nothing is proven. Targets are not
    demanded, since a simulated platform's levels are not the real one's (``reached``).

    The score is the aims' mean movement in half-widths of their intervals, weighted by priority; of a movement beyond
    zero log(1 + movement) counts, so that no aim is bought with another. Bounds that fail cost ``BROKEN`` and more.
    """
    failures, score = list[Refusal](), 0.0
    for aim in goal.aims:
        effect = predicted[aim.metric]
        up = aim.direction == "up"
        clear = effect.low > 0.0 if up else effect.high < 0.0
        if not clear:
            failures.append(Refusal(what=f"{aim.metric} {aim.direction}", why=f"not shown to move so: {told(effect)}"))
        moved = (effect.change if up else -effect.change) / half_width(effect)
        score += aim.priority * (np.log1p(moved) if moved > 0.0 else moved)
    score /= sum(aim.priority for aim in goal.aims) or 1.0
    for bound in goal.bounds:
        effect = predicted[bound.metric]
        beyond = passed(bound, effect)
        if beyond > 0.0:
            failures.append(Refusal(what=said(bound), why=f"not shown to hold: {told(effect)}"))
            score -= BROKEN + beyond / half_width(effect)
    return not failures, float(score), tuple(failures)


def passed(bound: Bound, effect: Effect) -> float:
    """How far, in the metric's unit, an effect fails a bound; at most 0 where the bound holds."""
    size = abs(effect.before)
    doubt, beyond = DOUBT * size, -np.inf
    if bound.low is not None:
        least = bound.low * size if bound.relative else bound.low - effect.before
        beyond = max(beyond, least - effect.change, least - doubt - effect.low)
    if bound.high is not None:
        most = bound.high * size if bound.relative else bound.high - effect.before
        beyond = max(beyond, effect.change - most, effect.high - doubt - most)
    return float(beyond)


def reached(aim: Aim, effect: Effect) -> float | None:
    """How much of the way from now to an aim's target a proposal goes: 1 at the target.

    None where there is none, or where the metric grows with the platform: a simulated one is smaller.
    """
    if aim.target is None or aim.metric in OF_SIZE:
        return None
    way = aim.target - effect.before
    ahead = way > 0.0 if aim.direction == "up" else way < 0.0
    return effect.change / way if ahead else 1.0


def half_width(effect: Effect) -> float:
    """Of the interval, and no less than a billionth of the value, so that it divides."""
    return max((effect.high - effect.low) / 2.0, 1e-9 * max(abs(effect.before), 1.0))


def told(effect: Effect) -> str:
    """``0.51 → 0.53: +3.9% (+1.0% … +6.8%)``."""
    size = abs(effect.before) or 1.0
    by, low, high = (f"{100.0 * value / size:+.2f}%" for value in (effect.change, effect.low, effect.high))
    return f"{effect.before:.4g} → {effect.after:.4g}: {by} ({low} … {high})"


def said(bound: Bound) -> str:
    """``ctr at least -3%``."""
    ends = [(name, end) for name, end in (("at least", bound.low), ("at most", bound.high)) if end is not None]
    return " and ".join(
        f"{bound.metric} {name} {f'{100.0 * end:+g}%' if bound.relative else f'{end:g}'}" for name, end in ends
    )
