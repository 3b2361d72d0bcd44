"""A server that lived through some hours, its store and its log."""

import msgspec
import numpy as np
from service_samples import (
    DAY_MS,
    NOW,
    PARTITION,
    any_request,
    event,
    known_user,
    server,
    settings,
    shown,
)

from upwell.events.port import DECISIONS, INTERACTIONS, Entry
from upwell.model import Content, Interaction, User
from upwell.service import records, wire
from upwell.service.live import Live
from upwell.service.records import COUNTS
from upwell.state import Batch, open_store
from upwell.state.memory import MemoryStore

USERS = [f"u{n}" for n in range(12)]


def first_day(seed: int = 0) -> tuple[Live, MemoryStore]:
    """A server before its first request, and the store with what was registered."""
    live = server(seed, contents=80, users=0)
    for name in USERS:
        live.users.segment[known_user(live, name, seed)] = len(name) % 3
    store = open_store("memory:", clock=lambda: NOW / 1_000)
    batch = Batch()
    for row in live.contents.all_rows:
        batch.put("content", live.contents.rows.names[row], msgspec.json.encode(live.contents.info[row]))
        counted = dict(zip(COUNTS, live.contents.counts[row].tolist(), strict=True))
        batch.add("content", live.contents.rows.names[row], counted)
    for name, row in live.users.rows.at.items():
        batch.put("user", name, live.users.record[row].tobytes())
    store.write(batch)
    return live, store


def loaded(store: MemoryStore) -> Live:
    """A server that starts on this store, as far as users and contents go."""
    live = Live(settings(), "s0")
    live.platform_ctr = 0.05
    counted = dict(store.scan_counters("content").items)
    for name, body in store.scan("content").items:
        live.add_content(msgspec.json.decode(body, type=Content), counted.get(name, {}))
    for name, body in store.scan("user").items:
        live.users.put(name, records.read_user(body))
    live.saved = store.offsets()
    live.offsets = dict(live.saved)
    return live


def memory(live: Live) -> dict:
    """Of users and contents, by name."""
    return {
        "users": {name: live.users.record[row].tobytes() for name, row in live.users.rows.at.items()},
        "held_out": {name: bool(live.users.held_out[row]) for name, row in live.users.rows.at.items()},
        "counts": {name: live.contents.counts[row].tolist() for name, row in live.contents.rows.at.items()},
        "offsets": dict(live.offsets),
    }


def stored(store: MemoryStore) -> dict:
    """Everything in it, as it is."""
    kinds = ("user", "content", "decision", "request", "meta", "history")
    out: dict = {kind: dict(store.scan(kind).items) for kind in kinds}
    out["decision"] = {
        # A set has no order of its own.
        id: records.outcome_decoder.decode(body) if id.endswith("/outcome") else body
        for id, body in out["decision"].items()
    }
    out["counters"] = {kind: dict(store.scan_counters(kind).items) for kind in kinds}
    out["tails"] = {name: store.tail("history", name, 10_000) for name in (*USERS, "new1", "new2", "reader")}
    out["offsets"] = store.offsets()
    return out


def lived(seed: int, batches: int = 12) -> tuple[Live, MemoryStore, list[Entry]]:
    """A day in the life of a server that saves nothing, and its log: slates, events, late and doubled ones, accounts,
    reads of what was seen elsewhere."""
    rng = np.random.default_rng(seed)
    live, store = first_day(seed)
    log: list[Entry] = []
    slates: list[wire.Logged] = []
    events: list[Interaction] = []

    def logged(topic: str, user: str, now: int, value: bytes) -> None:
        log.append(Entry(PARTITION, 10 * len(log), 10 * len(log) + 10, topic, user, now, value))
        live.offsets[PARTITION] = log[-1].next

    for number in range(batches):
        now = NOW + number * 25 * 60_000
        size = int(rng.integers(1, 12))
        users = rng.choice([*USERS, "new1", "new2"], int(rng.integers(1, 9)), replace=False)
        batch = [
            any_request(live, rng, u, size, request_id=f"r{number}" if rng.random() < 0.3 else None) for u in users
        ]
        lines = shown(live, batch, now)
        assert [line for _, _, line in live.outbox] == [wire.encoder.encode(line) for line in lines]
        for user, ts, line in live.outbox:
            logged(DECISIONS, user, ts, line)
        live.outbox.clear()
        slates += [line for line in lines if line.places]
        for n in range(int(rng.integers(1, 7))):
            slate = slates[int(rng.integers(len(slates)))]
            told = event(
                slate, int(rng.integers(len(slate.places))), f"e{number}-{n}", ts=now + n,
                clicked=bool(rng.random() < 0.5), completion=float(rng.random()), value=float(rng.integers(3)),
            )  # fmt: skip
            if rng.random() < 0.2:
                told = Interaction(event_id=f"x{n}", content_id=f"c{n}", user_id="reader", ts=now, clicked=True)
            if events and rng.random() < 0.2:
                told = events[int(rng.integers(len(events)))]  # sent again
            events.append(told)
            live.take(told)
            logged(INTERACTIONS, told.user_id, now, wire.encoder.encode(wire.Event(wire.SCHEMA, now, told)))
        if rng.random() < 0.3:
            user = User(id=str(rng.choice([*USERS, "new1"])), created_at=int(NOW - rng.integers(0, 99) * DAY_MS))
            live.account(user)
            logged(INTERACTIONS, user.id, now, wire.encoder.encode(wire.Event(wire.SCHEMA, now, user=user)))
    assert not live.failures
    return live, store, log


def save(live: Live, store: MemoryStore) -> None:
    batch = live.unsaved()
    if batch is not None:
        store.write(batch)
        live.written(batch)
