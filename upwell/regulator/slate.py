"""The fast path: candidates to slate, batch-first and pure.

A slate has fixed places for heated and explored contents; whatever they leave free holds the organic order. Scores
are sums of quantised contributions (see ``quantise``), so that ties are real ties, broken by content id, and NumPy
and JAX choose alike.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from upwell.agents.xp import BLOCKED, Array, Namespace, gumbel, one_hot, quantise, take, top_k

ORGANIC, EXPLORED, HEATED = 0, 1, 2


class Slate(NamedTuple):
    """What is shown, ``[..., R, K]`` each."""

    ids: Array  # i32, content ids
    kind: Array  # i32, ORGANIC, EXPLORED or HEATED
    propensity: Array  # f32, chance of this content at this place given those above
    stochastic: Array  # bool, false where the place was filled without chance


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


def choose_heated(xp: Namespace, grants: Grants, organic_ids: Array, slots: Array, size: int) -> tuple[Array, Array]:
    """Fill the heated places by score, within each grant's lease.

    Args:
        organic_ids: i32 ``[..., R, K]``; a content that is there already is not heated.
        slots: i32 ``[..., R]``, heated places this request may use.

    Returns:
        ids i32 ``[..., R, H]`` (-1: none) and whether filled.
    """
    count = len(heated_places(size))
    shown = (grants.ids[..., None, :, None] == organic_ids[..., :, None, :]).any(-1)
    scores = xp.where(shown, BLOCKED, grants.scores)
    used = xp.zeros(grants.lease.shape, dtype=xp.int32)
    width = grants.ids.shape[-1]
    ids, filled = [], []
    for h in range(count):
        best = xp.argmax(scores, axis=-1)
        pick = one_hot(xp, best, width) & (scores > BLOCKED / 2) & (slots > h)[..., None]
        # Earlier requests of the batch come first: the lease counts down along the batch.
        before = xp.cumsum(pick.astype(xp.int32), axis=-2) - pick
        pick = pick & (before + used[..., None, :] < grants.lease[..., None, :])
        used = used + pick.sum(-2).astype(xp.int32)
        scores = xp.where(one_hot(xp, best, width), BLOCKED, scores)
        got = pick.any(-1)
        ids.append(xp.where(got, (pick * grants.ids[..., None, :]).sum(-1), -1).astype(xp.int32))
        filled.append(got)
    return xp.stack(ids, axis=-1), xp.stack(filled, axis=-1)


def choose_explored(
    xp: Namespace, exploration: Exploration, eligible: Array, floor: float, places: int
) -> tuple[Array, Array, Array]:
    """Draw explored candidates one after the other (Plackett-Luce), each mixed with ``floor`` of uniform.

    Returns:
        candidate indices i32 ``[..., R, E]``, whether explored, and the draw's conditional probability.
    """
    width = eligible.shape[-1]
    index, explored, probability = [], [], []
    for e in range(places):
        any_left = eligible.any(-1)
        masked = xp.where(eligible, quantise(xp, exploration.logits) / 1024.0, -1e9)
        weight = xp.exp(masked - masked.max(-1, keepdims=True)) * eligible
        share = weight / xp.maximum(weight.sum(-1, keepdims=True), 1e-30)
        uniform = eligible / xp.maximum(eligible.sum(-1, keepdims=True), 1)
        mixed = (1.0 - floor) * share + floor * uniform
        noisy = xp.where(eligible, xp.log(xp.maximum(mixed, 1e-30)) + gumbel(xp, exploration.u_which[..., e, :]), -1e9)
        # Coarse steps make the draw the same in both backends; log and exp differ in their last bits.
        best = xp.argmax(xp.round(noisy * 4096.0), axis=-1)
        index.append(best.astype(xp.int32))
        explored.append((exploration.u_whether[..., e] < exploration.probability) & any_left)
        probability.append(take(xp, mixed, best[..., None])[..., 0])
        eligible = eligible & ~(one_hot(xp, best, width) & explored[-1][..., None])
    return xp.stack(index, axis=-1), xp.stack(explored, axis=-1), xp.stack(probability, axis=-1)


def build(
    xp: Namespace,
    ids: Array,
    scores: Array,
    blocked: Array,
    size: int,
    grants: Grants | None = None,
    slots: Array | None = None,
    exploration: Exploration | None = None,
    floor: float = 0.02,
) -> Slate:
    """Slates of a batch of requests that share candidates.

    Args:
        ids: i32 ``[..., C]``, candidates in rising order of id.
        scores: f32 ``[..., R, C]``, quantised organic scores.
        blocked: bool ``[..., R, C]``, never to be shown (seen before, excluded).
        size: K, at most C.
        grants, slots: heating, and how many heated places each request may use ``[..., R]``.
        exploration: the user agents' choice; None shows the organic order.
        floor: share of uniform in an explored draw, so that no propensity vanishes.
    """
    ids_r = xp.broadcast_to(ids[..., None, :], scores.shape)
    _, order = top_k(xp, xp.where(blocked, BLOCKED, scores), size)
    organic = take(xp, ids_r, order)
    shape = organic.shape
    kind = [xp.zeros(shape[:-1], dtype=xp.int32) for _ in range(size)]
    special: dict[int, Array] = {}
    chance: dict[int, tuple[Array, Array]] = {}
    if grants is not None and slots is not None:
        heated, got = choose_heated(xp, grants, organic, slots, size)
        for h, place in enumerate(heated_places(size)):
            special[place] = heated[..., h]
            kind[place] = xp.where(got[..., h], HEATED, ORGANIC)
    places = explored_places(size)
    if exploration is not None and places:
        taken = (ids_r[..., None] == organic[..., None, :]).any(-1)
        for content in special.values():
            taken = taken | (ids_r == content[..., None])
        index, explored, probability = choose_explored(xp, exploration, ~blocked & ~taken, floor, len(places))
        for e, place in enumerate(places):
            special[place] = take(xp, ids_r, index[..., e : e + 1])[..., 0]
            kind[place] = xp.where(explored[..., e], EXPLORED, ORGANIC)
            chance[place] = (explored[..., e], probability[..., e])
    shown, propensity, stochastic = [], [], []
    organic_shown = xp.zeros(shape[:-1], dtype=xp.int32)
    one = xp.ones(shape[:-1], dtype=xp.float32)
    for k in range(size):
        plain = take(xp, organic, organic_shown[..., None])[..., 0]
        shown.append(xp.where(kind[k] == ORGANIC, plain, special[k]) if k in special else plain)
        organic_shown = organic_shown + (kind[k] == ORGANIC)
        if k in chance and exploration is not None:
            explored, probability = chance[k]
            p = exploration.probability
            propensity.append(xp.where(explored, p * probability, 1.0 - p).astype(xp.float32))
            stochastic.append(p > 0)
        else:
            propensity.append(one)
            stochastic.append(one < 0)
    return Slate(
        ids=xp.stack(shown, axis=-1).astype(xp.int32),
        kind=xp.stack(kind, axis=-1).astype(xp.int32),
        propensity=xp.stack(propensity, axis=-1),
        stochastic=xp.stack(stochastic, axis=-1),
    )
