"""The fast path: candidates to slate, batch-first and pure.

A slate has fixed places for heated and explored contents; whatever they leave free holds the organic order. Scores
are sums of quantised contributions (see ``quantise``), so that ties are real ties, broken by content id, and NumPy
and JAX choose alike.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from upwell.agents.xp import BLOCKED, Array, Namespace, among, gumbel, one_hot, quantise, side_by_side, take, top_k

ORGANIC, EXPLORED, HEATED, PUSHED = 0, 1, 2, 3
"""Kinds of places. ``PUSHED``: boosted by the platform itself, in its ranker's order; no grant pays for it."""
FLOOR = 0.02
"""Share of uniform in an explored draw, so that no propensity vanishes."""


class Slate(NamedTuple):
    """What is shown, ``[..., R, K]`` each."""

    ids: Array  # i32, content ids
    kind: Array  # i32, ORGANIC, EXPLORED or HEATED
    propensity: Array  # f32, chance of this content at this place given those above
    stochastic: Array  # bool, false where the place was filled without chance
    column: Array  # i32, where it stands among the candidates, a heated one among the grants


class Grants(NamedTuple):
    """Grants matched to a segment."""

    ids: Array  # i32 [..., G], content ids
    scores: Array  # f32 [..., R, G], quantised; BLOCKED where this user is not to be reached
    lease: Array  # i32 [..., G], impressions this segment may still deliver in this batch


class Exploration(NamedTuple):
    """The user agents' choice."""

    probability: Array  # f32 [..., R], of exploring at each explorable place
    logits: Array  # f32 [..., R, C], preference among candidates
    u_whether: Array  # f32 [..., R, E], uniforms
    u_which: Array  # f32 [..., R, E, C], uniforms
    tries: Array | None = None  # bool [..., R], who explores at any place, where that is known already


class Question(NamedTuple):
    """All that ``build`` decides from: with it a slate is built again, bit for bit."""

    ids: Array
    scores: Array
    blocked: Array
    grants: Grants | None = None
    slots: Array | None = None
    exploration: Exploration | None = None


@cache
def heated_places(size: int) -> tuple[int, ...]:
    """Places of heated contents: max(1, floor(0.2 size)) of them, never the first of a slate of two or more."""
    count = max(1, size // 5)
    return tuple(min(size - 1, 2 + round(i * (size - 2) / count)) for i in range(count))


@cache
def explored_places(size: int) -> tuple[int, ...]:
    """Places where the user agent may explore: up to two, in the slate's lower half, none of them heated."""
    free = [k for k in range(size // 2, size) if k not in heated_places(size)]
    return tuple(sorted({free[len(free) // 3], free[-1]})) if len(free) > 1 else ()


@cache
def sources(size: int, heats: bool, explores: bool) -> npt.NDArray[np.int64]:
    """Whose each place is ``[K]``: 0 organic, then a number for each heated place, then for each explorable one."""
    special = (*(heated_places(size) if heats else ()), *(explored_places(size) if explores else ()))
    whose = np.zeros(size, np.int64)
    whose[list(special)] = np.arange(1, len(special) + 1)
    return whose


def choose_heated(xp: Namespace, grants: Grants, organic_ids: Array, slots: Array, size: int) -> tuple[Array, Array]:
    """Fill the heated places by score, within each grant's lease.

    Args:
        organic_ids: i32 ``[..., R, K]``; a content that is there already is not heated.
        slots: i32 ``[..., R]``, heated places this request may use.

    Returns:
        columns of the grants i32 ``[..., R, H]`` and whether filled.
    """
    shown = (grants.ids[..., None, :, None] == organic_ids[..., :, None, :]).any(-1)
    scores = xp.where(shown, BLOCKED, grants.scores)
    lease = grants.lease[..., None, :]
    width = grants.ids.shape[-1]
    columns, filled = [], []
    for h in range(len(heated_places(size))):
        best = xp.argmax(scores, axis=-1)
        here = one_hot(xp, best, width)
        pick = here & ((take(xp, scores, best[..., None])[..., 0] > BLOCKED / 2) & (slots > h))[..., None]
        # Earlier requests of the batch come first: the lease counts down along the batch.
        count = xp.cumsum(pick, axis=-2, dtype=xp.int32)
        pick = pick & (count <= lease)
        lease = lease - pick.sum(-2, keepdims=True, dtype=xp.int32)
        scores = xp.where(here, BLOCKED, scores)
        columns.append(best)
        filled.append(pick.any(-1))
    return side_by_side(xp, columns).astype(xp.int32), side_by_side(xp, filled)


def trying(u_whether: Array, probability: Array) -> Array:
    """Which requests explore at any place, ``[..., R]``: see ``Exploration``."""
    return (u_whether < probability[..., None]).any(-1)


def choose_explored(
    xp: Namespace, exploration: Exploration, eligible: Array, floor: float, places: int
) -> tuple[Array, Array, Array]:
    """Draw explored candidates one after the other (Plackett-Luce), each mixed with ``floor`` of uniform.

    Returns:
        candidate indices i32 ``[..., R, E]``, whether explored, and the draw's conditional probability.
    """
    if xp is not np:
        return drawn(xp, exploration, eligible, floor, places)
    # Most requests try nothing out: only the others are worked out.
    tries = (
        exploration.tries if exploration.tries is not None else trying(exploration.u_whether, exploration.probability)
    )
    shape = (*tries.shape, places)
    out = np.zeros(shape, np.int32), np.zeros(shape, bool), np.zeros(shape, np.float32)
    if tries.any():
        part = drawn(np, Exploration(*(x[tries] for x in exploration[:4])), eligible[tries], floor, places)
        for whole, of in zip(out, part, strict=True):
            whole[tries] = of
    return out


def drawn(
    xp: Namespace, exploration: Exploration, eligible: Array, floor: float, places: int
) -> tuple[Array, Array, Array]:
    """As ``choose_explored``, of every request."""
    logits = xp.where(eligible, quantise(xp, exploration.logits) / 1024.0, -1e9)
    weight = xp.exp(logits - logits.max(-1, keepdims=True)) * eligible
    noise = gumbel(xp, exploration.u_which)
    whether = exploration.u_whether < exploration.probability[..., None]
    index, explored, probability = [], [], []
    for e in range(places):
        left = eligible.sum(-1, keepdims=True).astype(xp.float32)
        share = weight / xp.maximum(weight.sum(-1, keepdims=True), 1e-30)
        mixed = (1.0 - floor) * share + (floor / xp.maximum(left, 1.0)) * eligible
        noisy = xp.where(eligible, xp.log(xp.maximum(mixed, 1e-30)) + noise[..., e, :], -1e9)
        # Coarse steps make the draw the same in both backends; log and exp differ in their last bits.
        best = xp.argmax(xp.round(noisy * 4096.0), axis=-1)
        index.append(best.astype(xp.int32))
        explored.append(whether[..., e] & (left > 0)[..., 0])
        probability.append(take(xp, mixed, best[..., None])[..., 0])
        gone = one_hot(xp, best, eligible.shape[-1]) & explored[-1][..., None]
        eligible, weight = eligible & ~gone, xp.where(gone, 0.0, weight)
    return side_by_side(xp, index), side_by_side(xp, explored), side_by_side(xp, probability)


def build(
    xp: Namespace,
    ids: Array,
    scores: Array,
    blocked: Array,
    size: int,
    grants: Grants | None = None,
    slots: Array | None = None,
    exploration: Exploration | None = None,
    floor: float = FLOOR,
) -> Slate:
    """Slates of a batch of requests that share candidates.

    Args:
        ids: i32 ``[..., C]``, candidates in rising order of id.
        scores: f32 ``[..., R, C]``, quantised organic scores.
        blocked: bool ``[..., R, C]``, never to be shown (seen before, excluded).
        size: K, at most C.
        grants, slots: heating, and how many heated places each request may use ``[..., R]``; both or neither.
        exploration: the user agents' choice; None shows the organic order.
        floor: share of uniform in an explored draw, so that no propensity vanishes.
    """
    ids_r = xp.broadcast_to(ids[..., None, :], scores.shape)
    _, order = top_k(xp, xp.where(blocked, BLOCKED, scores), size)
    organic = take(xp, ids_r, order)
    places = explored_places(size) if exploration is not None else ()
    whose = sources(size, grants is not None, bool(places))
    # What may stand at a place instead of the organic order, side by side; ``sources`` says where.
    nothing = xp.zeros((*organic.shape[:-1], 1), dtype=xp.int32)
    special, kinds, columns = [nothing], [nothing], [nothing]
    propensity, stochastic = xp.ones(organic.shape, dtype=xp.float32), xp.zeros(organic.shape, dtype=bool)
    taken = organic
    if grants is not None:
        column, got = choose_heated(xp, grants, organic, slots, size)
        held = xp.broadcast_to(grants.ids[..., None, :], grants.scores.shape)
        special.append(xp.where(got, take(xp, held, column), -1))
        kinds.append(HEATED * got)
        columns.append(column)
        taken = xp.concatenate([organic, special[-1]], axis=-1)
    if exploration is not None and places:
        eligible = ~(blocked | among(xp, ids_r, taken))
        column, explored, probability = choose_explored(xp, exploration, eligible, floor, len(places))
        special.append(take(xp, ids_r, column))
        kinds.append(EXPLORED * explored)
        columns.append(column)
        p = exploration.probability[..., None]
        chance = xp.where(explored, p * probability, 1.0 - p).astype(xp.float32)
        first = int(whose.max()) + 1 - len(places)
        explorable = whose >= first
        propensity = xp.where(explorable, chance[..., np.maximum(whose - first, 0)], propensity)
        stochastic = explorable & (p > 0)
    kind = xp.concatenate(kinds, axis=-1)[..., whose]
    plain = kind == ORGANIC
    rank = xp.cumsum(plain, axis=-1, dtype=xp.int32) - plain  # the organic order goes on where nothing else stands
    return Slate(
        ids=xp.where(plain, take(xp, organic, rank), xp.concatenate(special, axis=-1)[..., whose]).astype(xp.int32),
        kind=kind.astype(xp.int32),
        propensity=propensity,
        stochastic=stochastic,
        column=xp.where(plain, take(xp, order, rank), xp.concatenate(columns, axis=-1)[..., whose]).astype(xp.int32),
    )
