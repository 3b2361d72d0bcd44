"""Answers of the hot routes, and lines of the log with their ``schema`` number, as ``msgspec`` writes them."""

from __future__ import annotations

from functools import lru_cache

import msgspec
import numpy as np
import numpy.typing as npt

from upwell.agents.xp import BLOCKED
from upwell.model import Answer, Content, Interaction, Shown, User, Weights
from upwell.regulator import explain, slate
from upwell.service.recommend import Asked, Decided, draws
from upwell.service.records import key_of

SCHEMA = 1


class Question(msgspec.Struct, omit_defaults=True):
    """What a slate was decided from: enough to build it again, bit for bit (``again``)."""

    number: int
    size: int
    width: int  # candidates that arrays had room for: sums of floats hang on it
    candidates: list[str]  # in the ranker's order
    scores: bytes  # f32 [C], quantised
    blocked: bytes  # bool [C]
    seed: int
    probability: float = 0.0
    preference: bytes = b""  # f32 [C], logits; empty: nothing explored
    slots: int = 0
    grants: list[str] = []
    grant_scores: bytes = b""  # f32 [G]
    grant_left: bytes = b""  # i32 [G]


class Place(msgspec.Struct, omit_defaults=True):
    """One place in the log: the answer's, and why in numbers."""

    id: str
    kind: int  # slate.ORGANIC, EXPLORED or HEATED
    propensity: float
    stochastic: bool
    reasons: tuple[str, ...]
    logit: float = 0.0
    contributions: dict[str, float] = {}


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
    question: Question | None = None


class Event(msgspec.Struct, omit_defaults=True):
    """A line of ``user-interactions``: an interaction, or what was told of a user's account, or that they be erased."""

    schema: int
    received_ms: int
    event: Interaction | None = None
    user: User | None = None
    erase: str | None = None


encoder = msgspec.json.Encoder()
logged_decoder = msgspec.json.Decoder(Logged)
event_decoder = msgspec.json.Decoder(Event)
content_decoder = msgspec.json.Decoder(Content)


@lru_cache(maxsize=256)
def reason_names(bits: int) -> tuple[str, ...]:
    return explain.names(bits)


def places_of(one: Asked, decided: Decided, b: int, names: list[str]) -> list[Place]:
    """The filled places of the ``b``-th slate of a batch. ``names``: ids by row of the contents' table."""
    picked, rows = decided.picked, one.contents
    kinds, chances = picked.kind[b, 0].tolist(), picked.propensity[b, 0].tolist()
    drawn, bits = picked.stochastic[b, 0].tolist(), decided.bits[b, 0].tolist()
    strangers: dict[int, str] = {}
    if len(rows) and int(rows.min()) < 0:
        strangers = {int(row): name for row, name in zip(rows, one.ids, strict=True) if row < 0}
    logits = decided.logit[b, 0].tolist()
    parts = [(name, part[b, 0].tolist()) for name, part in decided.contributions.items()]
    return [
        Place(
            names[row] if row > 0 else strangers[row],
            kinds[k],
            chances[k],
            drawn[k],
            reason_names(bits[k]),
            logits[k],
            {name: values[k] for name, values in parts if values[k]},
        )
        for k, (row, gone) in enumerate(zip(picked.ids[b, 0].tolist(), decided.empty[b, 0].tolist(), strict=True))
        if not gone
    ]


def items_of(places: list[Place]) -> tuple[Shown, ...]:
    """Places as an answer shows them."""
    return tuple(
        Shown(p.id, k, p.kind == slate.HEATED, p.kind == slate.EXPLORED, p.propensity, p.reasons)
        for k, p in enumerate(places)
    )


def question_of(one: Asked, decided: Decided, b: int, names: list[str], seed: int) -> Question:
    """What the ``b``-th slate of a batch was decided from."""
    asked, count = decided.question, len(one.ids)
    out = Question(
        number=one.number,
        size=one.request.size,
        width=asked.scores.shape[-1],
        candidates=one.ids,
        scores=asked.scores[b, 0, :count].tobytes(),
        blocked=asked.blocked[b, 0, :count].tobytes(),
        seed=seed,
    )
    if asked.exploration is not None:
        out.probability = float(asked.exploration.probability[b, 0])
        out.preference = asked.exploration.logits[b, 0, :count].tobytes()
    if asked.grants is not None and asked.slots is not None:
        out.slots = int(asked.slots[b, 0])
        out.grants = [names[row] for row in asked.grants.ids[b].tolist()]
        out.grant_scores = asked.grants.scores[b, 0].tobytes()
        out.grant_left = asked.grants.lease[b].tobytes()
    return out


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
    scores = np.r_[floats(asked.scores), np.full(fill, BLOCKED)].astype(np.float32)[None, None, :]
    blocked = np.r_[np.frombuffer(asked.blocked, np.bool_), np.ones(fill, bool)][None, None, :]
    question = slate.Question(ids, scores, blocked)
    if asked.preference:
        u, u_which = draws(asked.seed, np.asarray([asked.number], np.uint32), keys_of(asked.candidates, width), size)
        logits = np.r_[floats(asked.preference), np.zeros(fill)].astype(np.float32)[None, None, :]
        question = question._replace(
            exploration=slate.Exploration(np.asarray([[asked.probability]], np.float32), logits, u, u_which)
        )
    if asked.grants:
        held = np.asarray([[number[name] for name in asked.grants]], np.int32)
        left = np.frombuffer(asked.grant_left, np.int32)[None, :]
        grants = slate.Grants(held, floats(asked.grant_scores)[None, None, :], left)
        question = question._replace(grants=grants, slots=np.asarray([[asked.slots]]))
    picked = slate.build(np, size=size, **question._asdict())
    chosen = zip(*(part[0, 0].tolist() for part in picked), strict=True)
    gone = {i for i in range(count) if blocked[0, 0, i]}
    return [
        Place(names[i], kind, chance, drawn, ())
        for i, kind, chance, drawn in chosen
        if i >= 0 and not (i in gone and kind == slate.ORGANIC)
    ]


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
