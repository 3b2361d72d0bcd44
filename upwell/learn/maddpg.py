"""Multi-agent DDPG: the comparison that multi-agent PPO replaced.

Lowe et al. 2017, "Multi-Agent Actor-Critic for Mixed Cooperative-Competitive Environments" (arXiv 1706.02275): actors
that put out one action for what they see, and critics that know what all do. With thousands of agents a critic cannot
take every action; it takes the agent's own and each role's mean, as Yang et al. 2018, "Mean Field Multi-Agent
Reinforcement Learning" (arXiv 1802.05438). Replay, target networks and their slow following as in Lillicrap et al. 2016
(arXiv 1509.02971). The game, the networks of the actors and their first state are those of ``mappo``.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from upwell.agents.dials import ROLES, TURNS
from upwell.agents.network import Network, Policy, first_policy, forward
from upwell.learn.game import Played
from upwell.learn.replay import Memory, draw, empty, first_critic, remember, worth
from upwell.world.state import Array


class Rates(NamedTuple):
    """How to learn; the same for every role."""

    actor: float = 1e-3
    critic: float = 3e-3
    discount: float = 0.97
    follow: float = 0.01  # share by which target networks move towards the learned ones, an update
    noise: float = 0.3  # standard deviation of the actions' noise, of which ±1 is the dial's whole span
    batch: int = 1_024
    updates: int = 64  # an episode
    memory: int = 65_536  # steps of agents remembered, a role
    kept: int = 8_192  # of these, drawn from each episode


class Learner(NamedTuple):
    """All that training carries from one update to the next."""

    policy: Policy
    log_std: dict[str, Array]  # of the noise; never learned
    critics: dict[str, Network]
    target_policy: Policy
    target_critics: dict[str, Network]
    optimiser: Any
    memories: dict[str, Memory]
    written: Array  # i32, steps ever remembered, of each role alike


def optimisers(rates: Rates) -> tuple[optax.GradientTransformation, optax.GradientTransformation]:
    clip = optax.clip_by_global_norm(1.0)
    return optax.chain(clip, optax.adam(rates.actor)), optax.chain(clip, optax.adam(rates.critic))


def first_learner(seed: int, rates: Rates) -> Learner:
    """Actors that play by the rules, critics that expect nothing, an empty memory."""
    random = np.random.default_rng([seed, 2])
    policy = jax.tree.map(jnp.asarray, first_policy(seed))
    critics = {role: first_critic(random, role) for role in ROLES}
    memories = {role: empty(role, rates.memory) for role in ROLES}
    log_std = {role: jnp.full(len(TURNS[role]), np.float32(np.log(rates.noise))) for role in ROLES}
    actor, critic = optimisers(rates)
    moments = {role: (actor.init(getattr(policy, role)), critic.init(critics[role])) for role in ROLES}
    copy = jax.tree.map(jnp.copy, (policy, critics))
    return Learner(policy, log_std, critics, copy[0], copy[1], moments, memories, jnp.int32(0))


def act(network: Network, seen: Array) -> Array:
    return jnp.clip(forward(jnp, network, seen), -1.0, 1.0)


@partial(jax.jit, static_argnames="rates")
def update(learner: Learner, played: Played, rates: Rates, key: Array) -> tuple[Learner, dict[str, Any]]:
    """Remember an episode, then learn from draws of what is remembered."""
    memories = remember(learner.memories, played, learner.written, rates.kept, key)
    written = learner.written + rates.kept
    filled = jnp.minimum(written, rates.memory)
    actor, critic = optimisers(rates)
    place_key = jax.random.fold_in(key, len(ROLES))

    def one(carry: dict[str, Any], number: Array) -> tuple[dict[str, Any], dict[str, Any]]:
        after, report = dict[str, Any](), dict[str, Any]()
        for i, role in enumerate(ROLES):
            policy, value, old_policy, old_value, (moments, value_moments) = carry[role]
            b = draw(memories[role], filled, rates.batch, jax.random.fold_in(jax.random.fold_in(place_key, i), number))
            then = worth(old_value, b.next_seen, act(old_policy, b.next_seen), b.next_whole)
            aim = b.gain + rates.discount * b.goes_on * then

            def error(network: Network, b: Memory = b, aim: Array = aim) -> Array:
                return optax.huber_loss(worth(network, b.seen, b.action, b.whole), aim).mean()

            def loss(network: Network, b: Memory = b, value: Network = value) -> Array:
                return -worth(value, b.seen, act(network, b.seen), b.whole).mean()

            off, slope = jax.value_and_grad(error)(value)
            step, value_moments = critic.update(slope, value_moments, value)
            value = optax.apply_updates(value, step)
            surrogate, slope = jax.value_and_grad(loss)(policy)
            step, moments = actor.update(slope, moments, policy)
            policy = optax.apply_updates(policy, step)
            old_policy = optax.incremental_update(policy, old_policy, rates.follow)
            old_value = optax.incremental_update(value, old_value, rates.follow)
            after[role] = (policy, value, old_policy, old_value, (moments, value_moments))
            report[role] = {"surrogate": -surrogate, "value_error": off}
        return after, report

    start = {
        role: (
            getattr(learner.policy, role), learner.critics[role], getattr(learner.target_policy, role),
            learner.target_critics[role], learner.optimiser[role],
        )
        for role in ROLES
    }  # fmt: skip
    after, report = jax.lax.scan(one, start, jnp.arange(rates.updates))
    return Learner(
        policy=Policy(**{role: after[role][0] for role in ROLES}),
        log_std=learner.log_std,
        critics={role: after[role][1] for role in ROLES},
        target_policy=Policy(**{role: after[role][2] for role in ROLES}),
        target_critics={role: after[role][3] for role in ROLES},
        optimiser={role: after[role][4] for role in ROLES},
        memories=memories,
        written=written,
    ), jax.tree.map(lambda x: x.mean(), report)
