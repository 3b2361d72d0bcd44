"""Servers, contents, users and requests for the tests of the service, all from a seed."""

from __future__ import annotations

import numpy as np

from upwell.model import Candidate, Content, Interaction, Request
from upwell.service import recommend, records, wire
from upwell.service.live import Live
from upwell.service.recommend import Asked, Grants
from upwell.service.records import COUNTS, DIMS, key_of
from upwell.service.settings import Settings
from upwell.service.tables import NOBODY

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
NOW = 20_250 * DAY_MS + 10 * HOUR_MS
"""Ten in the morning of some day."""
PARTITION = "p0"


def settings(**given) -> Settings:
    """A platform of a few hundred contents, scale 1/5; the agents by rules."""
    return Settings(**{"daily_impressions": 30_000.0, "live_contents": 300.0, "seed": 5, "policy": ""} | given)


def content(number: int, published_at: int = NOW - 10 * DAY_MS, **given) -> Content:
    """A content with an embedding of its own, the same for the same number."""
    rng = np.random.default_rng(number)
    values = {"embedding": tuple(rng.normal(size=DIMS).tolist()), "creator_id": f"by{number % 7}"} | given
    return Content(id=f"c{number}", published_at=published_at, **values)


def row_of(live: Live, user: str, now_ms: int = NOW) -> int:
    """The user's row; a user not known is made at this time, as the service does."""
    row = live.users.rows.at.get(user)
    return live.users.put(user, records.new_user(now_ms, live.platform_ctr)) if row is None else row


def known_user(live: Live, name: str, seed: int = 0, created_ms: int = NOW - 30 * DAY_MS) -> int:
    """Puts a user who has been here for a while and likes something."""
    rng = np.random.default_rng([seed, key_of(name)])
    record = records.new_user(created_ms, live.platform_ctr)
    taste = rng.normal(size=DIMS)
    record["profile"] = taste / np.linalg.norm(taste)
    record["mind"] = rng.uniform((0.0, 0.4, 0.0, 0.5), (0.6, 1.0, 0.8, 1.0))
    return live.users.put(name, record)


def server(seed: int = 0, contents: int = 150, users: int = 60, segments: int = 3, left: int = 1_000, **given) -> Live:
    """A server in the middle of its day: counted contents of every age, users old and new, grants outstanding."""
    rng = np.random.default_rng(seed)
    live = Live(settings(**given), "s0")
    live.platform_ctr = 0.05
    for number in range(contents):
        row = live.add_content(content(number, NOW - int(rng.integers(0, 8 * DAY_MS))), {})
        impressions = int(rng.integers(0, 400))
        live.contents.counts[row, :2] = impressions, rng.binomial(impressions, 0.05)
        live.contents.counts[row, COUNTS.index("heated")] = rng.integers(0, 20)
    for number in range(users):
        age = int(rng.choice([DAY_MS, 30 * DAY_MS]))
        row = known_user(live, f"u{number}", seed, NOW - age)
        live.users.segment[row] = rng.integers(segments)
    grant(live, rng, segments, left)
    return live


def grant(live: Live, rng: np.random.Generator, segments: int, left: int, places: int = 16) -> None:
    """Random contents get grants with up to ``left`` impressions, matched to every segment."""
    rows = live.contents.all_rows
    held = np.stack([rng.choice(rows, places, replace=False) for _ in range(segments)]).astype(np.int32)
    held[rng.random(held.shape) < 0.1] = NOBODY
    live.contents.left[:] = 0
    live.contents.left[np.unique(held[held != NOBODY])] = left
    live.grants = Grants(held)


def request(user: str, ids, scores=None, size: int = 10, **given) -> Request:
    scores = range(len(ids), 0, -1) if scores is None else scores
    candidates = tuple(Candidate(id=id, score=float(s)) for id, s in zip(ids, scores, strict=True))
    return Request(user_id=str(user), candidates=candidates, size=size, **given)


def asked(live: Live, wanted: Request, decision: str, now_ms: int = NOW) -> Asked:
    row = row_of(live, wanted.user_id, now_ms)
    return recommend.prepare(live.contents, wanted, key_of(decision), row)


def decided(live: Live, batch: list[Asked], size: int, now_ms: int = NOW, window=None) -> recommend.Decided:
    """What a batch comes to; nothing is folded."""
    window = window or recommend.Window(1_000_000, 0, 1.0)
    return recommend.decide(
        live.settings, live.users, live.contents, live.grants, window, live.platform_ctr, batch, size, now_ms
    )


def shown(live: Live, batch: list[Request], now_ms: int = NOW, why: str | None = None) -> list[wire.Logged]:
    """Slates of requests of one size and different users, decided and folded as the service does."""
    ids = [live.next_id(now_ms) for _ in batch]
    whole = [asked(live, one, id, now_ms) for one, id in zip(batch, ids, strict=True)]
    return live.recommend(whole, ids, now_ms, why)


def any_request(live: Live, rng: np.random.Generator, user: str, size: int, **given) -> Request:
    """A request as it may come: strangers, doubles, ties, excluded ids, few candidates or none."""
    count = int(rng.choice([0, 1, size // 2, size, 3 * size, 60, 130]))
    names = [f"c{n}" for n in range(len(live.contents.rows))] + [f"stranger{n}" for n in range(25)]
    ids = rng.choice(names, count).tolist()  # with doubles
    scores = rng.integers(0, 12, count) / 4.0 if rng.random() < 0.5 else rng.normal(size=count)
    exclude = tuple(rng.choice(names, int(rng.choice([0, 0, 5, 40])), replace=False).tolist())
    values = {"exclude": exclude, "inject": bool(rng.random() < 0.7)} | given
    return request(user, ids, scores, size, **values)


def event(line: wire.Logged, position: int, event_id: str, **given) -> Interaction:
    """What a user did at a place of a shown slate."""
    values = {"ts": line.ts + 1_000, "content_id": line.places[position].id} | given
    return Interaction(event_id=event_id, decision_id=line.decision_id, user_id=line.user_id, **values)


def state_of(live: Live) -> dict:
    """All that the log is folded into, of users and contents by name."""
    users, contents = live.users, live.contents
    return {
        "users": {name: users.record[row].tobytes() for name, row in users.rows.at.items()},
        "counts": {name: contents.counts[row].tolist() for name, row in contents.rows.at.items()},
        "slates": dict(live.slates),
    }


def one_slate(size: int = 5) -> tuple[Live, wire.Logged]:
    live = server(3, holdout=0.0)
    live.contents.left[:] = 0
    known_user(live, "someone")
    (line,) = shown(live, [request("someone", [f"c{n}" for n in range(20)], size=size)])
    return live, line
