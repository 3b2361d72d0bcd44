"""Evolution strategies: the check that MAPPO learns from its gradients at all. It must not do better in the same time.

Salimans et al. 2017 (arXiv 1703.03864): all weights are moved at once in a random direction and in the opposite one
(antithetic pairs), each for an episode of the same platform with the same chances, and follow the directions that the
whole population gained by. It knows nothing of agents, steps, critics or actions; the networks and the game are those
of ``mappo``, and what an episode is worth is what it brought to all users together.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from upwell.agents.dials import ROLES, TURNS
from upwell.agents.network import Policy, first_policy
from upwell.learn.game import SILENT, Played
from upwell.world.state import Array


class Rates(NamedTuple):
    """How to learn."""

    learning: float = 0.03
    std: float = 0.05  # of the weights' move
    pairs: int = 6  # a step


class Learner(NamedTuple):
    """All that training carries from one episode to the next."""

    policy: Policy
    log_std: dict[str, Array]  # of actions: none
    direction: Policy  # of the pair that is played
    first: Array  # f32, what the pair's first episode was worth
    slope: Policy  # of the pairs so far
    optimiser: Any
    played: Array  # i32, episodes


def optimiser_of(rates: Rates) -> optax.GradientTransformation:
    return optax.adam(rates.learning)


def first_learner(seed: int, rates: Rates) -> Learner:
    """A policy that plays by the rules."""
    policy = jax.tree.map(jnp.asarray, first_policy(seed))
    silent = {role: jnp.full(len(TURNS[role]), np.float32(SILENT)) for role in ROLES}
    none = jax.tree.map(jnp.zeros_like, policy)
    direction = drawn(policy, jax.random.key(seed))
    zero = jnp.int32(0)
    return Learner(policy, silent, direction, jnp.float32(0.0), none, optimiser_of(rates).init(policy), zero)


def drawn(policy: Policy, key: Array) -> Policy:
    """A direction: standard normals in the shape of the policy."""
    leaves, tree = jax.tree.flatten(policy)
    keys = jax.random.split(key, len(leaves))
    return jax.tree.unflatten(tree, [jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)])


def plays(learner: Learner, rates: Rates) -> Policy:
    """The policy of the coming episode: a step along the direction, then one the other way."""
    way = rates.std * (1.0 - 2.0 * (learner.played % 2))
    return jax.tree.map(lambda x, e: x + way * e, learner.policy, learner.direction)


def update(learner: Learner, played: Played, rates: Rates, key: Array) -> tuple[Learner, dict[str, Any]]:
    """Learn from an episode under ``plays``: a pair gives a slope, ``rates.pairs`` of them a step."""
    now, many = played.worth, int(learner.played) + 1
    report = {role: {"worth": now} for role in ROLES}
    if many % 2:
        return learner._replace(first=now, played=jnp.int32(many)), report
    part = (learner.first - now) / (2.0 * rates.std * rates.pairs)
    slope = jax.tree.map(lambda s, e: s + part * e, learner.slope, learner.direction)
    learner = learner._replace(slope=slope, direction=drawn(learner.policy, key), played=jnp.int32(many))
    if many % (2 * rates.pairs):
        return learner, report
    step, optimiser = optimiser_of(rates).update(jax.tree.map(jnp.negative, slope), learner.optimiser)
    return learner._replace(
        policy=optax.apply_updates(learner.policy, step),
        optimiser=optimiser,
        slope=jax.tree.map(jnp.zeros_like, slope),
    ), report
