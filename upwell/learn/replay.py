"""Remembered steps of a role's agents, and critics that know what an agent did and what all did.

A critic that knows the actions can learn from old steps, whatever policy took them, and so from tens of thousands of
chances where a rollout has one each (Lillicrap et al. 2016, arXiv 1509.02971). With thousands of agents it cannot take
every action; it takes the agent's own and each role's mean, as Yang et al. 2018, "Mean Field Multi-Agent Reinforcement
Learning" (arXiv 1802.05438).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from upwell.agents.dials import ROLES, TURNS
from upwell.agents.network import Network, first_network, forward
from upwell.agents.observe import SEES
from upwell.learn.game import Played, Steps
from upwell.world.gauges import FEATURES
from upwell.world.state import Array

WIDE = len(FEATURES["system"]) + sum(len(TURNS[role]) for role in ROLES)


class Memory(NamedTuple):
    """Steps of a role's agents, ``[memory, …]``, the oldest written over first."""

    seen: Array
    whole: Array  # the platform's gauges, and each role's mean action
    action: Array  # in ±1
    gain: Array
    goes_on: Array
    next_seen: Array
    next_whole: Array


def empty(role: str, many: int) -> Memory:
    sees, turns = len(SEES[role]), len(TURNS[role])
    wide = (many, WIDE)
    return Memory(
        jnp.zeros((many, sees)), jnp.zeros(wide), jnp.zeros((many, turns)), jnp.zeros(many), jnp.zeros(many),
        jnp.zeros((many, sees)), jnp.zeros(wide),
    )  # fmt: skip


def first_critic(random: np.random.Generator, role: str) -> Network:
    """Expects nothing of any action."""
    network = first_network(random, len(SEES[role]) + len(TURNS[role]) + WIDE, 1, (64, 64))
    return jax.tree.map(jnp.asarray, network)


def worth(critic: Network, seen: Array, action: Array, whole: Array) -> Array:
    """What the critic expects of an action, ``[B]``."""
    return forward(jnp, critic, jnp.concatenate([seen, action, whole], axis=-1))[..., 0]


def remember(memories: dict[str, Memory], played: Played, written: Array, kept: int, key: Array) -> dict[str, Memory]:
    """Put ``kept`` steps of each role, drawn from those in which its agents acted, over the oldest ones."""
    means = jnp.concatenate([mean_action(played.steps[role]) for role in ROLES], axis=-1)
    after = dict[str, Memory]()
    for i, role in enumerate(ROLES):
        steps, memory = played.steps[role], memories[role]
        whole = jnp.concatenate([steps.world, means], axis=-1)
        # The last step has no next one to go on to.
        acted = steps.acted[:-1].astype(jnp.float32).reshape(-1)
        drawn = jax.random.choice(jax.random.fold_in(key, i), acted.shape[0], (kept,), p=acted / acted.sum())
        t, who = drawn // steps.gain.shape[1], drawn % steps.gain.shape[1]
        new = Memory(
            steps.seen[t, who], whole[t], jnp.clip(steps.action[t, who], -1.0, 1.0), steps.gain[t, who],
            steps.goes_on[t, who].astype(jnp.float32), steps.seen[t + 1, who], whole[t + 1],
        )  # fmt: skip
        place = (written + jnp.arange(kept)) % memory.gain.shape[0]
        after[role] = Memory(*(old.at[place].set(part) for old, part in zip(memory, new, strict=True)))
    return after


def mean_action(steps: Steps) -> Array:
    """Of the agents that acted, ``[T, n]``."""
    acted = steps.acted[..., None]
    return (jnp.clip(steps.action, -1.0, 1.0) * acted).sum(1) / jnp.maximum(acted.sum(1), 1.0)


def draw(memory: Memory, filled: Array, many: int, key: Array) -> Memory:
    """Steps at random of those remembered."""
    at = jax.random.randint(key, (many,), 0, filled)
    return Memory(*(x[at] for x in memory))
