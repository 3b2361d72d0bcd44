"""Multi-agent PPO: parameter-shared populations, centralised critics of actions, an advantage for each dial.

Yu et al. 2022, "The Surprising Effectiveness of PPO in Cooperative Multi-Agent Games" (arXiv 2103.01955): each role's
agents share a policy that sees what one agent sees; its critic also sees the platform as a whole; values are normalised
by running moments (there 4.1); agents that did not act are left out. Clipped surrogate and entropy bonus: Schulman et
al. 2017 (arXiv 1707.06347).

The critic is of actions and learns from remembered steps (``learn.replay``), and each dial is credited by what the
critic expects to be lost if that dial alone were left at its mean: Foerster et al. 2018, "Counterfactual Multi-Agent
Policy Gradients" (arXiv 1705.08926, 4), with dials in the place of agents. An advantage estimated from a rollout
carries all that chance did to an agent; a critic's does not, at the price of its bias (Gu et al. 2017, "Interpolated
Policy Gradient", arXiv 1706.00387). States of the last episodes, on all platforms, are learned from together, with
actions drawn anew from the policy as it is: the ratio is to that draw. A platform never ends: there is a discount, no
horizon.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from upwell.agents.dials import ROLES, TURNS
from upwell.agents.network import Layer, Network, Policy, first_policy, forward
from upwell.learn.game import Played, log_density, sample
from upwell.learn.replay import Memory, draw, empty, first_critic, remember, worth
from upwell.world.state import Array


class Rates(NamedTuple):
    """How to learn; the same for every role."""

    learning: float = 3e-3  # of the policy, at first
    halved: float = 4.0  # episodes after which that is half, a third after twice as many: what all do changes what pays
    critic: float = 3e-3
    discount: float = 0.97  # a step of six hours: a day counts for 88%
    follow: float = 0.01  # share by which the target critic moves towards the learned one, an update of it
    clip: float = 0.3
    entropy: float = 5e-2  # a critic learns of a dial only while it is turned
    most_norm: float = 0.5  # of a gradient of the policy
    epochs: int = 4
    batches: int = 8
    drawn: int = 32_768  # states an update learns from, a role
    critic_batch: int = 1_024
    critic_updates: int = 64  # an episode
    memory: int = 65_536  # steps of agents remembered, a role
    kept: int = 8_192  # of these, drawn from each episode
    first_std: float = 0.3  # of an action, of which ±1 is the dial's whole span


class Moments(NamedTuple):
    """Running mean and mean square of what a role's critic is to expect."""

    mean: Array
    square: Array
    weight: Array

    def deviation(self) -> Array:
        return jnp.sqrt(jnp.maximum(self.square - self.mean**2, 1e-6))

    def after(self, found: Array) -> Moments:
        """With values found, the last twenty updates counting for most."""
        weight = jnp.minimum(self.weight + 1.0, 20.0)
        mean = self.mean + (found.mean() - self.mean) / weight
        return Moments(mean, self.square + ((found**2).mean() - self.square) / weight, weight)


def rescaled(critic: Network, old: Moments, new: Moments) -> Network:
    """The critic that expects under the new moments what this one does under the old: otherwise every move of theirs
    would move all values, and these the moments again (van Hasselt et al. 2016, "Learning values across many orders of
    magnitude", arXiv 1602.07714, 2.1).
    """
    last, ratio = critic[-1], old.deviation() / new.deviation()
    bias = last.bias * ratio + (old.mean - new.mean) / new.deviation()
    return (*critic[:-1], Layer(last.weight * ratio, bias))


class Learner(NamedTuple):
    """All that training carries from one update to the next."""

    policy: Policy
    log_std: dict[str, Array]
    critics: dict[str, Network]
    targets: dict[str, Network]  # critics that follow slowly: what comes after a step is theirs to say
    moments: dict[str, Moments]
    optimiser: dict[str, Any]
    memories: dict[str, Memory]
    written: Array  # i32, steps ever remembered, of each role alike


def optimisers(rates: Rates) -> tuple[optax.GradientTransformation, optax.GradientTransformation]:
    """Of a role's policy, and of its critic."""
    steps = rates.halved * rates.epochs * rates.batches
    actor = optax.adam(lambda step: rates.learning / (1.0 + step / steps), eps=1e-5)
    return (
        optax.chain(optax.clip_by_global_norm(rates.most_norm), actor),
        optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rates.critic)),
    )


def first_learner(seed: int, rates: Rates) -> Learner:
    """Policies that play by the rules, critics that expect the mean, empty memories."""
    random = np.random.default_rng([seed, 1])
    policy = jax.tree.map(jnp.asarray, first_policy(seed))
    log_std = {role: jnp.full(len(TURNS[role]), np.float32(np.log(rates.first_std))) for role in ROLES}
    critics = {role: first_critic(random, role) for role in ROLES}
    zero = jnp.float32(0.0)
    actor, critic = optimisers(rates)
    return Learner(
        policy, log_std, critics, jax.tree.map(jnp.copy, critics),
        {role: Moments(zero, zero + 1.0, zero) for role in ROLES},
        {role: (actor.init((getattr(policy, role), log_std[role])), critic.init(critics[role])) for role in ROLES},
        {role: empty(role, rates.memory) for role in ROLES}, jnp.int32(0),
    )  # fmt: skip


def expected(critic: Network, moments: Moments, seen: Array, action: Array, whole: Array) -> Array:
    """What the critic expects of an action from here on, in units of gain, ``[B]``."""
    return moments.mean + moments.deviation() * worth(critic, seen, jnp.clip(action, -1.0, 1.0), whole)


def aims(actor: tuple[Network, Array], target: Network, moments: Moments, b: Memory, rates: Rates, key: Array) -> Array:
    """What the critic is to expect of remembered steps: their gain, and what the policy's next action is worth."""
    action, _ = sample(*actor, b.next_seen, key)
    return b.gain + rates.discount * b.goes_on * expected(target, moments, b.next_seen, action, b.next_whole)


def counterfactual(critic: Network, seen: Array, mean: Array, action: Array, whole: Array) -> Array:
    """What each dial's action is expected to bring over its mean, the others as they are; ``[B, n]``."""
    mean, action = jnp.clip(mean, -1.0, 1.0), jnp.clip(action, -1.0, 1.0)
    taken = worth(critic, seen, action, whole)

    def without(dial: Array) -> Array:
        return taken - worth(critic, seen, jnp.where(dial, mean, action), whole)

    return jax.vmap(without, out_axes=1)(jnp.eye(mean.shape[-1], dtype=bool))


def loss(actor: tuple[Network, Array], b: dict[str, Array], rates: Rates) -> tuple[Array, dict[str, Array]]:
    """Clipped surrogate and entropy over a batch of states ``[B]``.

    Each dial has a ratio of its own, clipped by itself: dials are turned independently, and a bound on their product
    would let eleven of them move a third as far as one.
    """
    policy, log_std = actor
    log_prob = log_density(forward(jnp, policy, b["seen"]), log_std, b["action"])
    ratio = jnp.exp(jnp.clip(log_prob - b["log_prob"], -5.0, 5.0))
    clipped = jnp.clip(ratio, 1.0 - rates.clip, 1.0 + rates.clip)
    surrogate = jnp.minimum(ratio * b["advantage"], clipped * b["advantage"]).sum(-1).mean()
    entropy = (log_std + 0.5 * jnp.log(2.0 * jnp.pi * jnp.e)).sum()
    moved = (b["log_prob"] - log_prob).sum(-1).mean()
    return -surrogate - rates.entropy * entropy, {"surrogate": surrogate, "entropy": entropy, "moved": moved}


@partial(jax.jit, static_argnames="rates")
def update(learner: Learner, played: Played, rates: Rates, key: Array) -> tuple[Learner, dict[str, Any]]:
    """Remember an episode; each role's critic, then its policy, learns from what is remembered."""
    memories = remember(learner.memories, played, learner.written, rates.kept, jax.random.fold_in(key, 1))
    written = learner.written + rates.kept
    filled = jnp.minimum(written, rates.memory)
    after, report = dict[str, Any](), dict[str, Any]()
    for i, role in enumerate(ROLES):
        keys = jax.random.split(jax.random.fold_in(key, 10 + i), 3)
        actor = getattr(learner.policy, role), learner.log_std[role]
        memory, (actor_memory, critic_memory) = memories[role], learner.optimiser[role]
        recent = draw(memory, filled, rates.kept, keys[0])
        old = learner.moments[role]
        moments = old.after(aims(actor, learner.targets[role], old, recent, rates, jax.random.fold_in(keys[0], 1)))
        critic, target = (rescaled(of[role], old, moments) for of in (learner.critics, learner.targets))
        taught = critic, target, critic_memory
        (critic, target, critic_memory), error = teach(taught, actor, moments, memory, filled, rates, keys[1])
        b = draw(memory, filled, rates.drawn, keys[2])
        mean = forward(jnp, actor[0], b.seen)
        action, log_prob = sample(*actor, b.seen, jax.random.fold_in(keys[2], 1))
        advantage = counterfactual(critic, b.seen, mean, action, b.whole)
        states = {
            "seen": b.seen, "action": action, "log_prob": log_prob,
            "advantage": advantage / (jnp.sqrt((advantage**2).mean()) + 1e-6),
        }  # fmt: skip
        (actor, actor_memory), report[role] = learn(actor, actor_memory, states, rates, jax.random.fold_in(keys[2], 2))
        report[role]["value_error"] = error
        after[role] = actor, critic, target, moments, (actor_memory, critic_memory)
    return Learner(
        policy=Policy(**{role: after[role][0][0] for role in ROLES}),
        log_std={role: after[role][0][1] for role in ROLES},
        critics={role: after[role][1] for role in ROLES},
        targets={role: after[role][2] for role in ROLES},
        moments={role: after[role][3] for role in ROLES},
        optimiser={role: after[role][4] for role in ROLES},
        memories=memories,
        written=written,
    ), jax.tree.map(lambda x: x.mean(), report)


def teach(
    taught: tuple[Network, Network, Any], actor: tuple[Network, Array], moments: Moments, memory: Memory,
    filled: Array, rates: Rates, key: Array,
) -> tuple[tuple[Network, Network, Any], Array]:  # fmt: skip
    """The critic, its target and its optimiser's memory after an episode's updates, and its mean error."""
    optimiser = optimisers(rates)[1]

    def one(carry: tuple[Any, Any, Any], key: Array) -> tuple[tuple[Any, Any, Any], Array]:
        critic, target, moving = carry
        b = draw(memory, filled, rates.critic_batch, key)
        aim = aims(actor, target, moments, b, rates, jax.random.fold_in(key, 1))

        def error(network: Network) -> Array:
            off = worth(network, b.seen, b.action, b.whole) - (aim - moments.mean) / moments.deviation()
            return optax.huber_loss(off, delta=5.0).mean()

        off, slope = jax.value_and_grad(error)(critic)
        step, moving = optimiser.update(slope, moving, critic)
        critic = optax.apply_updates(critic, step)
        return (critic, optax.incremental_update(critic, target, rates.follow), moving), off

    return jax.lax.scan(one, taught, jax.random.split(key, rates.critic_updates))


def learn(
    actor: tuple[Network, Array], moving: Any, states: dict[str, Array], rates: Rates, key: Array
) -> tuple[tuple[tuple[Network, Array], Any], dict[str, Array]]:
    """The policy, its spread and its optimiser's memory after each epoch's batches."""
    optimiser = optimisers(rates)[0]

    def one(carry: tuple[Any, Any], part: Array) -> tuple[tuple[Any, Any], dict[str, Array]]:
        current, moving = carry
        slope, report = jax.grad(loss, has_aux=True)(current, {name: x[part] for name, x in states.items()}, rates)
        step, moving = optimiser.update(slope, moving, current)
        return (optax.apply_updates(current, step), moving), report

    orders = [jax.random.permutation(each, rates.drawn) for each in jax.random.split(key, rates.epochs)]
    return jax.lax.scan(one, (actor, moving), jnp.concatenate([o.reshape(rates.batches, -1) for o in orders]))
