"""The behaviour encoder: what a user did lately and long ago, as one vector beside the contents' vectors.

A recurrent compressor folds events beyond the recent 50, a chunk at a time, into a small memory; a small Transformer
reads the memory and the recent events. Its parts:

    token(e)    = norm(A [v; clicked v; features] + tag)            v the content's vector
    m_{k+1}     = GRU(sum_i sigmoid(G x_i) * tanh(V x_i) / C, m_k)   over the C tokens x_i of chunk k
    encoding    = head(y) + pool(y, the recent events)               y = norm(Transformer([slots(m); x_1 ... x_n])_n)

The pool is a fading mean of the contents engaged, which attention bends (``encoder_parts.Pool``).

GRU: Cho et al., arXiv 1406.1078, eq. 5-8; its update gate begins slow (Tallec & Ollivier, arXiv 1804.11188).
Transformer: Vaswani et al., arXiv 1706.03762, section 3, norms first (Xiong et al., arXiv 2002.04745), causal as in
SASRec (Kang & McAuley, arXiv 1808.09781, section III). Reading a memory of what
came before the window: after Transformer-XL (Dai et al., arXiv 1901.02860).

A window holds up to ``recent + chunk`` events. When it is full its oldest ``chunk`` are folded before the next is
taken in, so the recent 50 are always read as they are, and folding events one by one is the same computation as
folding the whole sequence (``absorb``). Modules are written for one user; ``encode`` and ``update`` take batches.

For training and for the stream worker. The request path reads the encoding from memory and never imports this.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax

from upwell.agents.encoder_parts import Array, Block, Compressor, Embedder, Events, Pool, Seen, Shape

VERSION = 1
"""Of the weights' file and of the states', see ``kept``."""


class State(NamedTuple):
    """What is kept of a user between events, ``[..., ]`` leading: 4 (memory + 2) bytes, and 17 an event of the ring."""

    memory: Array  # f32 [..., memory]
    folded: Array  # i32 [...], events folded into it
    filled: Array  # i32 [...], events in ``ring``
    ring: Events  # [..., window], oldest first, then nothing


def blank(shape: Shape, *batch: int) -> State:
    """The state of users who have done nothing yet."""
    at = (*batch, shape.window)
    none = jnp.zeros(at, jnp.int32)
    ring = Events(none - 1, none, jnp.zeros(at), jnp.zeros(at), jnp.zeros(at, jnp.bool_))
    return State(jnp.zeros((*batch, shape.memory)), jnp.zeros(batch, jnp.int32), jnp.zeros(batch, jnp.int32), ring)


class Encoder(eqx.Module):
    """The whole of it, for one user."""

    embed: Embedder
    compress: Compressor
    slots: eqx.nn.Linear
    blocks: tuple[Block, ...]
    norm: eqx.nn.LayerNorm
    head: eqx.nn.Linear
    pool: Pool
    shape: Shape = eqx.field(static=True)

    def __init__(self, shape: Shape, key: Array) -> None:
        embed, compress, slots, head, pool, *blocks = jax.random.split(key, 5 + shape.layers)
        self.shape = shape
        self.embed, self.compress = Embedder(shape, embed), Compressor(shape, compress)
        self.slots = eqx.nn.Linear(shape.memory, shape.slots * shape.width, key=slots)
        self.blocks = tuple(Block(shape.width, shape.heads, block) for block in blocks)
        self.norm = eqx.nn.LayerNorm(shape.width)
        self.head = eqx.nn.Linear(shape.width, shape.content, key=head)
        self.pool = Pool(shape, pool)

    def stand(self, memory: Array, tokens: Array) -> tuple[Array, Array]:
        """What the Transformer reads ``[slots + window, width]``, and who sees whom: memory, itself, all before."""
        slots = self.slots(memory).reshape(self.shape.slots, self.shape.width)
        n = jnp.arange(self.shape.slots + self.shape.window)
        return jnp.concatenate([slots, tokens]), (n <= n[:, None]) | (n < self.shape.slots)

    def see(self, table: Array, events: Events) -> Seen:
        """Events ``[T]`` as tokens."""
        return jax.vmap(self.embed, (None, 0))(table, events)

    def read(self, memory: Array, seen: Seen, count: Array) -> Array:
        """Encoding f32 ``[content]`` after the first ``count`` events of a window ``[window]``."""
        x, mask = self.stand(memory, seen.token)
        last = self.shape.slots + count - 1  # with no events: the memory's own last slot
        for block in self.blocks[:-1]:
            x = block(x, mask)
        return self.said(self.blocks[-1](x, mask, last), count[None] - 1, seen)[0]

    def read_all(self, memory: Array, seen: Seen) -> Array:
        """Encodings f32 ``[window, content]`` after each event of a window."""
        x, mask = self.stand(memory, seen.token)
        for block in self.blocks:
            x = block(x, mask)
        return self.said(x[self.shape.slots :], jnp.arange(self.shape.window), seen)

    def said(self, x: Array, at: Array, seen: Seen) -> Array:
        """Encodings f32 ``[Q, content]`` of what the Transformer makes of events ``at``, ``[Q, width]``."""
        x = jax.vmap(self.norm)(x)
        return jax.vmap(self.head)(x) + self.pool(x, at, seen)

    def outputs(self, table: Array, events: Events, keep: Array | None = None, frugal: bool = False) -> Array:
        """Encodings f32 ``[T, content]`` after each event of a sequence of ``shape.fitting`` length, for training.

        Windows stand every ``recent`` events; an event is read with the ``chunk`` to ``window`` events up to it and
        with the memory of all before. ``frugal`` works windows out one after another, and again on the way back
        (Chen et al., arXiv 1604.06174): the memory of one window instead of all. Tokens and vectors are multiplied by
        ``keep`` ``[T, max(width, content)]``, for dropout.
        """
        shape = self.shape
        starts = jnp.arange(0, events.row.shape[0] - shape.chunk, shape.recent)
        empty = jnp.zeros(shape.memory)

        def cut(x: Array, start: Array) -> Array:
            return lax.dynamic_slice_in_dim(x, start, shape.window)

        def look(events: Events, keep: Array | None) -> Seen:
            seen = self.see(table, events)
            if keep is None:
                return seen
            return Seen(seen.token * keep[:, : shape.width], seen.vector * keep[:, : shape.content], seen.engaged)

        def one(memory: Array, start: Array) -> tuple[Array, Array]:
            seen = look(Events(*(cut(x, start) for x in events)), None if keep is None else cut(keep, start))
            done = seen.token[: shape.recent].reshape(-1, shape.chunk, shape.width)
            return self.compress.over(memory, done)[-1], self.read_all(memory, seen)

        def at(start: Array) -> Array:
            return self.read_all(memories[start // shape.chunk], Seen(*(cut(x, start) for x in seen)))

        if frugal:
            out = lax.scan(jax.checkpoint(one), empty, starts)[1]
        else:
            seen = look(events, keep)
            memories = self.compress.over(empty, seen.token.reshape(-1, shape.chunk, shape.width))
            out = jax.vmap(at)(starts)
        return jnp.concatenate([out[0, : shape.chunk], out[:, shape.chunk :].reshape(-1, shape.content)])


def absorb(model: Encoder, table: Array, events: Events, length: Array) -> tuple[State, Array]:
    """State and encoding f32 ``[content]`` after the first ``length`` of events ``[T]``; the rest is padding."""
    shape = model.shape
    size = -(-max(events.row.shape[0], shape.window) // shape.chunk) * shape.chunk + shape.window
    nothing = blank(shape).ring
    events = Events(
        *(jnp.concatenate([x, jnp.resize(e, (size - x.shape[0],))]) for x, e in zip(events, nothing, strict=True))
    )
    folded = shape.folded(length)

    def fold(k: int, memory: Array) -> Array:
        chunk = Events(*(lax.dynamic_slice_in_dim(x, k * shape.chunk, shape.chunk) for x in events))
        return model.compress(memory, model.see(table, chunk).token)

    memory = lax.fori_loop(0, folded // shape.chunk, fold, jnp.zeros(shape.memory))
    count = length - folded
    ring = Events(*(lax.dynamic_slice_in_dim(x, folded, shape.window) for x in events))
    ring = Events(*(jnp.where(jnp.arange(shape.window) < count, x, e) for x, e in zip(ring, nothing, strict=True)))
    return State(memory, folded, count, ring), model.read(memory, model.see(table, ring), count)


def take_in(model: Encoder, table: Array, state: State, event: Events) -> tuple[State, Array]:
    """State and encoding f32 ``[content]`` after one more event ``[]``."""
    shape, nothing = model.shape, blank(model.shape).ring
    full = state.filled == shape.window
    at = jnp.where(full, shape.recent, state.filled)

    def moved(kept: Array, after: Array, new: Array) -> Array:
        return jnp.where(full, jnp.concatenate([kept[shape.chunk :], after[: shape.chunk]]), kept).at[at].set(new)

    seen = model.see(table, state.ring)
    memory = jnp.where(full, model.compress(state.memory, seen.token[: shape.chunk]), state.memory)
    now = model.embed(table, event)
    seen = Seen(*(moved(x, x, new) for x, new in zip(seen, now, strict=True)))  # what stands after it is not read
    ring = Events(*(moved(x, e, new) for x, e, new in zip(state.ring, nothing, event, strict=True)))
    after = State(memory, state.folded + shape.chunk * full, at + 1, ring)
    return after, model.read(memory, seen, at + 1)


@eqx.filter_jit
def encode(model: Encoder, table: Array, events: Events, length: Array) -> tuple[State, Array]:
    """States ``[B]`` and encodings f32 ``[B, content]`` after events ``[B, T]`` of lengths i32 ``[B]``."""
    return jax.vmap(absorb, (None, None, 0, 0))(model, table, events, length)


@eqx.filter_jit
def update(model: Encoder, table: Array, state: State, event: Events) -> tuple[State, Array]:
    """States ``[B]`` and encodings f32 ``[B, content]`` after one more event each, ``[B]``."""
    return jax.vmap(take_in, (None, None, 0, 0))(model, table, state, event)


def updater(model: Encoder) -> Callable[[Array, State, Events], tuple[State, Array]]:
    """``update`` of one model, for a worker: weights are part of the program, the state given to it is used up."""
    return jax.jit(jax.vmap(partial(take_in, model), (None, 0, 0)), donate_argnums=1)
