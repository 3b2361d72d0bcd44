"""The decision log of a simulated day: what was shown to a sample of users, with which chance, and why.

The day is lived tick by tick, as ``world.run_until`` lives it, and each tick tells how its slates came about. Nothing
of the world's truth goes into a record.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import msgspec
import numpy as np

from upwell import __version__, files
from upwell.agents.parts import Additive, AdditiveChoice, Parts
from upwell.agents.xp import hash_uniform
from upwell.model import Decision, Item, Weights
from upwell.regulator import explain, guards, slate
from upwell.world import ranker, world
from upwell.world.arm import Arm, ranker_scores
from upwell.world.config import WorldConfig
from upwell.world.serve import Told
from upwell.world.state import HEATED, Array, WorldState

SAMPLED = 901
DAY_MS = 86_400_000


class Line(NamedTuple):
    """A tick's decisions, ``[S, R]`` or ``[S, R, K]``."""

    question: slate.Question
    picked: slate.Slate
    present: Array
    user_id: Array
    created_day: Array
    held_out: Array
    protected: Array
    content: Array  # i32 [S, R, K], place + generation * M: never twice the same
    explanation: explain.Explanation
    cheat: Array  # bool [S, R, K], proven at this tick
    now_h: Array
    key: Array  # u32


@partial(jax.jit, static_argnames="arm")
def one_tick(config: WorldConfig, arm: Arm, day: world.Day) -> tuple[world.Day, Line]:
    """Live the tick that comes."""
    day, told = world.one_tick(config, arm, day)
    return day, line(told.view.config, arm, told)


def ranker_parts(told: Told) -> Parts:
    """The raw ranker's logits in parts: its picture of user and content, of the content, noise, and what it tries."""
    view, batch = told.view, told.batch
    own = view.config.ranker
    noise = ranker.serving_noise(view.config, view.seed, view.tick_key, batch.ids)[0][:, None, :]
    similarity = own.feedback * own.personal * batch.similarity
    total = ranker_scores(view, batch)
    return {
        "similarity": similarity,
        "record": batch.bias[:, None, :] - noise,
        "noise": noise,
        "trial": jnp.where(batch.tried[:, None, :], total - similarity - batch.bias[:, None, :], 0.0),
    }


def line(config: WorldConfig, arm: Arm, told: Told) -> Line:
    """What the log keeps of a batch. Arms whose heads are sums of parts are explained by them, others as a whole."""
    view, batch, asked, picked = told.view, told.batch, told.question, told.picked
    heated: Parts = {}
    explored: Parts = {}
    if arm.scores is ranker_scores:
        organic = ranker_parts(told)
    elif isinstance(arm.scores, Additive):
        organic = arm.scores.parts(view, batch)
    else:
        organic = {"score": asked.scores / explain.MILLI}
    if asked.grants is not None:
        head, whole = arm.heat, {"score": asked.grants.scores / explain.MILLI}
        heated = head.parts(view, batch, asked.grants.ids) if isinstance(head, Additive) else whole
    if asked.exploration is not None:
        choice, whole = arm.explore, {"preference": asked.exploration.logits}
        explored = choice.parts(view, batch) if isinstance(choice, AdditiveChoice) else whole
    logit, named = explain.contributions(jnp, asked, picked, organic, heated, explored)
    contents, cheat = view.contents, guards.proven_cheat(jnp, view.contents.stats[:, 1], view.contents.stats[:, 2])
    owed = guards.owed_a_chance(
        contents.stats[:, HEATED], view.age_days, view.scale, config.heating.chance, cheat
    )[picked.ids]  # fmt: skip
    return Line(
        question=asked,
        picked=picked,
        present=told.moment.present,
        user_id=told.user_id,
        created_day=batch.users.created_day,
        held_out=told.held_out,
        protected=told.protected,
        content=picked.ids + contents.generation[picked.ids] * config.sizes.contents,
        explanation=explain.Explanation(
            logit, named, explain.reasons(jnp, asked, picked, owed, told.held_out, told.protected)
        ),
        cheat=cheat[picked.ids],
        now_h=told.moment.now_h,
        key=told.moment.key,
    )


def ticks(config: WorldConfig, arm: Arm, state: WorldState) -> Iterator[tuple[world.Day, Line]]:
    """A day under ``arm``, tick by tick: the day after each, and its lines on the host. ``state`` is left untouched."""
    day = jax.jit(world.start_day, static_argnames="arm")(config, arm, state)
    for _ in range(int(day.ticks)):
        day, told = one_tick(config, arm, day)
        yield day, jax.tree.map(np.asarray, told)


def decisions_of(config: WorldConfig, arm: Arm, seed: int, told: Line, share: float) -> Iterator[Decision]:
    """Records of the sampled users of a tick: a fixed share of users, drawn by seed and user."""
    goal = config.goal
    weights = Weights(
        user_satisfaction=float(goal.user_satisfaction),
        platform_revenue=float(goal.platform_revenue),
        long_term=float(goal.long_term),
    )
    version = f"{weights.user_satisfaction:g}/{weights.platform_revenue:g}/{weights.long_term:g}"
    sampled = told.present & (hash_uniform(np, seed, SAMPLED, told.user_id) < share)
    parts = told.explanation.contributions
    for at in zip(*np.nonzero(sampled), strict=True):
        items = tuple(
            Item(
                id=f"c{told.content[at][k]}",
                position=k,
                heated=bool(told.picked.kind[at][k] == slate.HEATED),
                explored=bool(told.picked.kind[at][k] == slate.EXPLORED),
                propensity=float(told.picked.propensity[at][k]),
                stochastic=bool(told.picked.stochastic[at][k]),
                reasons=explain.names(int(told.explanation.reasons[at][k])),
                logit=float(told.explanation.logit[at][k]),
                contributions={name: float(v[at][k]) for name, v in parts.items() if v[at][k] != 0.0},
            )
            for k in range(config.sizes.slate)
        )
        user = int(told.user_id[at])
        yield Decision(
            decision_id=f"{seed}-{int(told.key)}-{user}",
            user_id=f"u{user}-{max(int(told.created_day[at]), 0)}",
            ts=int(float(told.now_h) / 24.0 * DAY_MS),
            items=items,
            arm=arm.name,
            policy_version=f"{arm.name}@{__version__}",
            weights_version=version,
            weights=weights,
        )


def write_last_day(config: WorldConfig, arm: Arm, start: WorldState, days: int, path: Path, share: float = 0.02) -> int:
    """Live ``days`` from ``start`` (left untouched) and write the last one's decisions as JSON lines.

    Returns:
        how many were written. The same start, arm and days give the same file.
    """
    state, seed = jax.tree.map(jnp.copy, start), int(start.seed)
    for _ in range(days - 1):
        state, _ = world.run_day(config, arm, state)
    written = 0
    with files.whole(path) as part, part.open("wb") as out:
        for _, told in ticks(config, arm, state):
            for decision in decisions_of(config, arm, seed, told, share):
                out.write(msgspec.json.encode(decision) + b"\n")
                written += 1
    return written
