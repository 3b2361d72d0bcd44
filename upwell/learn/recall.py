"""How often a model ranks what a user really engaged next among its first 20, and how sure that is."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from upwell.agents.encoder import Encoder, encode
from upwell.agents.encoder_parts import Array, Events, Shape
from upwell.learn.encode import Learner, events_of
from upwell.learn.sequences import Sequences

BATCH = 64


@eqx.filter_jit
def encodings(learner: Learner, vectors: Array, events: Events, length: Array) -> Array:
    """Encodings f32 ``[B, content]`` after the first ``length`` ``[B]`` of events ``[B, T]``, as the model serves."""
    reader = learner.reader
    if isinstance(reader, Encoder):
        return encode(reader, vectors, events, length)[1]
    out = jax.vmap(reader.outputs, (None, 0))(vectors, events)
    return out[jnp.arange(len(length)), length - 1]


def ranks(learner: Learner, data: Sequences, shape: Shape, split: str) -> npt.NDArray[np.int64]:
    """Rank of each user's held-out content among all that could be the answer, 0 the best, ``[U]``."""
    vectors = learner.contents.vectors(jnp.asarray(data.features))
    size, users = shape.fitting(data.row.shape[1]), len(data.row)
    out = np.zeros(users, np.int64)
    for first in range(0, users, BATCH):
        who = np.arange(first, first + BATCH).clip(max=users - 1)
        length = jnp.asarray(data.ends[split][who])
        found = encodings(learner, vectors, events_of(data, who, size), length)
        scores = np.asarray(found @ vectors.T + learner.contents.bias)
        scores = np.where(data.barred[split][who], -np.inf, scores)
        held = scores[np.arange(BATCH), data.held[split][who]]
        out[who] = (scores > held[:, None]).sum(1)
    return out


def recall(found: npt.NDArray[Any], k: int = 20) -> float:
    """Share of users whose held-out content is among the first ``k``."""
    return float((found < k).mean())


def interval(hits: npt.NDArray[np.float64], draws: int = 4_000) -> tuple[float, float, float]:
    """Mean of ``[U]`` and its 95% interval: percentiles of the bootstrap over users (Efron & Tibshirani, 1993, ch. 13).

    With several training seeds give each user's mean over seeds: users are drawn, seeds are averaged.
    """
    rng = np.random.default_rng(0)
    means = np.array([hits[rng.integers(0, len(hits), len(hits))].mean() for _ in range(draws)])
    low, high = np.percentile(means, [2.5, 97.5])
    return float(hits.mean()), float(low), float(high)
