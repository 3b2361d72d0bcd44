"""Multi-agent PPO: parameter-shared populations, centralised critics.

Yu et al. 2022, "The Surprising Effectiveness of PPO in Cooperative Multi-Agent Games" (arXiv 2103.01955): each role's
agents share a policy that sees what one agent sees; its critic also sees the platform as a whole; returns are
normalised by running moments (there 4.1); agents that did not act are masked from the policy's loss. Clipped surrogate
and entropy bonus: Schulman et al. 2017 (arXiv 1707.06347). Advantages: generalised advantage estimation, Schulman et
al. 2016 (arXiv 1506.02438), with a discount a step, zero where an agent's life ends; a platform never ends, so the
last step goes on into the critic's value.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from upwell.agents.dials import ROLES, TURNS
from upwell.agents.network import Network, Policy, first_network, first_policy, forward
from upwell.agents.observe import SEES
from upwell.learn.game import Played, Steps, log_density
from upwell.world.gauges import FEATURES
from upwell.world.state import Array


class Rates(NamedTuple):
    """How to learn; the same for every role."""

    learning: float = 1e-2
    discount: float = 0.97  # a step of six hours: a day counts for 88%
    trace: float = 0.2  # lambda: chance over a day and more outweighs what a longer view adds
    clip: float = 0.3
    entropy: float = 1e-3
    value: float = 0.5
    most_norm: float = 0.5  # of a gradient
    epochs: int = 4
    batches: int = 8
    first_std: float = 0.3  # of an action, of which ±1 is the dial's whole span


class Moments(NamedTuple):
    """Running mean and mean square of a role's returns."""

    mean: Array
    square: Array
    weight: Array

    def deviation(self) -> Array:
        return jnp.sqrt(jnp.maximum(self.square - self.mean**2, 1e-6))


class Learner(NamedTuple):
    """All that training carries from one update to the next."""

    policy: Policy
    log_std: dict[str, Array]
    critics: dict[str, Network]
    moments: dict[str, Moments]
    optimiser: Any
    updates: Array  # i32


def optimiser_of(rates: Rates) -> optax.GradientTransformation:
    """Adam for each policy and each critic by itself: a critic's error must not shrink the policies' steps."""
    each: dict[Hashable, optax.GradientTransformation] = {
        f"{role} {part}": optax.chain(optax.clip_by_global_norm(rates.most_norm), optax.adam(rates.learning, eps=1e-5))
        for role in ROLES
        for part in ("policy", "critic")
    }
    return optax.partition(each, {role: (f"{role} policy", f"{role} policy", f"{role} critic") for role in ROLES})


def first_learner(seed: int, rates: Rates) -> Learner:
    """Policies that play by the rules, critics that expect the mean."""
    random = np.random.default_rng([seed, 1])
    policy = jax.tree.map(jnp.asarray, first_policy(seed))
    log_std = {role: jnp.full(len(TURNS[role]), np.float32(np.log(rates.first_std))) for role in ROLES}
    whole = len(FEATURES["system"])
    critics = {
        role: jax.tree.map(jnp.asarray, first_network(random, len(SEES[role]) + whole, 1, (64, 64))) for role in ROLES
    }
    zero = jnp.float32(0.0)
    moments = {role: Moments(zero, zero + 1.0, zero) for role in ROLES}
    optimiser = optimiser_of(rates).init(learned(policy, log_std, critics))
    return Learner(policy, log_std, critics, moments, optimiser, jnp.int32(0))


def learned(policy: Policy, log_std: dict[str, Array], critics: dict[str, Network]) -> dict[str, Any]:
    """What gradients change, by role."""
    return {role: (getattr(policy, role), log_std[role], critics[role]) for role in ROLES}


def values(critic: Network, moments: Moments, steps: Steps) -> Array:
    """The critic's expectation of what is still to be gained, ``[T, N]``."""
    whole = jnp.broadcast_to(steps.world[:, None, :], (*steps.seen.shape[:2], steps.world.shape[-1]))
    out = forward(jnp, critic, jnp.concatenate([steps.seen, whole], axis=-1))[..., 0]
    return moments.mean + moments.deviation() * out


def advantages(value: Array, steps: Steps, rates: Rates) -> tuple[Array, Array]:
    """Generalised advantages and returns, ``[T, N]`` each: the last step's value stands for all that comes after."""

    def back(carry: tuple[Array, Array], step: tuple[Array, Array, Array]) -> tuple[tuple[Array, Array], Array]:
        next_value, next_advantage = carry
        now, gain, goes_on = step
        kept = rates.discount * goes_on
        advantage = gain + kept * next_value - now + kept * rates.trace * next_advantage
        return (now, advantage), advantage

    first = (value[-1], jnp.zeros_like(value[-1]))
    _, advantage = jax.lax.scan(back, first, (value, steps.gain, steps.goes_on), reverse=True)
    return advantage, advantage + value


def loss(
    role_learned: tuple[Network, Array, Network], moments: Moments, sample: dict[str, Array], rates: Rates
) -> tuple[Array, dict[str, Array]]:
    """Clipped surrogate, value error and entropy of one role over a batch of its agents' steps ``[B]``.

    Each dial has a ratio of its own, clipped by itself: dials are turned independently, and a bound on their product
    would let eleven of them move a third as far as one.
    """
    policy, log_std, critic = role_learned
    acted, many = sample["acted"], jnp.maximum(sample["acted"].sum(), 1.0)
    log_prob = log_density(forward(jnp, policy, sample["seen"]), log_std, sample["action"])
    ratio = jnp.exp(jnp.clip(log_prob - sample["log_prob"], -5.0, 5.0))
    clipped = jnp.clip(ratio, 1.0 - rates.clip, 1.0 + rates.clip)
    advantage = sample["advantage"][:, None]
    surrogate = (jnp.minimum(ratio * advantage, clipped * advantage).sum(-1) * acted).sum() / many
    out = forward(jnp, critic, jnp.concatenate([sample["seen"], sample["world"]], axis=-1))[..., 0]
    off = out - (sample["returns"] - moments.mean) / moments.deviation()
    error = (optax.huber_loss(off, delta=5.0) * sample["taught"]).sum() / jnp.maximum(sample["taught"].sum(), 1.0)
    entropy = (log_std + 0.5 * jnp.log(2.0 * jnp.pi * jnp.e)).sum()
    moved = ((sample["log_prob"] - log_prob).sum(-1) * acted).sum() / many
    report = {"surrogate": surrogate, "value_error": error, "entropy": entropy, "moved": moved}
    return -surrogate + rates.value * error - rates.entropy * entropy, report


@partial(jax.jit, static_argnames="rates")
def update(learner: Learner, played: Played, rates: Rates, key: Array) -> tuple[Learner, dict[str, Any]]:
    """Learn from a rollout: each role from its own agents' experience."""
    moments, samples = dict(learner.moments), dict[str, dict[str, Array]]()
    for role in ROLES:
        steps = played.steps[role]
        value = values(learner.critics[role], moments[role], steps)
        advantage, returns = advantages(value, steps, rates)
        acted = steps.acted.astype(jnp.float32)
        taught = jnp.ones_like(acted) if role == "user" else acted
        many = jnp.maximum(acted.sum(), 1.0)
        mean = (advantage * acted).sum() / many
        deviation = jnp.sqrt((((advantage - mean) ** 2) * acted).sum() / many)
        old, weight = moments[role], jnp.minimum(moments[role].weight + 1.0, 20.0)
        now = (returns * taught).sum() / taught.sum(), (returns**2 * taught).sum() / taught.sum()
        moments[role] = Moments(
            old.mean + (now[0] - old.mean) / weight, old.square + (now[1] - old.square) / weight, weight
        )
        whole = jnp.broadcast_to(steps.world[:, None, :], (*advantage.shape, steps.world.shape[-1]))
        flat = {
            "seen": steps.seen, "world": whole, "action": steps.action, "log_prob": steps.log_prob, "acted": acted,
            "taught": taught, "advantage": (advantage - mean) / (deviation + 1e-6), "returns": returns,
        }  # fmt: skip
        samples[role] = {name: x.reshape(advantage.size, *x.shape[2:]) for name, x in flat.items()}

    optimiser = optimiser_of(rates)

    def one_batch(carry: tuple[Any, Any], part: dict[str, Array]) -> tuple[tuple[Any, Any], dict[str, Any]]:
        current, memory = carry
        batch = {role: jax.tree.map(lambda x, r=role: x[part[r]], samples[role]) for role in ROLES}

        def total(everything: dict[str, Any]) -> tuple[Array, dict[str, Any]]:
            each = {role: loss(everything[role], moments[role], batch[role], rates) for role in ROLES}
            return sum((each[role][0] for role in ROLES), jnp.float32(0.0)), {role: each[role][1] for role in ROLES}

        gradient, report = jax.grad(total, has_aux=True)(current)
        step, memory = optimiser.update(gradient, memory, current)
        return (optax.apply_updates(current, step), memory), report

    parts = {role: shuffled(key, i, samples[role]["acted"], rates) for i, role in enumerate(ROLES)}
    start = (learned(learner.policy, learner.log_std, learner.critics), learner.optimiser)
    (after, memory), report = jax.lax.scan(one_batch, start, parts)
    return Learner(
        policy=Policy(**{role: after[role][0] for role in ROLES}),
        log_std={role: after[role][1] for role in ROLES},
        critics={role: after[role][2] for role in ROLES},
        moments=moments,
        optimiser=memory,
        updates=learner.updates + 1,
    ), jax.tree.map(lambda x: x.mean(), report)


def shuffled(key: Array, stream: int, acted: Array, rates: Rates) -> Array:
    """Each epoch's batches of a role, i32 ``[epochs · batches, B]``; those who acted come into all alike."""
    size = acted.shape[0] // rates.batches
    orders = [
        jax.random.permutation(jax.random.fold_in(jax.random.fold_in(key, stream), epoch), acted.shape[0])
        for epoch in range(rates.epochs)
    ]
    return jnp.concatenate([order[: size * rates.batches].reshape(rates.batches, size) for order in orders])
