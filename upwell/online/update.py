"""User agents learn from logged traffic: PPO on actions that were taken, by the chances that were logged.

As in training (``learn.mappo``): a critic of actions learns from all that is remembered, and each dial is credited with
what the critic expects to be lost without its turn. But a platform's users cannot be asked again: the actions are those
of the log, the ratio is to the density they were logged with, and where the policy has moved too far from that it is
clipped and teaches nothing.

Each update begins with the policy that is live, and ends near it: an update of an update that no user ever got would
learn of traffic that has less and less to do with it, and the gate could say nothing of it either.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from upwell.agents.network import Network, forward
from upwell.agents.xp import Array
from upwell.learn import mappo
from upwell.learn.game import log_density
from upwell.learn.mappo import Moments
from upwell.learn.replay import WIDE, Memory, first_critic
from upwell.online.experience import Step

RATES = mappo.Rates(entropy=0.0, critic_batch=1_024, critic_updates=256)
LEARNING, EPOCHS, BATCH = 3e-4, 8, 512
"""A tenth of training's step: what is learned of is what chance made of it, and users are real."""
FURTHEST = 0.5
"""Mean divergence from the live policy, in nats, at which an update ends: means a deviation of the noise apart, all
dials together. At ``d`` the gate's weights are worth exp(-2d) of its steps, a good third."""


class Logged(NamedTuple):
    """Steps as arrays f32 ``[N, …]``."""

    seen: Array
    action: Array  # before it is clipped to ±1
    noise: Array  # standard normal
    gain: Array
    goes_on: Array
    next_seen: Array


class Judge(NamedTuple):
    """What is carried from one update to the next: what actions are expected to bring."""

    critic: Network
    target: Network
    moments: Moments
    optimiser: Any


def arrays_of(steps: list[Step]) -> Logged:
    """Steps of the log as arrays."""
    here = [step.next_seen is not None for step in steps]
    return Logged(
        np.stack([step.seen for step in steps]),
        np.stack([step.action for step in steps]),
        np.stack([step.noise for step in steps]),
        np.array([step.gain for step in steps], np.float32),
        np.array(here, np.float32),
        np.stack([step.seen if step.next_seen is None else step.next_seen for step in steps]),
    )


def actor_optimiser() -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(RATES.most_norm), optax.adam(LEARNING))


def first_judge(seed: int) -> Judge:
    """Expects nothing of any action."""
    critic = first_critic(np.random.default_rng([seed, 5]), "user")
    zero = jnp.float32(0.0)
    moments = Moments(zero, zero + 1.0, zero)
    return Judge(critic, jax.tree.map(jnp.copy, critic), moments, mappo.optimisers(RATES)[1].init(critic))


@partial(jax.jit, static_argnames="deviation")
def update(
    judge: Judge, live: Network, logged: Logged, deviation: float, key: Array
) -> tuple[Judge, Network, dict[str, Array]]:
    """The critic learns from the steps, and then a policy that begins with the live one.

    Args:
        deviation: of the noise, the same for every dial.
    """
    many = logged.gain.shape[0]
    nothing = jnp.zeros((many, WIDE))  # what training's critic is told of the platform as a whole
    memory = Memory(
        logged.seen, nothing, jnp.clip(logged.action, -1.0, 1.0), logged.gain, logged.goes_on, logged.next_seen, nothing
    )
    log_std = jnp.full(logged.action.shape[-1], jnp.log(deviation), jnp.float32)
    actor, old = (live, log_std), judge.moments
    keys = jax.random.split(key, 3)
    moments = old.after(mappo.aims(actor, judge.target, old, memory, RATES, keys[0]))
    critic, target = (mappo.rescaled(of, old, moments) for of in (judge.critic, judge.target))
    (critic, target, critic_memory), error = mappo.teach(
        (critic, target, judge.optimiser), actor, moments, memory, jnp.int32(many), RATES, keys[1]
    )
    mean = forward(jnp, live, logged.seen)
    advantage = mappo.counterfactual(critic, logged.seen, mean, logged.action, nothing)
    states = {
        "seen": logged.seen,
        "mean": mean,
        "action": logged.action,
        "log_prob": log_density(jnp.zeros(()), log_std, deviation * logged.noise),
        "advantage": advantage / (jnp.sqrt((advantage**2).mean()) + 1e-6),
    }
    optimiser = optax.chain(optax.clip_by_global_norm(RATES.most_norm), optax.adam(LEARNING))

    def one(carry: tuple[Any, Any], part: Array) -> tuple[tuple[Any, Any], dict[str, Array]]:
        user, moving = carry
        batch = {name: x[part] for name, x in states.items()}
        apart = ((forward(jnp, user, batch["seen"]) - batch["mean"]) ** 2).sum(-1).mean() / (2.0 * deviation**2)
        slope, report = jax.grad(lambda u: mappo.loss((u, log_std), batch, RATES), has_aux=True)(user)
        step, moving = optimiser.update(slope, moving, user)
        near = jnp.where(apart < FURTHEST, 1.0, 0.0)
        return (jax.tree.map(lambda x, dx: x + near * dx, user, step), moving), report | {"apart": apart}

    parts = jax.random.randint(keys[2], (max(EPOCHS * many // BATCH, 1), min(BATCH, many)), 0, many)
    user = jax.tree.map(jnp.asarray, live)
    (user, _), report = jax.lax.scan(one, (user, optimiser.init(user)), parts)
    told = {"surrogate": report["surrogate"].mean(), "apart": report["apart"][-1], "value_error": error.mean()}
    return Judge(critic, target, moments, critic_memory), user, told
