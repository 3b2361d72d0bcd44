"""The fast path: a batch of requests to slates, by the regulator's own functions over NumPy.

Work is O(candidates): what a user is, what a content has done and which grants suit a segment is in memory already.
Every step down from the rules is the ranker's own order; a request never fails for what the regulator cannot do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, repeat
from math import isfinite
from operator import attrgetter, gt
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from upwell.agents import content, user
from upwell.agents.dials import Dials
from upwell.agents.parts import Parts, total
from upwell.agents.user import UserDials
from upwell.agents.xp import BLOCKED, MILLI, before_equals, hash_uniform, quantise, take
from upwell.model import Request
from upwell.regulator import explain, guards, policy, slate
from upwell.regulator.assignment import Reach, unit_id
from upwell.regulator.trust.judge import NARROWED
from upwell.service import fold, learned, own
from upwell.service.learned import Playing, Turned
from upwell.service.records import COLUMN, key_of
from upwell.service.settings import Settings
from upwell.service.steps import NO_CONTENT
from upwell.service.tables import NOBODY, Contents, Users

RULES = Dials()
DAY_MS = 86_400_000
WHETHER, WHICH = 601, 602
CLICKS, IMPRESSIONS, HEATED = COLUMN["clicks"], COLUMN["impressions"], COLUMN["heated"]
REPEATED = -4.0e6
"""Added to the score of what is put off (``put_off``): below every other candidate, above what is blocked."""
ID, SCORE = attrgetter("id"), attrgetter("score")


class Asked(NamedTuple):
    """A request, checked, and where its user and candidates stand in memory."""

    request: Request
    number: int  # of the decision: what draws hang on
    user: int  # row
    contents: npt.NDArray[np.int32]  # rows [C], best score first; below ``NO_CONTENT``: not known, each its own number
    keys: npt.NDArray[np.uint32]  # [C]
    ids: list[str]  # [C]
    scores: npt.NDArray[np.float64]  # [C], the ranker's
    dropped: int  # rows given up by then (``Rows.dropped``): with more of them, ask ``prepare`` again


class Window(NamedTuple):
    """Shown by this server in the cap's window so far."""

    impressions: int
    heated: int
    throttle: float


class Batch(NamedTuple):
    """What every part of a decision goes by: requests, their users as they come, their candidates. ``[B, …]``."""

    settings: Settings
    contents: Contents
    platform_ctr: float
    asked: Sequence[Asked]
    arrived: npt.NDArray[np.void]
    profile: npt.NDArray[np.float32]  # f32 [B, DIMS]
    engaged: npt.NDArray[np.uint64]  # tags engaged within a week, a bit each [B]
    rows: npt.NDArray[np.int32]  # of candidates [B, C], as in ``Asked``; ``NO_CONTENT`` where there is none
    keys: npt.NDArray[np.uint32]  # [B, C]
    size: int
    now_ms: int
    doubted: npt.NDArray[np.bool_]  # users who are not trusted [B]


@dataclass(frozen=True)
class Grants:
    """Grants matched to segments at the slow tick."""

    rows: npt.NDArray[np.int32]  # of contents ``[S, G]``, ``NOBODY`` where there is none
    dials: npt.NDArray[np.float32] | None = None  # ``learned.HEAT`` of each, f32 ``[S, G, 3]``; None: the rules'
    purse: str = ""  # what they are granted from


class Decided(NamedTuple):
    """What a batch came to: the question that was asked, the slates, and why. ``[B, …]``."""

    question: slate.Question
    picked: slate.Slate
    bits: npt.NDArray[np.int32]  # reasons [B, 1, K]
    arrived: npt.NDArray[np.void]  # users' records at the time of the request [B]
    logit: npt.NDArray[np.float32]  # what was compared [B, 1, K]
    contributions: Parts  # of it, f32 [B, 1, K] each
    empty: npt.NDArray[np.bool_]  # places that nothing was left for [B, 1, K]
    turned: Turned | None = None  # where dials are turned with noise
    on_trial: npt.NDArray[np.bool_] | None = None  # who got the version on trial [B], where there is one


def prepare(contents: Contents, request: Request, number: int, user_row: int) -> Asked:
    """Candidates in the ranker's order, ties by id, of an id given twice the better one. Raises ValueError when a score
    is not a number."""
    given = request.candidates
    ids = list(map(ID, given))
    scores = list(map(SCORE, given))
    if not all(map(gt, scores, islice(scores, 1, None))):  # else in order already, as most rankers send them
        if not all(map(isfinite, scores)):
            raise ValueError("every score must be a finite number")
        order = sorted(range(len(ids)), key=lambda i: (-scores[i], ids[i]))
        ids, scores = [ids[i] for i in order], [scores[i] for i in order]
    elif scores and not (isfinite(scores[0]) and isfinite(scores[-1])):
        raise ValueError("every score must be a finite number")
    if len(set(ids)) < len(ids):
        best = dict(zip(reversed(ids), reversed(scores), strict=True))
        ids = list(dict.fromkeys(ids))
        scores = [best[id] for id in ids]
    rows = np.fromiter(map(contents.rows.at.get, ids, repeat(NOBODY)), np.int32, len(ids))
    keys = contents.key[rows]
    unknown = np.flatnonzero(rows == NOBODY)
    if len(unknown):
        rows[unknown] = NO_CONTENT - 1 - np.arange(len(unknown), dtype=np.int32)
        keys[unknown] = [key_of(ids[i]) for i in unknown]
    return Asked(request, number, user_row, rows, keys, ids, np.asarray(scores), contents.rows.dropped)


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
    playing: Playing | None = None,
    exploration: float = 1.0,
    reach: Reach | None = None,
) -> Decided:
    """Slates of ``size`` for a batch.

    Args:
        grants: None: the ranker's own order, nothing heated and nothing explored.
        playing: the learned policy; None: the rules.
        exploration: factor on users' chance to explore, for an experiment's arm.
        reach: contents that they may be shown; None: all.
    """
    count, width = len(asked), max(*(len(one.ids) for one in asked), size)
    rows = np.full((count, width), NO_CONTENT, np.int32)
    keys = np.zeros((count, width), np.uint32)
    for b, one in enumerate(asked):
        rows[b, : len(one.ids)], keys[b, : len(one.ids)] = one.contents, one.keys
    place = np.fromiter([one.user for one in asked], np.int64, count)
    arrived = fold.arrive(settings, users.record[place], now_ms)
    blocked = rows == NO_CONTENT
    if any(one.request.exclude for one in asked):
        blocked |= never(contents, asked, rows)
    least = np.minimum((~blocked).sum(-1), size)  # shown, whatever is added to the candidates
    held_out = users.held_out[place]
    age_days = (now_ms - arrived["created_ms"]) / DAY_MS
    protected = ~guards.may_explore(age_days, 0.0, settings.protection_days, held_out)
    allowed = np.where(protected, np.float32(0.0), np.float32(window.throttle))
    profile, engaged = arrived["profile"].astype(np.float32), fold.engaged(arrived)
    batch = Batch(
        settings, contents, platform_ctr, asked, arrived, profile, engaged, rows, keys, size, now_ms,
        users.doubted[place],
    )  # fmt: skip
    dials, turned, on_trial = RULES.user, None, None
    if playing is None or grants is None:
        scores = -np.arange(width, dtype=np.float32) + np.zeros((count, 1), np.float32)
        organic_by: Parts = {"rank": scores[:, None, :] / np.float32(MILLI)}
    else:
        noise = None
        if settings.dial_noise > 0.0:
            whose = np.fromiter((key_of(one.request.user_id) for one in asked), np.uint32, count)
            noise = np.float32(settings.dial_noise) * learned.noise(settings.seed, whose, now_ms)
        trial = None
        if playing.trial is not None:
            on_trial = playing.trial.gets([one.request.user_id for one in asked])
            trial = (playing.trial.learned, on_trial) if on_trial.any() else None
        dials, sees, action = learned.users_turn(playing.learned, arrived, engaged, now_ms, playing.seen, noise, trial)
        dials = own.turned(dials, users.own[place])
        if noise is not None:
            turned = Turned(sees, action, noise, ~protected, np.zeros(count, np.float32))
        parts = learned.corrected(
            contents, playing.record, rows, given_scores(asked, rows.shape), arrived, engaged, allowed, dials
        )
        scores = quantise(np, total(parts))
        organic_by = {name: part[:, None, :] for name, part in parts.items()}
    if reach is not None:
        put_off(~reach.has(units_of(contents, asked, rows)) & (rows != NO_CONTENT), blocked, scores, size)
    repeated = in_ring(arrived, keys)
    if repeated.any():  # shown lately
        put_off(repeated, blocked, scores, size)
    question = slate.Question(rows, scores[:, None, :], blocked[:, None, :])
    heated_by: Parts = {}
    tried_by: Parts = {}
    if grants is not None:
        tries, tried_by = explored(batch, allowed * np.float32(exploration), dials)
        # Segments may be newer than the grants matched to them, and more.
        segment = np.minimum(users.segment[place], len(grants.rows) - 1)
        heat = None if grants.dials is None else grants.dials[segment]
        held, any_held, heated_by = matched(batch, grants.rows[segment], heat, contents.left_in(grants.purse))
        places = len(slate.heated_places(size))
        want = np.where(held_out | ~any_held, 0, places).tolist()
        # In the order of the batch, so that the cap holds after every single one of its slates.
        left = guards.heated_slots_left(np, window.impressions, window.heated, np.cumsum(least), settings.cap)
        used, slots = 0, list[int]()
        for wanted, most in zip(want, left.tolist(), strict=True):
            slots.append(min(wanted, max(most - used, 0)))
            used += slots[-1]
        # Who holds no grant takes no part of what the cap leaves, and was not kept from heating by it either.
        given = np.where(held_out | any_held, np.asarray(slots, np.int32), places)[:, None]
        question = question._replace(grants=held, slots=given, exploration=tries)
    picked = slate.build(np, size=size, **question._asdict())
    heated_before = contents.counts[np.maximum(picked.ids, NOBODY), HEATED]
    owed = (heated_before < settings.chance * settings.scale) & (picked.ids > NOBODY)
    bits = explain.reasons(np, question, picked, owed, held_out[:, None], protected[:, None])
    if turned is not None and playing is not None:
        furthered = learned.credit(
            contents, playing.record, picked.ids[:, 0], picked.kind[:, 0] == slate.HEATED, now_ms,
            float(playing.seen.scale),
        )  # fmt: skip
        turned = turned._replace(credit=furthered)
    organic = picked.kind == slate.ORGANIC
    unfit = take(np, question.blocked, np.where(organic, picked.column, 0))
    logit, named = explain.contributions(np, question, picked, organic_by, heated_by, tried_by)
    return Decided(question, picked, bits, arrived, logit, named, organic & unfit, turned, on_trial)


def put_off(
    who: npt.NDArray[np.bool_], blocked: npt.NDArray[np.bool_], scores: npt.NDArray[np.float32], size: int
) -> None:
    """Keep candidates ``[B, C]`` from the slate while there is enough else, and at its end where there is not."""
    enough = (~(blocked | who)).sum(-1, keepdims=True) >= size
    blocked |= who & enough
    # Once, for whatever reason: twice would be as what is blocked.
    scores[who & (scores > REPEATED / 2)] += np.float32(REPEATED)


def units_of(contents: Contents, asked: Sequence[Asked], rows: npt.NDArray[np.int32]) -> npt.NDArray[np.uint32]:
    """What experiments deal candidates by ``[B, C]``."""
    units = contents.unit[np.maximum(rows, NOBODY)]
    for b, c in zip(*np.nonzero(rows < NO_CONTENT), strict=True):
        units[b, c] = unit_id(asked[b].ids[c])
    return units


def given_scores(asked: Sequence[Asked], shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """The ranker's scores of a batch ``[B, C]``, 0 where there is no candidate."""
    out = np.zeros(shape)
    for b, one in enumerate(asked):
        out[b, : len(one.scores)] = one.scores
    return out


def explored(batch: Batch, throttle: npt.NDArray[np.float32], dials: UserDials) -> tuple[slate.Exploration, Parts]:
    """What the user agents try out, and the parts of their preference; 0 for requests that try nothing.

    Candidates are looked at for those only that do try something: the draw of whether does not hang on them.
    ``throttle``: factor on each user's chance to explore, f32 ``[B]``. ``dials``: numbers, or f32 ``[B]``.
    """
    contents, rows = batch.contents, batch.rows
    number = np.fromiter([one.number for one in batch.asked], np.uint32, len(batch.asked))
    chance = (user.explore_probability(np, batch.arrived["mind"], dials) * throttle)[:, None]
    u = whether(batch.settings.seed, number, batch.size)
    tries = slate.trying(u, chance)
    u_which = np.zeros((*u.shape, rows.shape[-1]), np.float32)
    preference = np.zeros((len(rows), 1, rows.shape[-1]), np.float32)
    who = np.flatnonzero(tries)
    each: Parts = {}
    if len(who):
        some = rows[who]
        known = np.maximum(some, NOBODY)
        similar = np.matmul(contents.embedding[known], batch.profile[who][:, :, None])[:, None, :, 0]
        hope = content.promise(
            np, contents.counts[known, CLICKS], contents.counts[known, IMPRESSIONS], np.float32(batch.platform_ctr)
        )[:, None, :].astype(np.float32)  # fmt: skip
        new = (contents.published_ms[known] > batch.now_ms - fold.NEW_MS) & (some > NOBODY)
        own = UserDials(*(dial[who, None] if np.ndim(dial) else dial for dial in dials))
        # The rules look at no tags.
        idle = None if dials is RULES.user else learned.idle(contents, known, batch.engaged[who])[:, None, :]
        parts = user.explore_parts(
            np, similar, hope, new[:, None, :], batch.arrived["mind"][who][:, None, :], own, idle
        )
        preference[who] = total(parts)
        u_which[who] = which(u[who], batch.keys[who])
        for name, part in parts.items():
            each[name] = np.zeros(preference.shape, np.float32)
            each[name][who] = part
    return slate.Exploration(chance, preference, u, u_which, tries), each


def whether(seed: int, number: npt.NDArray[np.uint32], size: int) -> npt.NDArray[np.float32]:
    """Uniforms of decisions ``[B]``: whether to explore at each explorable place, ``[B, 1, E]``."""
    return hash_uniform(np, seed, WHETHER, number[:, None, None], np.arange(len(slate.explored_places(size))))


def which(u: npt.NDArray[np.float32], keys: npt.NDArray[np.uint32]) -> npt.NDArray[np.float32]:
    """Uniforms of candidates with ``keys`` ``[B, C]`` at places with uniforms ``u``, ``[B, 1, E, C]``."""
    return hash_uniform(np, u[..., None] * np.float32(2.0**24), WHICH, keys[:, None, None, :])


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
    # Most are not: 12 of the bits tell, and the few that they do not tell apart are compared.
    rows = np.arange(len(ring))[:, None]
    table = np.zeros((len(ring), 4_096), bool)
    table[rows, ring & 4_095] = True
    out = table[rows, short & 4_095]
    user, column = np.nonzero(out)
    out[user, column] = (ring[user] == short[user, column][:, None]).any(-1)
    return out


def matched(
    batch: Batch, held: npt.NDArray[np.int32], dials: npt.NDArray[np.float32] | None, left_of: npt.NDArray[np.int64]
) -> tuple[slate.Grants, npt.NDArray[np.bool_], Parts]:
    """The grants of each user's segment scored for this user, whether there are any ``[B]``, and the scores' parts.

    ``held``: contents with a grant in the user's segment, rows i32 ``[B, G]``. ``dials``: of these, see ``Grants``.
    ``left_of``: impressions left, by row of the contents' table.
    """
    contents, platform_ctr, asked = batch.contents, batch.platform_ctr, batch.asked
    fit = np.matmul(contents.embedding[held], batch.profile[:, :, None])[..., 0]
    impressions = contents.counts[held, IMPRESSIONS]
    hope = content.promise(np, contents.counts[held, CLICKS], impressions, platform_ctr)
    ours, theirs, idle = RULES.content, RULES.system, None
    if dials is not None:
        audience, promise, wide = np.moveaxis(dials, -1, 0)
        ours, theirs = ours._replace(audience=audience), theirs._replace(promise=promise, wide=wide)
        idle = learned.idle(contents, held, batch.engaged)
    parts = policy.heat(np, fit, hope, impressions * platform_ctr, batch.settings.fit_weight, ours, theirs, idle)
    logits = total(parts)
    left = left_of[held]
    usable = (held > NOBODY) & (left > 0) & contents.live[held] & np.isfinite(logits)
    usable &= ~in_ring(batch.arrived, contents.key[held])
    usable &= ~(batch.doubted[:, None] & (contents.low[held] >= NARROWED))
    if (left < len(asked)).any():
        usable &= turn(held) < left
    for b, one in enumerate(asked):
        request = one.request
        if not request.inject:
            usable[b] &= np.isin(held[b], batch.rows[b])
        if request.exclude:
            no = set(request.exclude)
            usable[b] &= [contents.rows.names[row] not in no for row in held[b]]
    scores = np.where(usable, quantise(np, logits), np.float32(BLOCKED)).astype(np.float32)
    each = {name: part[:, None, :] for name, part in parts.items()}
    return slate.Grants(held, scores[:, None, :], usable.astype(np.int32)), usable.any(-1), each


def turn(held: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """How many requests of the batch before this one hold the same grant, ``[B, G]``.

    Each shows a content once at most, so that a grant with fewer impressions left goes to the first of them.
    """
    if held.shape[0] == 1:
        return np.zeros(held.shape, np.int64)
    return before_equals(np, held.ravel()).reshape(held.shape)
