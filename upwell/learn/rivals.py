"""What the behaviour encoder is held against: a mean of embeddings, a GRU, and a plain Transformer over everything.

Each has the encoder's form: ``outputs(table, events, keep, frugal)`` gives encodings f32 ``[T, content]`` after each
event of one user.
"""

from __future__ import annotations

from typing import Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax

from upwell.agents.encoder_parts import Array, Block, Embedder, Events, Shape


class Reader(Protocol):
    """A model that turns a user's events into encodings."""

    def outputs(self, table: Array, events: Events, keep: Array | None = None, frugal: bool = False) -> Array: ...


class Mean(eqx.Module):
    """Mean of the vectors of what was engaged, turned by one matrix. With ``fading`` < 1 the latest count more."""

    head: eqx.nn.Linear
    fading: float = eqx.field(static=True)

    def __init__(self, shape: Shape, key: Array, fading: float = 1.0) -> None:
        self.fading = fading
        made = eqx.nn.Linear(shape.content, shape.content, key=key)
        self.head = eqx.tree_at(lambda head: head.weight, made, jnp.eye(shape.content))

    def outputs(self, table: Array, events: Events, keep: Array | None = None, frugal: bool = False) -> Array:
        engaged = events.clicked & (events.row >= 0)
        vectors = jnp.where(engaged[:, None], table[jnp.maximum(events.row, 0)], 0.0)
        vectors = vectors if keep is None else vectors * keep[:, : vectors.shape[1]]
        what = jnp.concatenate([vectors, engaged[:, None].astype(jnp.float32)], axis=1)

        def add(total: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
            new, fresh = now
            total = total * jnp.where(fresh, self.fading, 1.0) + new
            return total, total

        sums = lax.scan(add, jnp.zeros(what.shape[1]), (what, engaged))[1]
        return jax.vmap(self.head)(sums[:, :-1] / jnp.maximum(sums[:, -1:], 1.0e-6))


class Recurrent(eqx.Module):
    """A GRU over all events (GRU4Rec: Hidasi et al., arXiv 1511.06939), fed the encoder's tokens."""

    embed: Embedder
    cell: eqx.nn.GRUCell
    head: eqx.nn.Linear

    def __init__(self, shape: Shape, key: Array) -> None:
        embed, cell, head = jax.random.split(key, 3)
        self.embed, self.cell = Embedder(shape, embed), eqx.nn.GRUCell(shape.width, shape.width, key=cell)
        self.head = eqx.nn.Linear(shape.width, shape.content, key=head)

    def outputs(self, table: Array, events: Events, keep: Array | None = None, frugal: bool = False) -> Array:
        tokens = jax.vmap(self.embed, (None, 0))(table, events).token
        tokens = tokens if keep is None else tokens * keep[:, : tokens.shape[1]]

        def step(hidden: Array, token: Array) -> tuple[Array, Array]:
            hidden = self.cell(token, hidden)
            return hidden, hidden

        hidden = lax.scan(step, jnp.zeros(self.cell.hidden_size), tokens)[1]
        return jax.vmap(self.head)(hidden)


class Plain(eqx.Module):
    """A causal Transformer over all events: the encoder's blocks, no memory. ``frugal`` works each out again."""

    embed: Embedder
    blocks: tuple[Block, ...]
    norm: eqx.nn.LayerNorm
    head: eqx.nn.Linear

    def __init__(self, shape: Shape, key: Array) -> None:
        embed, head, *blocks = jax.random.split(key, 2 + shape.layers)
        self.embed = Embedder(shape, embed)
        self.blocks = tuple(Block(shape.width, shape.heads, block) for block in blocks)
        self.norm = eqx.nn.LayerNorm(shape.width)
        self.head = eqx.nn.Linear(shape.width, shape.content, key=head)

    def outputs(self, table: Array, events: Events, keep: Array | None = None, frugal: bool = False) -> Array:
        x = self.stand(table, events)
        mask = jnp.tril(jnp.ones((x.shape[0], x.shape[0]), jnp.bool_))
        if frugal:  # a loop, since XLA on the CPU merges what is worked out twice in a row
            stacked = jax.tree.map(lambda *parts: jnp.stack(parts), *(eqx.filter(b, eqx.is_array) for b in self.blocks))
            form = eqx.filter(self.blocks[0], eqx.is_array, inverse=True)
            again = jax.checkpoint(lambda x, parts: (eqx.combine(parts, form)(x, mask), None))
            x = lax.scan(again, x, stacked)[0]
        else:
            for block in self.blocks:
                x = block(x, mask)
        return jax.vmap(lambda row: self.head(self.norm(row)))(x)

    def last(self, table: Array, events: Events) -> Array:
        """Encoding f32 ``[content]`` after the last event: its block asks for that one alone."""
        x = self.stand(table, events)
        mask = jnp.tril(jnp.ones((x.shape[0], x.shape[0]), jnp.bool_))
        for block in self.blocks[:-1]:
            x = block(x, mask)
        return self.head(self.norm(self.blocks[-1](x, mask, jnp.int32(x.shape[0] - 1))[0]))

    def stand(self, table: Array, events: Events) -> Array:
        return jax.vmap(self.embed, (None, 0))(table, events).token
