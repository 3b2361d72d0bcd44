"""A factorisation machine over fields of user and content, with a deep part or without.

Guo, Tang, Ye, Li & He, "DeepFM: A Factorization-Machine based Neural Network for CTR Prediction", IJCAI 2017:

    logit = <w, x> + sum over pairs of fields <v_i, v_j> + deep(v_1, …, v_n),

where the sum over pairs is half of |sum v|² - sum |v|² (Rendle, "Factorization Machines", 2010, lemma 3.1). Whatever
hangs on the user or the content alone, the deep part's first layer included (it is a sum over fields), is a ``Side``:
worked out once for each, and not once a pair.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from upwell.arms import nets
from upwell.world.config import Sizes
from upwell.world.state import Array

K = 8
"""Length of the embeddings."""
FIRST, SECOND = 24, 12
"""Units of the deep part's layers."""
AGES, EXPOSURES, PAIRS, TASTES = 8, 10, 3, 4


class Viewer(NamedTuple):
    """Fields of a user, ``[...]`` unless shaped."""

    segment: Array  # i32
    taste: Array  # i32 [..., TASTES], tags of the latest views
    known: Array  # bool [..., TASTES], whether there was such a view


class Item(NamedTuple):
    """Fields of a content, ``[...]`` unless shaped."""

    tags: Array  # i32 [..., 3]
    creator: Array  # i32
    age: Array  # i32, bucket
    exposure: Array  # i32, bucket
    record: Array  # f32, log of its shrunk rate over the platform's


class Deep(NamedTuple):
    """Weights of the deep part: a block of the first layer for each field, then dense."""

    user: Array  # f32 [2 K, FIRST]
    item: Array  # f32 [5 K, FIRST]
    pair: Array  # f32 [PAIRS, FIRST]
    first: Array  # f32 [FIRST]
    inner: Array  # f32 [FIRST, SECOND]
    second: Array  # f32 [SECOND]
    out: Array  # f32 [SECOND]


class Machine(NamedTuple):
    """Tables f32 ``[…, K + 1]``: of each value its embedding, and last its weight of the first order."""

    segment: Array
    taste: Array
    tag: Array
    creator: Array
    age: Array
    exposure: Array
    record: Array  # [K + 1], of a number and not of a value
    pair: Array  # [PAIRS, K + 1], likewise
    bias: Array
    place: Array  # weight of the place in the slate
    deep: Deep | None


class Side(NamedTuple):
    """What hangs on a user or a content alone, ``[...]`` unless shaped."""

    linear: Array
    vector: Array  # f32 [..., K], sum of its fields' embeddings
    square: Array  # sum of their squared lengths
    hidden: Array | None  # f32 [..., FIRST]


def machine(sizes: Sizes, stream: int, deep: bool) -> Machine:
    """A machine that knows nothing: small embeddings, no weights of the first order."""

    def table(i: int, rows: int) -> Array:
        return nets.small(stream + i, (rows, K + 1), 0.1).at[:, K].set(0.0)

    def dense(i: int, rows: int, columns: int) -> Array:
        return nets.small(stream + i, (rows, columns), (6.0 / (rows + columns)) ** 0.5)

    zero = jnp.float32(0.0)
    layers = Deep(
        dense(11, 2 * K, FIRST), dense(12, 5 * K, FIRST), dense(13, PAIRS, FIRST), jnp.zeros(FIRST),
        dense(14, FIRST, SECOND), jnp.zeros(SECOND), dense(15, SECOND, 1)[:, 0],
    )  # fmt: skip
    return Machine(
        segment=table(1, sizes.cells),
        taste=table(2, sizes.tags),
        tag=table(3, sizes.tags),
        creator=table(4, sizes.creators),
        age=table(5, AGES),
        exposure=table(6, EXPOSURES),
        record=table(7, 1)[0],
        pair=table(8, PAIRS),
        bias=zero,
        place=zero,
        deep=layers if deep else None,
    )


def informed(m: Machine) -> Machine:
    """With the weights of the first order that anybody would start from: a rare event, likelier by fit and record.

    The deep part starts from nothing, by its last layer.
    """
    quiet = m.deep and m.deep._replace(out=jnp.zeros_like(m.deep.out))
    return m._replace(bias=jnp.float32(-3.0), record=m.record.at[K].set(1.0), pair=m.pair.at[0, K].set(4.0), deep=quiet)


def side(fields: list[Array], block: Array | None) -> Side:
    """Of the fields' rows f32 ``[..., K + 1]``, through their block of the deep part."""
    embedded = jnp.stack([x[..., :K] for x in fields], axis=-2)
    hidden = None if block is None else embedded.reshape(*embedded.shape[:-2], -1) @ block
    return Side(sum(x[..., K] for x in fields), embedded.sum(-2), (embedded**2).sum((-2, -1)), hidden)  # pyright: ignore[reportArgumentType]


def user_side(m: Machine, viewer: Viewer) -> Side:
    seen = viewer.known[..., None]
    taste = (m.taste[viewer.taste] * seen).sum(-2) / jnp.maximum(seen.sum(-2), 1)
    return side([m.segment[viewer.segment], taste], m.deep and m.deep.user)


def item_side(m: Machine, item: Item, by_record: bool) -> Side:
    """``by_record``: whether exposure and record are looked at."""
    fields = [m.tag[item.tags].mean(-2), m.creator[item.creator], m.age[item.age]]
    if by_record:
        fields += [m.exposure[item.exposure], m.record * item.record[..., None]]
    return side(fields, m.deep and m.deep.item)


def logit(m: Machine, user: Side, item: Side, pair: Array) -> Array:
    """Log-odds, of sides that broadcast to ``[...]`` and numbers of both f32 ``[..., PAIRS]``."""
    v, w = m.pair[:, :K], m.pair[:, K]
    both = (user.vector * item.vector).sum(-1)
    towards = user.vector @ v.T + item.vector @ v.T + w
    crossed = sum(pair[..., i] * towards[..., i] for i in range(PAIRS))
    summed = user.vector, item.vector
    within = sum(0.5 * ((x**2).sum(-1) - s.square) for x, s in zip(summed, (user, item), strict=True))
    # Sums over the few numbers are spelled out: as products of matrices so narrow they take many times as long.
    gram = v @ v.T
    numbers = sum(gram[i, j] * pair[..., i] * pair[..., j] for i in range(PAIRS) for j in range(i))
    total = m.bias + user.linear + item.linear + both + crossed + within + numbers
    if m.deep is None or user.hidden is None or item.hidden is None:
        return total
    weighed = sum(pair[..., i, None] * m.deep.pair[i] for i in range(PAIRS))
    hidden = jax.nn.relu(user.hidden + item.hidden + weighed + m.deep.first)
    return total + jax.nn.relu(hidden @ m.deep.inner + m.deep.second) @ m.deep.out
