"""The fast path: a batch of requests to slates, by the regulator's own functions over NumPy.

Work is O(candidates): what a user is, what a content has done and which grants suit a segment is in memory already.
Every step down from the rules is the ranker's own order; a request never fails for what the regulator cannot do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from upwell.agents import content, user
from upwell.agents.dials import Dials
from upwell.agents.parts import Parts, total
from upwell.agents.xp import BLOCKED, MILLI, hash_uniform, quantise
from upwell.model import Request
from upwell.regulator import explain, guards, policy, slate
from upwell.service import fold
from upwell.service.records import COLUMN, key_of
from upwell.service.settings import Settings
from upwell.service.tables import NOBODY, Contents, Users

RULES = Dials()
DAY_MS = 86_400_000
WHETHER, WHICH = 601, 602
CLICKS, IMPRESSIONS = COLUMN["clicks"], COLUMN["impressions"]
REPEATED = -4.0e6
"""Added to the score of what a user has just been shown: below every other candidate, above what is blocked."""
NO_CONTENT = -1


class Asked(NamedTuple):
    """A request, checked, and where its user and candidates stand in memory."""

    request: Request
    number: int  # of the decision: what draws hang on
    user: int  # row
    contents: npt.NDArray[np.int32]  # rows [C], best score first; below ``NO_CONTENT``: not known, each its own number
    keys: npt.NDArray[np.uint32]  # [C]
    ids: list[str]  # [C]
    dropped: int  # rows given up by then (``Rows.dropped``): with more of them, ask ``prepare`` again


class Window(NamedTuple):
    """Shown by this server in the cap's window so far."""

    impressions: int
    heated: int
    throttle: float


@dataclass(frozen=True)
class Grants:
    """Grants matched to segments at the slow tick: content rows i32 ``[S, G]``, ``NOBODY`` where there is none."""

    rows: npt.NDArray[np.int32]


class Decided(NamedTuple):
    """What a batch came to: the question that was asked, the slates, and why. ``[B, …]``."""

    question: slate.Question
    picked: slate.Slate
    bits: npt.NDArray[np.int32]  # reasons [B, 1, K]
    arrived: npt.NDArray[np.void]  # users' records at the time of the request [B]
    logit: npt.NDArray[np.float32]  # what was compared [B, 1, K]
    contributions: Parts  # of it, f32 [B, 1, K] each
    empty: npt.NDArray[np.bool_]  # places that nothing was left for [B, 1, K]


def prepare(contents: Contents, request: Request, number: int, user_row: int) -> Asked:
    """Candidates in the ranker's order, ties by id, of an id given twice the better one. Raises ValueError when a score
    is not a number."""
    given = request.candidates
    scores = np.array([c.score for c in given], np.float64)
    if not np.isfinite(scores).all():
        raise ValueError("every score must be a finite number")
    ids = [c.id for c in given]
    if not (scores[1:] < scores[:-1]).all():  # else in order already, as most rankers send them
        ids = [ids[i] for i in sorted(range(len(ids)), key=lambda i: (-given[i].score, given[i].id))]
    if len(set(ids)) < len(ids):
        ids = list(dict.fromkeys(ids))
    get = contents.rows.at.get
    rows = np.asarray([get(name, NOBODY) for name in ids], np.int32)
    unknown = rows == NOBODY
    keys = contents.key[rows]
    if unknown.any():
        where = np.flatnonzero(unknown)
        rows[where] = NO_CONTENT - 1 - np.arange(len(where), dtype=np.int32)
        keys[where] = [key_of(ids[i]) for i in where]
    return Asked(request, number, user_row, rows, keys, ids, contents.rows.dropped)


def decide(
    settings: Settings,
    users: Users,
    contents: Contents,
    grants: Grants | None,
    window: Window,
    platform_ctr: float,
    asked: Sequence[Asked],
    size: int,
    now_ms: int,
) -> Decided:
    """Slates of ``size`` for a batch. ``grants`` None: the ranker's own order, nothing heated and nothing explored."""
    count, width = len(asked), max(max(len(a.contents) for a in asked), size)
    rows = np.full((count, width), NO_CONTENT, np.int32)
    keys = np.zeros((count, width), np.uint32)
    for b, one in enumerate(asked):
        rows[b, : len(one.contents)] = one.contents
        keys[b, : len(one.keys)] = one.keys
    place = np.fromiter((one.user for one in asked), np.int64, count)
    arrived = fold.arrive(settings, users.record[place], now_ms)
    known = np.maximum(rows, NOBODY)
    blocked = (rows == NO_CONTENT) | never(contents, asked, rows)
    # Shown lately: kept from the slate while there is enough else, and at its end where there is not.
    repeated = in_ring(arrived, keys)
    least = np.minimum((~blocked).sum(-1), size)  # shown, whatever is added to the candidates
    enough = (~(blocked | repeated)).sum(-1, keepdims=True) >= size
    blocked = blocked | (repeated & enough)
    scores = -np.arange(width, dtype=np.float32) + REPEATED * repeated
    held_out = users.held_out[place]
    age_days = (now_ms - arrived["created_ms"]) / DAY_MS
    protected = ~guards.may_explore(age_days, 0.0, settings.protection_days, held_out)
    question = slate.Question(rows, scores[:, None, :].astype(np.float32), blocked[:, None, :])
    heated_by: Parts = {}
    tried_by: Parts = {}
    if grants is not None:
        profile = arrived["profile"].astype(np.float32)
        similar = np.einsum("bd,bcd->bc", profile, contents.embedding[known])[:, None, :]
        hope = content.promise(
            np, contents.counts[known, CLICKS], contents.counts[known, IMPRESSIONS], np.float32(platform_ctr)
        ).astype(np.float32)  # fmt: skip
        new = (contents.published_ms[known] > now_ms - 3 * DAY_MS) & (rows > NOBODY)
        feeling = arrived["mind"][:, None, :]
        chance = user.explore_probability(np, feeling)[:, 0] * np.float32(window.throttle)
        tried_by = user.explore_parts(np, similar, hope[:, None, :], new[:, None, :], feeling)
        preference = np.asarray(total(tried_by), np.float32)
        number = np.fromiter((one.number for one in asked), np.uint32, count)
        u, u_which = draws(settings.seed, number, keys, size)
        exploration = slate.Exploration(np.where(protected, np.float32(0.0), chance)[:, None], preference, u, u_which)
        held, any_held, heated_by = matched(
            settings, users, contents, grants, platform_ctr, asked, place, profile, arrived, rows
        )
        places = len(slate.heated_places(size))
        want = np.where(held_out | ~any_held, 0, places)
        # In the order of the batch, so that the cap holds after every single one of its slates.
        left = guards.heated_slots_left(np, window.impressions, window.heated, np.cumsum(least), settings.cap)
        slots = np.zeros((count, 1), np.int32)
        used = 0
        for b, (wanted, most) in enumerate(zip(want.tolist(), left.tolist(), strict=True)):
            slots[b] = min(wanted, max(most - used, 0))
            used += int(slots[b, 0])
        # Who holds no grant takes no part of what the cap leaves, and was not kept from heating by it either.
        slots = np.where((held_out | any_held)[:, None], slots, places)
        question = question._replace(grants=held, slots=slots, exploration=exploration)
    picked = slate.build(np, size=size, **question._asdict())
    heated_before = contents.counts[np.maximum(picked.ids, NOBODY), COLUMN["heated"]]
    owed = (heated_before < settings.chance * settings.scale) & (picked.ids > NOBODY)
    bits = explain.reasons(np, question, picked, owed, held_out[:, None], protected[:, None])
    unfit = np.where(blocked, rows, NO_CONTENT)[:, None, None, :]
    empty = (picked.ids == NO_CONTENT) | ((picked.ids[..., None] == unfit).any(-1) & (picked.kind == slate.ORGANIC))
    organic = {"rank": question.scores / np.float32(MILLI)}
    logit, named = explain.contributions(np, question, picked, organic, heated_by, tried_by)
    return Decided(question, picked, bits, arrived, logit, named, empty)


def draws(
    seed: int, number: npt.NDArray[np.uint32], keys: npt.NDArray[np.uint32], size: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Uniforms of decisions ``[B]`` over candidates with ``keys`` ``[B, C]``: whether to explore at each explorable
    place ``[B, 1, E]``, and which candidate ``[B, 1, E, C]``."""
    u = hash_uniform(np, seed, WHETHER, number[:, None, None], np.arange(len(slate.explored_places(size))))
    return u, hash_uniform(np, u[..., None] * np.float32(2.0**24), WHICH, keys[:, None, None, :])


def never(contents: Contents, asked: Sequence[Asked], rows: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """Candidates that their request excludes, ``[B, C]``."""
    out = np.zeros(rows.shape, bool)
    for b, one in enumerate(asked):
        if one.request.exclude:
            no = set(one.request.exclude)
            out[b, : len(one.ids)] = [name in no for name in one.ids]
    return out


def in_ring(arrived: npt.NDArray[np.void], keys: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
    """Whether each content ``[B, X]`` is among those its user was lately shown, by the low 16 bits of its key."""
    ring = arrived["ring"]
    if not ring.any():
        return np.zeros(keys.shape, bool)
    short = np.maximum(keys.astype(np.uint16), 1)
    return (short[:, :, None] == ring[:, None, :]).any(-1)


def matched(
    settings: Settings,
    users: Users,
    contents: Contents,
    grants: Grants,
    platform_ctr: float,
    asked: Sequence[Asked],
    place: npt.NDArray[np.int64],
    profile: npt.NDArray[np.float32],
    arrived: npt.NDArray[np.void],
    rows: npt.NDArray[np.int32],
) -> tuple[slate.Grants, npt.NDArray[np.bool_], Parts]:
    """The grants of each user's segment scored for this user, whether there are any ``[B]``, and the scores' parts."""
    # Segments may be newer than the grants matched to them, and more.
    held = grants.rows[np.minimum(users.segment[place], len(grants.rows) - 1)]
    fit = np.einsum("bd,bgd->bg", profile, contents.embedding[held])
    impressions = contents.counts[held, IMPRESSIONS]
    hope = content.promise(np, contents.counts[held, CLICKS], impressions, platform_ctr)
    parts = policy.heat(
        np, fit, hope, impressions * platform_ctr, settings.fit_weight, RULES.content, RULES.system
    )  # fmt: skip
    logits = total(parts)
    usable = (held > NOBODY) & contents.live[held] & np.isfinite(logits) & ~in_ring(arrived, contents.key[held])
    for b, one in enumerate(asked):
        request = one.request
        if not request.inject:
            usable[b] &= np.isin(held[b], rows[b])
        if request.exclude:
            no = set(request.exclude)
            usable[b] &= [contents.rows.names[row] not in no for row in held[b]]
    usable &= turn(held) < contents.left[held]
    scores = np.where(usable, quantise(np, np.where(usable, logits, 0.0)), np.float32(BLOCKED)).astype(np.float32)
    each = {name: np.where(usable, part, 0.0)[:, None, :] for name, part in parts.items()}
    return slate.Grants(held, scores[:, None, :], usable.astype(np.int32)), usable.any(-1), each


def turn(held: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """How many requests of the batch before this one hold the same grant, ``[B, G]``.

    Each shows a content once at most, so that a grant with fewer impressions left goes to the first of them.
    """
    if held.shape[0] == 1:
        return np.zeros(held.shape, np.int64)
    flat = held.ravel()
    order = np.argsort(flat, kind="stable")
    ranked = flat[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    rank = np.arange(len(flat)) - np.repeat(starts, np.diff(np.r_[starts, len(flat)]))
    out = np.empty(len(flat), np.int64)
    out[order] = rank
    return out.reshape(held.shape)
