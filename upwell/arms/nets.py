"""What the learning baselines share: Adam over plain pytrees, so that the base install runs every arm."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from upwell.agents.xp import hash_uniform
from upwell.world.state import Array

Tree = Any


class Moments(NamedTuple):
    """Adam's running means of gradients and of their squares, and the steps so far."""

    mean: Tree
    square: Tree
    steps: Array


def at_rest(params: Tree) -> Moments:
    """Before the first step."""
    zeros = jax.tree.map(jnp.zeros_like, params)
    return Moments(zeros, jax.tree.map(jnp.zeros_like, params), jnp.float32(0.0))


def adam(params: Tree, gradient: Tree, moments: Moments, rate: Array | float) -> tuple[Tree, Moments]:
    """One step of Adam (Kingma & Ba 2015, algorithm 1; beta .9 and .999)."""
    steps = moments.steps + 1.0
    mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, moments.mean, gradient)
    square = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, moments.square, gradient)
    first, second = 1.0 - 0.9**steps, 1.0 - 0.999**steps

    def moved(p: Array, m: Array, v: Array) -> Array:
        return p - rate * (m / first) / (jnp.sqrt(v / second) + 1e-8)

    return jax.tree.map(moved, params, mean, square), Moments(mean, square, steps)


def small(stream: int, shape: tuple[int, ...], spread: float) -> Array:
    """Fixed starting weights, uniform within ±``spread``: the same in every run, whatever its seed."""
    size = 1
    for n in shape:
        size *= n
    u = hash_uniform(jnp, stream, jnp.arange(size)).reshape(shape)
    return spread * (2.0 * u - 1.0)


def cross_entropy(logit: Array, hit: Array | float) -> Array:
    """-log p(hit) for p = sigmoid(logit), any shape."""
    return jnp.logaddexp(0.0, logit) - hit * logit
