"""What is served by TensorFlow: models, each with named functions of a batch, and random inputs to try them on.

A role's network has ``forward``, which ``upwell serve`` asks for, and ``dials``, the same turned and by name. The
encoder has ``read``, the encoding after the recent events, and ``fold``, the memory after one more chunk of older ones:
who keeps a user's memory and recent events can encode without Upwell. Contents come as their vectors, with each event.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from upwell.agents import network
from upwell.agents.encoder import Encoder
from upwell.agents.encoder_parts import Events, Shape
from upwell.agents.network import MODEL, PUTS_OUT_AS, SEES_AS, SIGNATURE, Network, Policy
from upwell.agents.observe import LIMIT, SEES
from upwell.agents.xp import Array

Arrays = dict[str, Array]

BATCHES = (1, 2, 4, 8, 16, 32, 64)
"""Rows of what a service asks for at requests. A server compiles a network when a number of rows first comes."""


class Signature(NamedTuple):
    """A function of a batch."""

    apply: Callable[[Any, Arrays], Arrays]  # of the model's parameters and inputs by name, over JAX
    native: Callable[[Arrays], Arrays]  # what Upwell itself works out, which it must equal
    inputs: Callable[[np.random.Generator, int], Arrays]  # so many random ones
    warm_up: tuple[int, ...] = (1,)  # rows of the requests that a server tries itself on before it serves the model


class Model(NamedTuple):
    """What is served under one name. The first of its signatures is the default."""

    name: str
    parameters: Any  # a pytree of arrays
    signatures: dict[str, Signature]


def of_policy(policy: Policy) -> list[Model]:
    """A model of each role's network."""
    return [of_role(role, own) for role, own in policy._asdict().items()]


def of_role(role: str, own: Network) -> Model:
    """The network of one role's agents."""

    def forward(xp: Any, layers: Network, of: Arrays) -> Arrays:
        return {PUTS_OUT_AS: network.forward(xp, layers, of[SEES_AS])}

    def dials(xp: Any, layers: Network, of: Arrays) -> Arrays:
        return network.dials(xp, role, layers, of[SEES_AS])

    def seen(random: np.random.Generator, n: int) -> Arrays:
        return {SEES_AS: random.uniform(-LIMIT, LIMIT, (n, len(SEES[role]))).astype(np.float32)}

    def signature(one: Callable[..., Arrays]) -> Signature:
        return Signature(partial(one, jnp), partial(one, np, own), seen)

    at_requests = signature(forward)._replace(warm_up=BATCHES if role == "user" else (1,))
    return Model(MODEL.format(role=role), own, {SIGNATURE: at_requests, "dials": signature(dials)})


def of_encoder(model: Encoder) -> Model:
    """The behaviour encoder's two halves, by its weights."""
    weights, static = eqx.partition(model, eqx.is_array)

    def signature(one: Callable[[Encoder, Arrays], Arrays], inputs: Callable[..., Arrays]) -> Signature:
        def apply(parameters: Any, of: Arrays) -> Arrays:
            return jax.vmap(partial(one, eqx.combine(parameters, static)))(of)

        native = jax.jit(partial(apply, weights))
        return Signature(apply, lambda of: jax.tree.map(np.asarray, native(of)), partial(inputs, model.shape))

    return Model("encoder", weights, {"read": signature(read, to_read), "fold": signature(fold, to_fold)})


def read(model: Encoder, of: Arrays) -> Arrays:
    """Encoding f32 ``[content]`` of a user with this memory after the first ``count`` of the events of a window."""
    return {"encoding": model.read(of["memory"], model.see(of["vector"], events_of(of)), of["count"])}


def fold(model: Encoder, of: Arrays) -> Arrays:
    """Memory f32 ``[memory]`` after a chunk of events."""
    return {"memory": model.compress(of["memory"], model.see(of["vector"], events_of(of)).token)}


def events_of(of: Arrays) -> Events:
    """Events ``[T]``, their contents being rows of ``vector`` ``[T, content]``, where they are known."""
    row = jnp.where(of["known"], jnp.arange(len(of["known"])), -1)
    return Events(row, of["tag"], of["gap_s"], of["dwell_s"], of["clicked"])


def to_read(shape: Shape, random: np.random.Generator, n: int) -> Arrays:
    count = random.integers(0, shape.window + 1, n).astype(np.int32)
    return histories(shape, shape.window, random, n) | {"count": count}


def to_fold(shape: Shape, random: np.random.Generator, n: int) -> Arrays:
    return histories(shape, shape.chunk, random, n)


def histories(shape: Shape, events: int, random: np.random.Generator, n: int) -> Arrays:
    """Memories and ``events`` events of ``n`` users."""
    at = (n, events)
    return {
        "memory": np.tanh(random.normal(size=(n, shape.memory))).astype(np.float32),
        "vector": (random.normal(size=(*at, shape.content)) / np.sqrt(shape.content)).astype(np.float32),
        "known": random.random(at) < 0.9,
        "tag": random.integers(0, shape.tags, at).astype(np.int32),
        "gap_s": random.exponential(3_600.0, at).astype(np.float32),
        "dwell_s": random.exponential(20.0, at).astype(np.float32),
        "clicked": random.random(at) < 0.3,
    }
