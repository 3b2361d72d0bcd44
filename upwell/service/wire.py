"""Answers of the hot routes, and lines of the log with their ``schema`` number, as ``msgspec`` writes them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import msgspec
import numpy as np
import numpy.typing as npt

from upwell.agents.xp import side_by_side, take, top_k
from upwell.model import Answer, Content, Interaction, Shown, User, Weights
from upwell.regulator import explain, slate
from upwell.service.recommend import Asked, Decided, whether, which
from upwell.service.records import key_of

SCHEMA = 1
BOOSTED = (slate.HEATED, slate.PUSHED)


class Question(msgspec.Struct, omit_defaults=True):
    """What a slate was decided from: enough to build it again, bit for bit (``again``)."""

    number: int
    size: int
    width: int  # candidates that arrays had room for: sums of floats hang on it
    candidates: list[str]  # in the ranker's order
    seed: int
    scores: bytes = b""  # f32 [C], quantised; empty: -1 a rank
    blocked: bytes = b""  # bits [C]; empty: none
    probability: float = 0.0
    preference: bytes = b""  # f32 [C], logits; empty: nothing explored
    slots: int = 0
    grants: list[str] = []  # those of the highest scores, enough for any slate
    grant_scores: bytes = b""  # f32 [G]
    grant_left: bytes = b""  # i32 [G]


class Place(msgspec.Struct, omit_defaults=True):
    """One place in the log: the answer's, and why in numbers."""

    id: str
    kind: int  # slate.ORGANIC, EXPLORED, HEATED or PUSHED
    propensity: float
    stochastic: bool
    reasons: tuple[str, ...]
    logit: float = 0.0
    contributions: dict[str, float] = {}


class Turned(msgspec.Struct, omit_defaults=True):
    """How the user's agent turned its dials with noise: what learning goes by."""

    seen: bytes  # f32 [n]
    action: bytes  # f32 [d], before it is clipped to ±1
    noise: bytes  # f32 [d], what of it is the noise's
    deviation: float  # of the noise, the same for every dial
    credit: float  # cold starts that the slate furthered


class Exposure(msgspec.Struct, frozen=True, array_like=True):
    """An experiment and the arm of it that decided.

    ``stage``: counts the experiment's ramps, ``first``: the user's first slate since the last of them.
    """

    experiment: str
    stage: int
    arm: str
    first: bool


class Logged(msgspec.Struct, omit_defaults=True):
    """A decision in the log and in the store."""

    schema: int
    decision_id: str
    user_id: str
    ts: int
    server: str
    places: list[Place]  # what was shown
    arm: str
    policy_version: str
    weights_version: str
    weights: Weights
    platform_ctr: float = 0.0  # that a user first seen here begins with
    why: str | None = None  # the service was degraded: the reason's code
    request_id: str | None = None
    instead: list[Place] = []
    mind: tuple[float, ...] = ()  # the user's, as they came
    turned: Turned | None = None
    question: Question | None = None
    experiments: tuple[Exposure, ...] = ()
    daily: bool = False  # the user's first slate of a day (UTC)
    returned: bool = False  # and they came the day before
    new: bool = False  # of whom an experiment is on: whether the account is, and
    small: tuple[int, ...] = ()  # which places hold contents of small creators
    purse: str = ""  # what heated places are paid from: an arm's (``arms.Split``), or everybody's


class Event(msgspec.Struct, omit_defaults=True):
    """A line of ``user-interactions``: an interaction, or what was told of a user's account, or that they be erased."""

    schema: int
    received_ms: int
    event: Interaction | None = None
    user: User | None = None
    erase: str | None = None
    erased: str | None = None  # under which name of the kind ``meta`` the worker says that it did


class Erased(msgspec.Struct):
    """A line of ``upwell-control``: a user was erased (``keys.digest_of``)."""

    schema: int
    digest: str


encoder = msgspec.json.Encoder()
erased_decoder = msgspec.json.Decoder(Erased)
logged_decoder = msgspec.json.Decoder(Logged)
event_decoder = msgspec.json.Decoder(Event)
content_decoder = msgspec.json.Decoder(Content)


@lru_cache(maxsize=256)
def reason_names(bits: int) -> tuple[str, ...]:
    return explain.names(bits)


def places_of(asked: Sequence[Asked], decided: Decided, names: list[str]) -> list[list[Place]]:
    """The filled places of each slate of a batch. ``names``: ids by row of the contents' table."""
    picked = decided.picked
    parts = tuple(decided.contributions)
    each = zip(
        asked, picked.ids[:, 0].tolist(), picked.kind[:, 0].tolist(), picked.propensity[:, 0].tolist(),
        picked.stochastic[:, 0].tolist(), picked.column[:, 0].tolist(), decided.bits[:, 0].tolist(),
        decided.logit[:, 0].tolist(), side_by_side(np, [*decided.contributions.values()])[:, 0].tolist(),
        decided.empty[:, 0].tolist(), strict=True,
    )  # fmt: skip
    return [
        [
            Place(
                names[row] if row > 0 else one.ids[column], kind, chance, drawn, reason_names(bits), logit,
                {name: value for name, value in zip(parts, values, strict=True) if value},
            )
            for row, kind, chance, drawn, column, bits, logit, values, gone in zip(*places, strict=True)
            if not gone
        ]
        for one, *places in each
    ]  # fmt: skip


def items_of(places: list[Place]) -> tuple[Shown, ...]:
    """Places as an answer shows them."""
    return tuple(
        Shown(p.id, k, p.kind in BOOSTED, p.kind == slate.EXPLORED, p.propensity, p.reasons)
        for k, p in enumerate(places)
    )


def questions_of(asked: Sequence[Asked], decided: Decided, names: list[str], seed: int) -> list[Question]:
    """What each slate of a batch was decided from."""
    question, size = decided.question, asked[0].request.size
    width = question.scores.shape[-1]
    odd = (question.scores[:, 0] != -np.arange(width)).any(-1).tolist()
    out = [
        Question(
            one.number, size, width, one.ids, seed,
            question.scores[b, 0, : len(one.ids)].tobytes() if odd[b] else b"",
            np.packbits(blocked).tobytes() if (blocked := question.blocked[b, 0, : len(one.ids)]).any() else b"",
        )
        for b, one in enumerate(asked)
    ]  # fmt: skip
    tried, grants, slots = question.exploration, question.grants, question.slots
    if tried is not None and tried.tries is not None:
        each = zip(tried.probability[:, 0].tolist(), tried.tries[:, 0].tolist(), strict=True)
        for b, (probability, tries) in enumerate(each):
            out[b].probability = probability
            if tries:
                out[b].preference = tried.logits[b, 0, : len(asked[b].ids)].tobytes()
    if grants is not None and slots is not None:
        # A heated place takes the best grant that is not in the organic order: no others can come into it.
        enough = min(size + len(slate.heated_places(size)), grants.ids.shape[-1])
        best = np.sort(top_k(np, grants.scores[:, 0], enough)[1], axis=-1)
        held, left = take(np, grants.ids, best).tolist(), take(np, grants.lease, best)
        scores = take(np, grants.scores[:, 0], best)
        for b, (rows, places) in enumerate(zip(held, slots[:, 0].tolist(), strict=True)):
            out[b].slots, out[b].grants = places, [names[row] for row in rows]
            out[b].grant_scores, out[b].grant_left = scores[b].tobytes(), left[b].tobytes()
    return out


def turned_of(decided: Decided, deviation: float) -> list[Turned | None]:
    """How the agents of a batch turned their dials; None of whom no dial acts."""
    turned = decided.turned
    if turned is None:
        return [None] * len(decided.arrived)
    return [
        Turned(
            turned.seen[b].tobytes(), turned.action[b].tobytes(), turned.noise[b].tobytes(), deviation,
            float(turned.credit[b]),
        )
        if counts
        else None
        for b, counts in enumerate(turned.counts.tolist())
    ]  # fmt: skip


def again(line: Logged) -> list[Place]:
    """A logged slate built anew from its question: the same contents at the same places, with the same chances."""
    asked = line.question
    if asked is None:
        return line.places
    names = [*asked.candidates, *(name for name in asked.grants if name not in asked.candidates)]
    number = {name: i for i, name in enumerate(names)}
    count, size, width = len(asked.candidates), asked.size, asked.width
    fill = width - count
    ids = np.r_[np.arange(count), np.full(fill, -1)].astype(np.int32)[None, :]
    scores = -np.arange(width, dtype=np.float32)
    scores[:count] = scores_of(asked)
    blocked = np.r_[blocked_of(asked), np.ones(fill, bool)]
    question = slate.Question(ids, scores[None, None, :], blocked[None, None, :])
    if asked.probability:
        u = whether(asked.seed, np.asarray([asked.number], np.uint32), size)
        logits = np.zeros((1, 1, width), np.float32)
        logits[..., :count] = floats(asked.preference) if asked.preference else 0.0
        chance = np.asarray([[asked.probability]], np.float32)
        u_which = which(u, keys_of(asked.candidates, width))
        question = question._replace(exploration=slate.Exploration(chance, logits, u, u_which))
    if asked.grants:
        held = np.asarray([[number[name] for name in asked.grants]], np.int32)
        left = np.frombuffer(asked.grant_left, np.int32)[None, :]
        grants = slate.Grants(held, floats(asked.grant_scores)[None, None, :], left)
        question = question._replace(grants=grants, slots=np.asarray([[asked.slots]]))
    picked = slate.build(np, size=size, **question._asdict())
    each = picked.ids, picked.kind, picked.propensity, picked.stochastic
    chosen = zip(*(part[0, 0].tolist() for part in each), strict=True)
    gone = set(np.flatnonzero(blocked).tolist())
    return [
        Place(names[i], kind, chance, drawn, ())
        for i, kind, chance, drawn in chosen
        if i >= 0 and not (i in gone and kind == slate.ORGANIC)
    ]


def scores_of(asked: Question) -> npt.NDArray[np.float32]:
    """Organic scores ``[C]``, in quantised steps."""
    return floats(asked.scores) if asked.scores else -np.arange(len(asked.candidates), dtype=np.float32)


def blocked_of(asked: Question) -> npt.NDArray[np.bool_]:
    """Candidates that were never to be shown ``[C]``."""
    count = len(asked.candidates)
    if not asked.blocked:
        return np.zeros(count, bool)
    return np.unpackbits(np.frombuffer(asked.blocked, np.uint8), count=count).astype(bool)


def keys_of(names: list[str], width: int) -> npt.NDArray[np.uint32]:
    return np.asarray([[*(key_of(name) for name in names), *[0] * (width - len(names))]], np.uint32)


def floats(data: bytes) -> npt.NDArray[np.float32]:
    return np.frombuffer(data, np.float32)


def answer_of(line: Logged) -> Answer:
    """What the caller gets for a decision of the log."""
    return Answer(
        line.decision_id, items_of(line.places), line.arm, line.policy_version, line.weights_version,
        line.why is not None, line.why,
    )  # fmt: skip
