"""Training as a run in a folder: worlds of the family, episode after episode, a curve, checkpoints, the best policy.

Everything that an iteration does follows from the run's seed and the iteration's number, and the learner is saved with
its number: a run that was killed goes on as if it had not been, bit for bit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import msgspec
import numpy as np

from upwell import __version__
from upwell.agents.dials import ROLES
from upwell.agents.network import Policy, save_policy
from upwell.arms.marl import marl
from upwell.arms.rules import rules
from upwell.arms.thompson import thompson
from upwell.errors import BadRequest
from upwell.experiment import metrics
from upwell.experiment.runner import lived
from upwell.learn import cheats, checkpoint, es, family, gains, game, maddpg, mappo
from upwell.regulator.trust import judge as detector
from upwell.world import world
from upwell.world.arm import RAW, Arm
from upwell.world.config import WorldConfig, to_toml
from upwell.world.state import WorldState


class Algorithm(NamedTuple):
    """A way to learn the game."""

    rates: Any  # its defaults
    first_learner: Callable[..., Any]  # of (seed, rates)
    update: Callable[..., Any]  # of (learner, played, rates, key): the learner after it, and a report by role
    plays: Callable[..., Policy] = lambda learner, rates: learner.policy  # of (learner, rates): the coming episode's
    alike: int = 1  # episodes of the same platform, goal and chances, one after the other


ALGORITHMS = {
    "mappo": Algorithm(mappo.Rates(), mappo.first_learner, mappo.update),
    "maddpg": Algorithm(maddpg.Rates(), maddpg.first_learner, maddpg.update),
    "es": Algorithm(es.Rates(), es.first_learner, es.update, es.plays, alike=2),
}


AVERAGED = 0.04
"""Least weight of the latest policy in the average that is judged and kept: populations that learn from each other run
in circles, whose middle is better than any place on them."""


ADAPTED_DAYS = 20
"""Of a platform on which cheats learn what pays."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a run is made of; kept in its folder, so that it goes on with the same."""

    algorithm: str
    seed: int
    users: int
    contents: int
    worlds: int = 4  # of the family, beside the given ones
    burn_in: int = 56  # days
    episode_days: int = 8
    judged_days: int = 10  # of each look at how good the policy is
    judged_every: int = 10  # iterations
    judged_seeds: int = 2
    roles: tuple[str, ...] = ROLES  # that learn; the others go on by the rules
    rates: dict[str, float] = {}  # in place of the algorithm's own


def rates_of(settings: Settings) -> Any:
    """The algorithm's rates with the run's own in their place. Raises BadRequest for one that it does not have."""
    default = ALGORITHMS[settings.algorithm].rates
    for name in settings.rates:
        if name not in default._fields:
            raise BadRequest(f"{settings.algorithm} has no rate '{name}': it has {', '.join(default._fields)}")
    return default._replace(**{name: type(getattr(default, name))(v) for name, v in settings.rates.items()})


class Point(msgspec.Struct):
    """A line of the curve: what a look at the policy came to, means over the seeds that it is judged on."""

    iteration: int
    seconds: float  # of training so far, looks not counted
    requests: int  # of users so far: steps of user agents
    objective: float
    rivals: dict[str, float]  # objective on the same platforms of raw ranking, the rules and thompson
    metrics: dict[str, float]
    learning: dict[str, dict[str, float]]  # by role, as the algorithm reports it
    gain: dict[str, float]  # by role, of an agent a step
    cheats: dict[str, float] = {}  # what adaptive ones do by then, where there are any


class Platform(NamedTuple):
    """A burnt-in platform, its world, and what raw ranking came to there."""

    config: WorldConfig
    state: WorldState
    raw: dict[str, float]


class Judge(NamedTuple):
    """Platforms that a policy is judged on, never trained on, and what other arms came to there."""

    platforms: list[Platform]
    rivals: dict[str, float]


def judged(among: Sequence[Platform], arm: Arm, days: int, tuned: Any = None) -> tuple[float, dict[str, float]]:
    """Mean objective, and mean metrics, of an arm; of a policy without noise."""
    found = [lived(platform.config, arm, platform.state, days, tuned=tuned) for platform in among]
    return worth(among, found), {name: float(np.mean([each[name] for each in found])) for name in found[0]}


def worth(among: Sequence[Platform], found: Sequence[dict[str, float]]) -> float:
    """Mean objective of the metrics found on each platform, money as it was to be expected."""
    of = metrics.expected
    pairs = zip(among, found, strict=True)
    return float(np.mean([metrics.objective(one.config, of(each), of(one.raw)) for one, each in pairs]))


def platforms(out: Path, worlds: Sequence[WorldConfig], settings: Settings, step: Callable[[], None]) -> list[Platform]:
    """The worlds trained on, burnt in, or read back from the run's folder: the given ones, then their family."""
    made: list[Platform] = []
    for number in range(len(worlds) + settings.worlds):
        given = worlds[number % len(worlds)]
        one = given if number < len(worlds) else family.relative(given, settings.seed * 1_000 + number)
        seed = 10_000 + settings.seed * 100 + number
        made.append(burnt(out / f"world-{number}.npz", one, seed, settings, step))
    return made


def burnt(path: Path, config: WorldConfig, seed: int, settings: Settings, step: Callable[[], None]) -> Platform:
    """A burnt-in platform, from its file where there is one."""
    like = jax.eval_shape(lambda: world.reset(config, seed))
    if path.exists():
        state, said = checkpoint.load(path, "platform", like)
        if said["world"] != to_toml(config) or "expected_net_gmv_per_dau" not in said["raw"]:
            raise BadRequest(f"{path}: made with another world, or an earlier Upwell; give another --out")
        return Platform(config, state, said["raw"])
    state = world.burnt_in(config, seed, settings.burn_in, step)
    raw = lived(config, RAW, state, settings.judged_days, step)
    checkpoint.save(path, "platform", state, {"world": to_toml(config), "raw": raw})
    return Platform(config, state, raw)


def judge_of(out: Path, worlds: Sequence[WorldConfig], settings: Settings, step: Callable[[], None]) -> Judge:
    """Platforms of each given world, with seeds that no training and no experiment has."""
    seeds = [20_000 + settings.seed * 100 + i for i in range(settings.judged_seeds)]
    among = [
        burnt(out / f"judge-{i}.npz", worlds[i % len(worlds)], seed, settings, step) for i, seed in enumerate(seeds)
    ]
    rivals = {arm.name: judged(among, arm, settings.judged_days)[0] for arm in (rules, thompson)}
    return Judge(among, {RAW.name: worth(among, [platform.raw for platform in among])} | rivals)


def goal_of(settings: Settings, config: WorldConfig, episode: int, lap: int) -> WorldConfig:
    """Of contents and the system: on every other lap over the platforms the world's own, on the others drawn ones."""
    if lap % 2 == 0:
        return config
    return family.under(config, family.weights(settings.seed * 1_000_003 + episode))


def still_but(roles: Sequence[str], policy: Policy) -> Policy:
    """The policy with every role but these at the rules."""
    fixed = [role for role in ROLES if role not in roles]
    still = jax.tree.map(jnp.zeros_like, policy)
    return policy._replace(**{role: getattr(still, role) for role in fixed})


def by_rules_but(roles: Sequence[str], learner: Any) -> Any:
    """The learner with every role but these where it began: at the rules, without noise."""
    silent = {role: jnp.full_like(learner.log_std[role], game.SILENT) for role in ROLES if role not in roles}
    return learner._replace(policy=still_but(roles, learner.policy), log_std=learner.log_std | silent)


class State(NamedTuple):
    """What a checkpoint holds."""

    learner: Any
    average: Policy  # of the policies so far (``averaged``; Polyak & Juditsky 1992)
    iteration: Any  # i32
    seconds: Any  # f64
    requests: Any  # i64
    best: Any  # f64, objective of the best policy so far
    strategy: Any  # f64 [6], what adaptive cheats do (``cheats.TURNED``)


def run(
    worlds: Sequence[WorldConfig], settings: Settings, out: Path, minutes: float, step: Callable[[], None]
) -> Iterator[Point]:
    """Train on worlds of the same sizes until the run's own time is ``minutes`` in all; yields each look."""
    rates, algorithm = rates_of(settings), ALGORITHMS[settings.algorithm]
    first = by_rules_but(settings.roles, algorithm.first_learner(settings.seed, rates))
    begins = np.array(list(cheats.strategy(worlds[0]).values()))
    state = State(first, first.policy, np.int32(0), np.float64(0), np.int64(0), np.float64(-np.inf), begins)
    kept = out / "checkpoint.npz"
    if kept.exists():
        state, _ = checkpoint.load(kept, "training", state)
    curve = out / "curve.jsonl"
    cut_after(curve, int(state.iteration))
    trained_on = platforms(out, worlds, settings, step)
    judge = judge_of(out, worlds, settings, step)
    while float(state.seconds) < 60.0 * minutes:
        began, number = time.perf_counter(), int(state.iteration)
        if number % settings.judged_every == 0 and worlds[0].sizes.visits:
            state = state._replace(strategy=adapted(worlds[0], settings, state))
        episode = number // algorithm.alike
        platform = trained_on[episode % len(trained_on)]
        goal = goal_of(settings, platform.config, episode, episode // len(trained_on))
        learner, seed = state.learner, settings.seed * 1_000_000 + episode
        goal = cheats.cheated(goal, cheating(state))
        norms = gains.norms_of(goal, platform.state, platform.raw)
        policy = still_but(settings.roles, algorithm.plays(learner, rates))
        played = game.episode(goal, policy, learner.log_std, platform.state, norms, settings.episode_days, seed)
        learner, report = algorithm.update(learner, played, rates, jax.random.key(seed))
        learner = by_rules_but(settings.roles, learner)
        jax.block_until_ready(learner.policy)
        state = state._replace(
            learner=learner,
            average=averaged(state.average, learner.policy, number),
            iteration=np.int32(number + 1),
            seconds=state.seconds + np.float64(time.perf_counter() - began),
            requests=state.requests + np.int64(played.requests),
        )
        step()
        if (number + 1) % settings.judged_every == 0:
            value, measured = judged(judge.platforms, marl, settings.judged_days, state.average)
            if value > float(state.best):
                state = state._replace(best=np.float64(value))
                save_policy(out / "policy.npz", state.average, about(worlds, settings, number + 1, value))
            gain = {role: mean_gain(steps) for role, steps in played.steps.items()}
            learning = {role: {k: float(v) for k, v in of.items()} for role, of in report.items()}
            point = Point(
                number + 1, float(state.seconds), int(state.requests), value, judge.rivals, measured, learning, gain,
                cheating(state) if worlds[0].sizes.visits else {},
            )  # fmt: skip
            with curve.open("ab") as file:
                file.write(msgspec.json.encode(point) + b"\n")
            checkpoint.save(kept, "training", state, {"upwell": __version__})
            yield point


def cheating(state: State) -> dict[str, float]:
    """What adaptive cheats do by now."""
    return dict(zip(cheats.TURNED, state.strategy.tolist(), strict=True))


def adapted(config: WorldConfig, settings: Settings, state: State) -> Any:
    """Adaptive cheats one generation on, f64 ``[6]``: self-play, against the policy as it stands and the detector."""
    seed = 40_000 + settings.seed * 1_000 + int(state.iteration)
    better, _ = cheats.generation(
        cheats.cheated(config, cheating(state)), marl, detector.shipped(), ADAPTED_DAYS, seed, lambda: None,
        state.average,
    )  # fmt: skip
    return np.array(list(cheats.strategy(better).values()))


def averaged(average: Policy, policy: Policy, before: int) -> Policy:
    """With one more policy, the later ones counting for more: the n-th n times as much as the first."""
    weight = max(2.0 / (before + 2.0), AVERAGED)
    return jax.tree.map(lambda old, new: old + weight * (new - old), average, policy)


def mean_gain(steps: game.Steps) -> float:
    return float((steps.gain * steps.acted).sum() / max(steps.acted.sum(), 1))


def about(worlds: Sequence[WorldConfig], settings: Settings, iteration: int, objective: float) -> dict[str, Any]:
    """What a policy file says of its training."""
    return {
        "upwell": __version__, "worlds": [world.name for world in worlds], "settings": msgspec.to_builtins(settings),
        "iteration": iteration, "objective": objective,
    }  # fmt: skip


def points(path: Path) -> list[Point]:
    """The curve so far."""
    if not path.exists():
        return []
    return [msgspec.json.decode(line, type=Point) for line in path.read_bytes().splitlines()]


def cut_after(path: Path, iteration: int) -> None:
    """Drop what a killed run wrote of the curve after its last checkpoint."""
    kept = [point for point in points(path) if point.iteration <= iteration]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(msgspec.json.encode(point) + b"\n" for point in kept))
