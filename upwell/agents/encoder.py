"""The behaviour encoder: what a user did lately and long ago, as one vector beside the contents' vectors.

A recurrent compressor folds events beyond the recent 50, a chunk at a time, into a small memory; a small Transformer
reads the memory and the recent events. Its parts:

    token(e)    = norm(A [v; clicked v; features] + tag)           v the content's vector
    m_{k+1}     = GRU(sum_i sigmoid(G x_i) * tanh(V x_i) / C, m_k)  over the C tokens x_i of chunk k
    encoding    = head(norm(Transformer([slots(m); x_1 ... x_n])_n))

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

from upwell.agents.encoder_parts import Array, Block, Compressor, Drop, Embedder, Events, Shape, dropped

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
    shape: Shape = eqx.field(static=True)

    def __init__(self, shape: Shape, key: Array) -> None:
        embed, compress, slots, head, *blocks = jax.random.split(key, 4 + shape.layers)
        self.shape = shape
        self.embed, self.compress = Embedder(shape, embed), Compressor(shape, compress)
        self.slots = eqx.nn.Linear(shape.memory, shape.slots * shape.width, key=slots)
        self.blocks = tuple(Block(shape.width, shape.heads, block) for block in blocks)
        self.norm = eqx.nn.LayerNorm(shape.width)
        self.head = eqx.nn.Linear(shape.width, shape.content, key=head)

    def stand(self, memory: Array, tokens: Array) -> tuple[Array, Array]:
        """What the Transformer reads ``[slots + window, width]``, and who sees whom: memory, itself, all before."""
        slots = self.slots(memory).reshape(self.shape.slots, self.shape.width)
        n = jnp.arange(self.shape.slots + self.shape.window)
        return jnp.concatenate([slots, tokens]), (n <= n[:, None]) | (n < self.shape.slots)

    def read(self, memory: Array, tokens: Array, count: Array) -> Array:
        """Encoding f32 ``[content]`` after the first ``count`` tokens of a window ``[window, width]``."""
        x, mask = self.stand(memory, tokens)
        last = self.shape.slots + count - 1  # with no events: the memory's own last slot
        for block in self.blocks[:-1]:
            x = block(x, mask)
        return self.head(self.norm(self.blocks[-1](x, mask, last)[0]))

    def read_all(self, memory: Array, tokens: Array, drop: Drop | None) -> Array:
        """Encodings f32 ``[window, content]`` after each token of a window."""
        x, mask = self.stand(memory, tokens)
        drops = [None] * len(self.blocks) if drop is None else drop.split(len(self.blocks))
        for block, own in zip(self.blocks, drops, strict=True):
            x = block(x, mask, drop=own)
        return jax.vmap(lambda row: self.head(self.norm(row)))(x[self.shape.slots :])

    def outputs(self, table: Array, events: Events, drop: Drop | None = None, frugal: bool = False) -> Array:
        """Encodings f32 ``[T, content]`` after each event of a sequence of ``shape.fitting`` length, for training.

        Windows stand every ``recent`` events; an event is read with the ``chunk`` to ``window`` events up to it and
        with the memory of all before. ``frugal`` works windows out one after another, and again on the way back
        (Chen et al., arXiv 1604.06174): the memory of one window instead of all.
        """
        shape = self.shape
        tokens = dropped(jax.vmap(self.embed, (None, 0))(table, events), drop)
        memories = self.compress.over(tokens.reshape(-1, shape.chunk, shape.width))
        starts = jnp.arange(0, tokens.shape[0] - shape.chunk, shape.recent)

        def at(start: Array) -> Array:
            own = None if drop is None else Drop(jax.random.fold_in(drop.key, start + 1), drop.rate)
            window = lax.dynamic_slice_in_dim(tokens, start, shape.window)
            return self.read_all(memories[start // shape.chunk], window, own)

        out = lax.map(jax.checkpoint(at), starts) if frugal else jax.vmap(at)(starts)
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
        return model.compress(memory, jax.vmap(model.embed, (None, 0))(table, chunk))

    memory = lax.fori_loop(0, folded // shape.chunk, fold, jnp.zeros(shape.memory))
    count = length - folded
    ring = Events(*(lax.dynamic_slice_in_dim(x, folded, shape.window) for x in events))
    ring = Events(*(jnp.where(jnp.arange(shape.window) < count, x, e) for x, e in zip(ring, nothing, strict=True)))
    tokens = jax.vmap(model.embed, (None, 0))(table, ring)
    return State(memory, folded, count, ring), model.read(memory, tokens, count)


def take_in(model: Encoder, table: Array, state: State, event: Events) -> tuple[State, Array]:
    """State and encoding f32 ``[content]`` after one more event ``[]``."""
    shape, nothing = model.shape, blank(model.shape).ring
    full = state.filled == shape.window
    at = jnp.where(full, shape.recent, state.filled)

    def moved(kept: Array, after: Array, new: Array) -> Array:
        return jnp.where(full, jnp.concatenate([kept[shape.chunk :], after[: shape.chunk]]), kept).at[at].set(new)

    tokens = jax.vmap(model.embed, (None, 0))(table, state.ring)
    memory = jnp.where(full, model.compress(state.memory, tokens[: shape.chunk]), state.memory)
    tokens = moved(tokens, tokens, model.embed(table, event))  # what stands after the new one is not read
    ring = Events(*(moved(x, e, new) for x, e, new in zip(state.ring, nothing, event, strict=True)))
    after = State(memory, state.folded + shape.chunk * full, at + 1, ring)
    return after, model.read(memory, tokens, at + 1)


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
