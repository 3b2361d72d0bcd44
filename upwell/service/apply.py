"""Entries of the log folded into state: after a restart, and in the worker that does it for several servers."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import msgspec

from upwell.events.port import DECISIONS, INTERACTIONS, Entry
from upwell.model import Interaction
from upwell.service import records, wire
from upwell.service.ingest import unknown_decisions, unknown_outcomes
from upwell.service.keys import BESIDE, EARLY, OUTCOME
from upwell.service.memory import Memory, slate_of
from upwell.state.port import Store, pages

log = logging.getLogger(__name__)
T = TypeVar("T")


def prefetch(store: Store, live: Memory, users: Iterable[str], events: Sequence[Interaction]) -> None:
    """Bring users, slates and outcomes that are about to be folded from the store to hand."""
    load_users(store, live, users)
    load_slates(store, live, unknown_decisions(live, events))
    load_outcomes(store, live, unknown_outcomes(live, events))


def load_contents(store: Store, live: Memory) -> None:
    """All contents of the store, with what it has counted of them."""
    take_contents(live, *read_contents(store))


def read_contents(store: Store) -> tuple[list[tuple[str, bytes]], dict[str, dict[str, int]]]:
    """All contents, and the counters of each."""
    counted = dict(pages(store.scan_counters, "content"))
    return list(pages(store.scan, "content")), counted


def take_contents(live: Memory, bodies: list[tuple[str, bytes]], counted: dict[str, dict[str, int]]) -> None:
    """Bring what was read to memory."""
    for name, body in bodies:
        live.add_content(wire.content_decoder.decode(body), counted.get(name, {}))


def load_users(store: Store, live: Memory, ids: Iterable[str]) -> None:
    """Hot records that are in the store and not in memory."""
    missing = sorted({id for id in ids if id not in live.users.rows.at})
    for id, body in zip(missing, store.get("user", missing) if missing else (), strict=True):
        if body is not None:
            live.users.put(id, records.read_user(body))
    if live.trails is not None and missing:
        for id, body in zip(missing, store.get("trail", missing), strict=True):
            if body is not None:
                live.trails.load(id, body)


def load_slates(store: Store, live: Memory, decisions: Iterable[str]) -> None:
    """Slates that events name, and what was kept for those that have not come in yet."""
    ids = sorted(id for id in decisions if not id.endswith(BESIDE))
    if not ids:
        return
    early = [f"{id}{EARLY}" for id in ids] if live.trails is not None else []
    bodies = store.get("decision", [*ids, *early])
    for id, body in zip(ids, bodies[: len(ids)], strict=True):
        if body is not None:
            live.slates[id] = slate_of(wire.logged_decoder.decode(body))
    for id, body in zip(ids, bodies[len(ids) :], strict=False):
        if body is not None:
            live.early[id] = records.early_decoder.decode(body)


def load_outcomes(store: Store, live: Memory, keys: Iterable[str]) -> None:
    """Outcomes of slates so far."""
    ids = sorted(keys)
    stored = store.get("decision", [f"{id}{OUTCOME}" for id in ids]) if ids else ()
    for id, body in zip(ids, stored, strict=True):
        if body is not None:
            live.outcomes[id] = records.outcome_decoder.decode(body)


def fold(
    store: Store, live: Memory, entries: Sequence[Entry], shown: Callable[[wire.Logged], None] | None = None
) -> None:
    """Fold entries in their order. ``shown`` hears of each decision that is counted.

    With several partitions an event can come in before the decision it belongs to: where trails are kept, it is kept
    until then. Otherwise it is passed over: what was acknowledged was checked, so its decision is lost, or the log is
    damaged.
    """
    lines = read(live, entries, DECISIONS, wire.logged_decoder)
    told = read(live, entries, INTERACTIONS, wire.event_decoder)
    events = [one.event for one in told.values() if one.event is not None]
    users = {line.user_id for line in lines.values()} | {event.user_id for event in events}
    coming = {line.decision_id for line in lines.values()}
    # A log may hand over an entry twice (see docs/events.md): a decision that is known already is not shown again.
    load_slates(store, live, coming - live.slates.keys())
    coming -= live.slates.keys()
    prefetch(
        store, live, users | {one.user.id for one in told.values() if one.user is not None},
        [event for event in events if event.decision_id not in coming],
    )  # fmt: skip
    for i, entry in enumerate(entries):
        if i in lines:
            if lines[i].decision_id not in live.slates:
                live.show(lines[i], entry.value)
                live.unpark(lines[i].decision_id)
                if shown is not None:
                    shown(lines[i])
        elif i in told:
            event, user = told[i].event, told[i].user
            if event is not None:
                if event.decision_id is None or event.decision_id in live.slates:
                    live.take(event, entry.ts_ms)
                elif live.trails is not None and decided_ms(event.decision_id) > live.erased.get(event.user_id, -1):
                    live.park(event, event.decision_id, entry.ts_ms)
                else:
                    live.failures["orphans"] += 1
            if user is not None:
                live.account(user, entry.ts_ms)
        live.offsets[entry.partition] = entry.next
    settle(store, live)


def settle(store: Store, live: Memory) -> None:
    """Bring records of users of whom something came in late up to date."""
    if live.trails is not None:
        load_slates(store, live, set(live.trails.lacking()) - live.slates.keys())
        live.trails.settle()


def decided_ms(decision_id: str) -> int:
    """When a decision was made, as ``Live.next_id`` writes it; 0 for an id that is not of ours."""
    try:
        return int(decision_id.split("-")[-2], 16)
    except (IndexError, ValueError):
        return 0


def read(live: Memory, entries: Sequence[Entry], topic: str, decoder: msgspec.json.Decoder[T]) -> dict[int, T]:
    """Entries of a topic by their place. One that cannot be read is reported and passed over: it stays in the log."""
    out: dict[int, T] = {}
    for i, entry in enumerate(entries):
        if entry.topic == topic:
            try:
                out[i] = decoder.decode(entry.value)
            except msgspec.DecodeError as error:
                live.failures["unreadable"] += 1
                log.error("%s offset %d cannot be read: %s; passed over", entry.partition, entry.offset, error)
    return out


def merged(entries: Iterable[Entry]) -> list[Entry]:
    """Entries of several partitions by time, each partition's in its own order."""
    by_partition: dict[str, list[Entry]] = {}
    for entry in entries:
        by_partition.setdefault(entry.partition, []).append(entry)
    return list(heapq.merge(*by_partition.values(), key=lambda entry: entry.ts_ms))


class Erasure(NamedTuple):
    """That a user be erased: all of them that was logged before. ``done``: see ``wire.Event.erased``."""

    user: str
    at_ms: int
    done: str | None


def erasures(entries: Sequence[Entry]) -> Iterator[tuple[Sequence[Entry], Erasure | None]]:
    """Entries in parts, each with the erasure that follows it: what is before must be in the store by then.

    The entry that tells of an erasure begins the next part, so that it is not passed before they are erased.
    """
    begin = 0
    for i, entry in enumerate(entries):
        if entry.topic == INTERACTIONS and b'"erase"' in entry.value:
            told = wire.event_decoder.decode(entry.value)
            if told.erase is not None:
                yield entries[begin:i], Erasure(told.erase, told.received_ms, told.erased)
                begin = i
    if begin < len(entries):
        yield entries[begin:], None
