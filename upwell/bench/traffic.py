"""Contents, users, requests and events for load, all from a seed."""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec
import numpy as np

from upwell.bench.load import http
from upwell.model import Candidate, Content, Interaction, Kind, Request
from upwell.service import records
from upwell.service.settings import Settings
from upwell.service.wire import Answer
from upwell.state import open_store
from upwell.state.batch import Batch

DAY_MS = 86_400_000
SIZE = 10
"""Places of a slate."""
EVENTS_A_DECISION = SIZE + 2
AT_ONCE = 1_000
answer_decoder = msgspec.json.Decoder(Answer)


def register(settings: Settings, contents: int, users: int, seed: int) -> None:
    """Contents of every age up to 8 days and users with tastes of their own, put into the store as the service does."""
    rng, now = np.random.default_rng(seed), time.time_ns() // 1_000_000
    settings.data.mkdir(parents=True, exist_ok=True)
    store = open_store(settings.store_url)
    try:
        for first in range(0, contents, AT_ONCE):
            batch = Batch()
            for n in range(first, min(first + AT_ONCE, contents)):
                one = Content(
                    id=f"c{n}", creator_id=f"by{n % 500}", tags=(f"t{n % 23}", f"s{n % 211}"),
                    published_at=now - int(rng.integers(8 * DAY_MS)),
                )  # fmt: skip
                batch.put("content", one.id, msgspec.json.encode(one))
            store.write(batch)
        for first in range(0, users, AT_ONCE):
            batch = Batch()
            for n in range(first, min(first + AT_ONCE, users)):
                row, taste = records.new_user(now - 30 * DAY_MS, settings.click_rate), rng.normal(size=records.DIMS)
                row["profile"] = taste / np.linalg.norm(taste)
                batch.put("user", f"u{n}", row.tobytes())
            store.write(batch)
    finally:
        store.close()


def requests(users: Sequence[int], contents: int, candidates: int, seed: int) -> list[bytes]:
    """A ``POST /v1/recommend`` of each user, over the wire: candidates at random, best score first.

    The n-th content comes up in proportion to 1/n, which of 2,000 gives the first 1% 44% of the places, as in KuaiRand.
    """
    rng = np.random.default_rng(seed)
    popularity = -np.log(np.arange(1, contents + 1))
    count = min(candidates, contents)
    out: list[bytes] = []
    for user in users:
        # The first by popularity and Gumbel noise are a draw in proportion, none twice.
        drawn = np.argpartition(-(popularity + rng.gumbel(size=contents)), count - 1)[:count]
        chosen: list[int] = rng.permutation(drawn).tolist()
        scores = np.sort(rng.normal(size=count))[::-1].round(6).tolist()
        asked = tuple(Candidate(id=f"c{n}", score=score) for n, score in zip(chosen, scores, strict=True))
        body = msgspec.json.encode(Request(user_id=f"u{user}", candidates=asked, size=SIZE))
        out.append(http("POST", "/v1/recommend", body))
    return out


def events(user: int, answer: Answer, now_ms: int) -> list[Interaction]:
    """Each place was viewed for a second; one of them, chosen by the user's number, was clicked and shared.

    Of these, ``units`` of what is counted go up by one an event, so that none can be lost or counted twice unseen.
    """
    decision, name, ids = answer.decision_id, f"u{user}", [item.id for item in answer.items]
    out = [
        Interaction(
            event_id=f"{decision}.{k}", content_id=id, user_id=name, ts=now_ms, decision_id=decision, dwell_s=1.0
        )
        for k, id in enumerate(ids)
    ]
    if ids:
        liked = ids[user % len(ids)]
        kinds: tuple[Kind, Kind] = ("click", "share")
        out += [
            Interaction(
                event_id=f"{decision}.{kind}",
                content_id=liked,
                user_id=name,
                ts=now_ms,
                decision_id=decision,
                kind=kind,
            )
            for kind in kinds
        ]
    return out


def units(counts: dict[str, int]) -> int:
    """How many of ``events`` these counts of a content come from."""
    return round(counts.get("dwell_ms", 0) / 1_000) + counts.get("clicks", 0) + counts.get("shares", 0)


def call(batch: Sequence[Interaction]) -> bytes:
    return http("POST", "/v1/interactions", msgspec.json.encode({"events": batch}))
