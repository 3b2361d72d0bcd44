"""The game that the three populations learn: who acts when, what each gains, and a rollout of it.

A step is six hours of the platform's clock. At its start every agent looks at its own state and turns its dials; the
platform then lives by them. Agents of a role share one network, and there are as many of them as users or contents:
each turns its own dials and has its own gain (``learn.gains``), so that a step teaches as much as there are agents.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from upwell.agents import mind
from upwell.agents.content import ContentDials
from upwell.agents.dials import ROLES, TURNS, turned
from upwell.agents.network import Policy, forward
from upwell.agents.system import SystemDials
from upwell.agents.user import UserDials
from upwell.arms.marl import contents_see, users_see
from upwell.arms.rules import Play, by_rules, everything
from upwell.learn.gains import Held, Norms, count, gains, shares, together
from upwell.world import gauges, world
from upwell.world.arm import Batch, View, view_of
from upwell.world.config import WorldConfig
from upwell.world.serve import MIND
from upwell.world.state import Array, WorldState

HOURS = 6
YOUNG_DAYS = 5
"""Content agents are taught up to this age: what is older hardly asks."""


SILENT = -20.0
"""Log of the standard deviation of actions without noise."""


def held_by_users(view: View, batch: Batch) -> UserDials:
    cells = jnp.arange(batch.place.shape[0])[:, None]
    return UserDials(**turned(jnp, "user", view.arm.user[cells, batch.place]))


def held_by_contents(view: View, ids: Array) -> tuple[ContentDials, SystemDials]:
    return (
        ContentDials(**turned(jnp, "content", view.arm.content[ids])),
        SystemDials(**turned(jnp, "system", view.arm.system[ids])),
    )


TRAINED = by_rules("trained", Play(held_by_users, held_by_contents))._replace(study=count)
"""Plays by the actions that ``view.arm`` holds."""


class Steps(NamedTuple):
    """A role's experience, ``[T, N, …]``."""

    seen: Array
    world: Array  # [T, n], what only the critic sees: the platform's gauges
    action: Array  # before it is clipped to ±1
    gain: Array
    acted: Array  # bool [T, N], whether there was an action that mattered
    goes_on: Array  # bool [T, N], false where the agent's life ends with the step


class Played(NamedTuple):
    """An episode, as learners take it."""

    steps: dict[str, Steps]  # by role
    worth: Array  # f32, to all together: mean of users' gains, cold starts counted as they came about
    requests: Array  # of users


def sample(network: Any, log_std: Array, seen: Array, key: Array) -> tuple[Array, Array]:
    """Gaussian actions around the network's, and the log density of each."""
    mean = forward(jnp, network, seen)
    action = mean + jnp.exp(log_std) * jax.random.normal(key, mean.shape)
    return action, log_density(mean, log_std, action)


def log_density(mean: Array, log_std: Array, action: Array) -> Array:
    z = (action - mean) * jnp.exp(-log_std)
    return -0.5 * z * z - log_std - 0.5 * jnp.log(2.0 * jnp.pi)


def goals(config: WorldConfig, state: WorldState, key: Array) -> Array:
    """The goal of each user's agent for an episode, f32 ``[S, U, 3]``.

    Every other agent has the platform's, the others each their own, evenly over the simplex: a goal for each episode
    would take hundreds of them to learn what changes with the goal.
    """
    shape = state.users.satisfaction.shape
    drawn = jax.random.dirichlet(key, jnp.ones(3), shape)
    own = jnp.arange(shape[1])[None, :, None] % 2 == 0
    return jnp.where(own, shares(config), drawn)


def empty(state: WorldState, weights: Array) -> Held:
    """All dials alone, nothing counted."""
    users, many = state.users.satisfaction.shape, state.contents.generation.shape[0]
    of = {role: len(TURNS[role]) for role in ROLES}
    counted = ("asked", "enjoyed", "broadly", "money", "wider", "credit")
    return Held(
        weights, jnp.zeros((*users, of["user"])), jnp.zeros((many, of["content"])), jnp.zeros((many, of["system"])),
        **{name: jnp.zeros(users) for name in counted}, views=jnp.zeros(many), heated_views=jnp.zeros(many),
    )  # fmt: skip


@jax.jit
def live(
    config: WorldConfig,
    policy: Policy,
    log_std: dict[str, Array],
    norms: Norms,
    running: gauges.Running,
    day: world.Day,
    until_h: Array,
    key: Array,
) -> tuple[world.Day, gauges.Running, Played]:
    """One step: everybody acts, the platform lives by it. What is played is ``[N, …]`` for each role."""
    state = day.state
    view = view_of(config, state, jnp.uint32(0))
    since_h = 24.0 * state.day + until_h - HOURS - state.users.visited_h
    present = state.users._replace(mind=mind.recover(jnp, state.users.mind, since_h, MIND))
    weights = state.arm.weights
    user_weights = weights[..., 0], weights[..., 1], weights[..., 2]
    see = {"user": users_see(view, present, user_weights), "content": contents_see(view, everything(view))}
    see["system"] = see["content"]
    acts = {
        role: sample(getattr(policy, role), log_std[role], see[role], jax.random.fold_in(key, i))[0]
        for i, role in enumerate(ROLES)
    }
    clipped = {role: jnp.clip(action, -1.0, 1.0) for role, action in acts.items()}
    before = day._replace(state=state._replace(arm=empty(state, weights)._replace(**clipped)))
    after = world.run_until(config, TRAINED, before, until_h)
    lived = gauges.stretch(config, before, after)
    seen_by_critic = gauges.observe(config, after, lived, running, until_h)["system"]
    worth = gains(config, norms, before, after)
    young = view.age_days < YOUNG_DAYS
    acted = {"user": after.state.arm.asked > 0, "content": young, "system": young}
    lasting = jnp.ones(present.satisfaction.shape, bool)
    old_next = (until_h >= 24.0) & (view.age_days + 1 >= YOUNG_DAYS)
    goes_on = {"user": lasting, "content": ~old_next, "system": ~old_next}
    steps = {
        role: Steps(
            see[role].reshape(-1, see[role].shape[-1]), seen_by_critic,
            acts[role].reshape(-1, acts[role].shape[-1]),
            worth[role].reshape(-1), acted[role].reshape(-1), goes_on[role].reshape(-1),
        )
        for role in ROLES
    }  # fmt: skip
    running = gauges.means_after(running, after, lived, jnp.asarray(False))
    played = Played(steps, together(config, norms, before, after), after.state.arm.asked.sum())
    return after, running, played


@jax.jit
def wake(config: WorldConfig, state: WorldState) -> world.Day:
    return world.start_day(config, TRAINED, state)


@jax.jit
def sleep(config: WorldConfig, day: world.Day) -> WorldState:
    return world.finish_day(config, day)[0]


def episode(
    config: WorldConfig,
    policy: Policy,
    log_std: dict[str, Array],
    start: WorldState,
    norms: Norms,
    days: int,
    seed: int,
) -> Played:
    """Some days of a burnt-in platform under the policy with noise, steps ``[T, N, …]``.

    Args:
        start: left untouched. Its own chances are replaced by those of ``seed``.
    """
    state = jax.tree.map(jnp.copy, start)._replace(seed=jnp.uint32(seed))
    key, parts = jax.random.key(seed), list[Played]()
    state = state._replace(arm=empty(state, goals(config, state, jax.random.fold_in(key, 1 << 20))))
    running: gauges.Running | None = None
    for day_number in range(days):
        day = wake(config, state)
        running = gauges.first_means(day) if running is None else running
        for part in range(24 // HOURS):
            now = jax.random.fold_in(key, day_number * 24 + part)
            until = jnp.float32(HOURS * (part + 1))
            day, running, played = live(config, policy, log_std, norms, running, day, until, now)
            parts.append(played)
        state = sleep(config, day)
    steps = jax.tree.map(lambda *each: np.stack([np.asarray(x) for x in each]), *(part.steps for part in parts))
    worth, requests = (np.sum([float(of) for of in each]) for each in zip(*(p[1:] for p in parts), strict=True))
    return Played(steps, jnp.float32(worth), jnp.int32(requests))
