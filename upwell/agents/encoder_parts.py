"""Parts of the behaviour encoder, and the sizes and events they go by; what they make together is in ``encoder``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array
FEATURES = 4


@dataclass(frozen=True)
class Shape:
    """Sizes of an encoder."""

    content: int = 64  # dimensions of contents' vectors, and of the encoding
    tags: int = 64
    width: int = 64  # of the Transformer
    heads: int = 2
    layers: int = 1
    memory: int = 64  # floats that all older events are folded into
    slots: int = 2  # tokens that the Transformer reads the memory as
    recent: int = 50  # events always read as they are
    chunk: int = 10  # events folded at a time

    def __post_init__(self) -> None:
        if self.recent % self.chunk:
            raise ValueError(f"recent ({self.recent}) must be a multiple of chunk ({self.chunk})")

    @property
    def window(self) -> int:
        """Most events read as they are."""
        return self.recent + self.chunk

    def fitting(self, events: int) -> int:
        """The least length of arrays that holds so many events in whole windows."""
        return self.chunk + self.recent * max(1, -(-(events - self.chunk) // self.recent))

    def folded(self, events: Array) -> Array:
        """How many of a sequence's ``events`` are in memory after the last of them."""
        return self.chunk * -(-jnp.maximum(events - self.window, 0) // self.chunk)


class Events(NamedTuple):
    """What a user did, in order of time, ``[..., T]`` each."""

    row: Array  # i32, of the content in the table of vectors; -1: not known
    tag: Array  # i32 in [0, tags)
    gap_s: Array  # f32, seconds since the event before; 0 for the first
    dwell_s: Array  # f32, seconds
    clicked: Array  # bool


class Seen(NamedTuple):
    """Events as the model sees them, ``[..., T]`` leading."""

    token: Array  # f32 [..., width]
    vector: Array  # f32 [..., content], of its content; 0: not known
    engaged: Array  # bool [...], clicked, and its content known


class Embedder(eqx.Module):
    """One event as a token."""

    mix: eqx.nn.Linear
    tag: eqx.nn.Embedding
    norm: eqx.nn.LayerNorm

    def __init__(self, shape: Shape, key: Array) -> None:
        first, second = jax.random.split(key)
        self.mix = eqx.nn.Linear(2 * shape.content + FEATURES, shape.width, key=first)
        self.tag = eqx.nn.Embedding(weight=0.02 * jax.random.normal(second, (shape.tags, shape.width)))
        self.norm = eqx.nn.LayerNorm(shape.width)

    def __call__(self, table: Array, event: Events) -> Seen:
        """One event as seen by the rest, given vectors f32 ``[M, content]``. Times count by their logarithm."""
        vector = jnp.where(event.row >= 0, table[jnp.maximum(event.row, 0)], 0.0)
        clicked = event.clicked.astype(jnp.float32)
        gap, dwell = jnp.log1p(event.gap_s) / 12.0, jnp.log1p(event.dwell_s) / 6.0  # a day's gap, 6 minutes: about 1
        features = jnp.stack([gap, dwell, clicked, clicked * dwell])
        token = self.norm(self.mix(jnp.concatenate([vector, clicked * vector, features])) + self.tag(event.tag))
        return Seen(token, vector, event.clicked & (event.row >= 0))


class Compressor(eqx.Module):
    """Folds chunks of tokens into the memory."""

    gate: eqx.nn.Linear
    value: eqx.nn.Linear
    cell: eqx.nn.GRUCell

    def __init__(self, shape: Shape, key: Array) -> None:
        gate, value, cell, slow = jax.random.split(key, 4)
        self.gate = eqx.nn.Linear(shape.width, shape.memory, key=gate)
        self.value = eqx.nn.Linear(shape.width, shape.memory, key=value)
        made = eqx.nn.GRUCell(shape.memory, shape.memory, key=cell)
        # Equinox's gates are stacked reset, update, new; an update gate near 1 keeps what there was.
        chunks = jax.random.uniform(slow, (shape.memory,), minval=1.0, maxval=1000.0 / shape.chunk)
        assert made.bias is not None
        bias = made.bias.at[shape.memory : 2 * shape.memory].set(jnp.log(chunks))
        self.cell = eqx.tree_at(lambda cell: cell.bias, made, bias)

    def __call__(self, memory: Array, tokens: Array) -> Array:
        """Memory f32 ``[memory]`` after a chunk of tokens ``[chunk, width]``."""
        gated = jax.nn.sigmoid(jax.vmap(self.gate)(tokens)) * jnp.tanh(jax.vmap(self.value)(tokens))
        return self.cell(gated.mean(0), memory)

    def over(self, memory: Array, tokens: Array) -> Array:
        """Memories f32 ``[K + 1, memory]`` before and after each of K chunks ``[K, chunk, width]``."""

        def fold(memory: Array, chunk: Array) -> tuple[Array, Array]:
            after = self(memory, chunk)
            return after, after

        return jnp.concatenate([memory[None], lax.scan(fold, memory, tokens)[1]])


def turned(x: Array, at: Array) -> Array:
    """Heads ``[N, heads, d]`` turned by places ``[N]``: only distance counts (Su et al., arXiv 2104.09864, eq. 34)."""
    half = x.shape[-1] // 2
    angle = at[:, None, None] * 10_000.0 ** (-jnp.arange(half) / half)
    a, b = x[..., :half], x[..., half:]
    return jnp.concatenate([a * jnp.cos(angle) - b * jnp.sin(angle), a * jnp.sin(angle) + b * jnp.cos(angle)], axis=-1)


class Block(eqx.Module):
    """Attention and a layer of twice the width, each added to what it read."""

    before: eqx.nn.LayerNorm
    attention: eqx.nn.MultiheadAttention
    between: eqx.nn.LayerNorm
    up: eqx.nn.Linear
    down: eqx.nn.Linear

    def __init__(self, width: int, heads: int, key: Array) -> None:
        attention, up, down = jax.random.split(key, 3)
        self.before, self.between = eqx.nn.LayerNorm(width), eqx.nn.LayerNorm(width)
        self.attention = eqx.nn.MultiheadAttention(heads, width, key=attention)
        self.up = eqx.nn.Linear(width, 2 * width, key=up)
        self.down = eqx.nn.Linear(2 * width, width, key=down)

    def __call__(self, x: Array, mask: Array, last: Array | None = None) -> Array:
        """``x`` ``[N, width]`` after the block; only its row ``last`` (``[1, width]``) where that is given."""
        read = jax.vmap(self.before)(x)
        places = jnp.arange(x.shape[0])
        asking = places if last is None else last[None]

        def turn(query: Array, key: Array, value: Array) -> tuple[Array, Array, Array]:
            return turned(query, asking), turned(key, places), value

        x, mask = x[asking], mask[asking]
        x = x + self.attention(read[asking], read, read, mask, process_heads=turn)
        wide = jax.nn.gelu(jax.vmap(self.up)(jax.vmap(self.between)(x)))
        return x + jax.vmap(self.down)(wide)


class Pool(eqx.Module):
    """A mean of the contents engaged, the latest counting most: attention whose values are the contents' own vectors.

    With ``c_i`` engagements up to event i, event q weighs an engaged event i <= q by
    softmax_i( query(x_q) · key(x_i) / sqrt(width) - softplus(fade) (c_q - c_i) ): a penalty by distance, as ALiBi's
    (Press et al., arXiv 2108.12409, section 3), counted in engagements. It begins as a mean fading by a fifth each.
    """

    query: eqx.nn.Linear
    key: eqx.nn.Linear
    fade: Array  # f32 []
    head: eqx.nn.Linear

    def __init__(self, shape: Shape, key: Array) -> None:
        query, own, head = jax.random.split(key, 3)
        made = eqx.nn.Linear(shape.width, shape.width, use_bias=False, key=query)
        self.query = eqx.tree_at(lambda linear: linear.weight, made, jnp.zeros_like(made.weight))
        self.key = eqx.nn.Linear(shape.width, shape.width, use_bias=False, key=own)
        self.fade = jnp.log(jnp.expm1(-jnp.log(0.8)))
        made = eqx.nn.Linear(shape.content, shape.content, use_bias=False, key=head)
        self.head = eqx.tree_at(lambda linear: linear.weight, made, jnp.eye(shape.content))

    def __call__(self, asks: Array, at: Array, seen: Seen) -> Array:
        """f32 ``[Q, content]`` of rows ``asks`` ``[Q, width]`` that stand at events ``at`` i32 ``[Q]`` of ``seen``."""
        count = jnp.cumsum(seen.engaged)
        fit = jax.vmap(self.query)(asks) @ jax.vmap(self.key)(seen.token).T / jnp.sqrt(asks.shape[-1])
        fit = fit - jax.nn.softplus(self.fade) * (count[at][:, None] - count)
        counts = seen.engaged & (jnp.arange(len(count)) <= at[:, None])
        weight = jax.nn.softmax(jnp.where(counts, fit, -1.0e9), axis=-1) * counts
        return jax.vmap(self.head)(weight @ seen.vector)
