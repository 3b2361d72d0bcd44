"""What a crash run left in the store, against what was acknowledged and against an uninterrupted run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec
import numpy as np

from upwell.events.port import DECISIONS, INTERACTIONS, Entry
from upwell.model import Interaction
from upwell.regulator import slate
from upwell.service import apply, records, wire
from upwell.service.keys import EARLY, organic_key
from upwell.service.live import Live
from upwell.service.records import COUNTS, in_purse, purse_of
from upwell.service.settings import Settings
from upwell.state.memory import MemoryStore
from upwell.state.port import Store, pages

AT_ONCE = 2_000


class Stored:
    """All that the comparison needs, read once."""

    def __init__(self, store: Store) -> None:
        self.lines: dict[str, wire.Logged] = {}
        self.outcomes: dict[str, records.Outcome] = {}
        for id, body in pages(store.scan, "decision"):
            if id.endswith("/outcome"):
                self.outcomes[id.removesuffix("/outcome")] = records.outcome_decoder.decode(body)
            elif not id.endswith(EARLY):
                self.lines[id] = wire.logged_decoder.decode(body)
        self.contents = dict(pages(store.scan, "content"))
        self.counted = dict(pages(store.scan_counters, "content"))
        self.books = dict(pages(store.scan_counters, "grant"))
        self.users = dict(pages(store.scan, "user"))

    def has(self, event: Interaction) -> bool:
        outcome = self.outcomes.get(event.decision_id or organic_key(event))
        return outcome is not None and event.event_id in outcome.events


def missing(stored: Stored, acknowledged: Iterable[Interaction]) -> int:
    """Acknowledged events that the store knows nothing of."""
    return sum(not stored.has(event) for event in acknowledged)


def repeated(store: Store, users: Iterable[str], keep: int) -> int:
    """Events that stand more than once in a user's history."""
    extra = 0
    for user in users:
        told = Counter(
            msgspec.json.decode(line, type=Interaction).event_id for line in store.tail("history", user, keep)
        )
        extra += sum(count - 1 for count in told.values())
    return extra


def counters_of(stored: Stored) -> dict[str, Counter[str]]:
    """A content's counters as decisions and outcomes say they must be."""
    out: dict[str, Counter[str]] = {}
    for id, line in stored.lines.items():
        outcome = stored.outcomes.get(id, records.Outcome())
        for k, shown in enumerate(line.places):
            counts, heated = out.setdefault(shown.id, Counter()), shown.kind == slate.HEATED
            place = outcome.places.get(k, records.Place())
            counts["impressions"] += 1
            counts["heated"] += heated
            if line.purse:
                counts[in_purse("heated", line.purse)] += heated
            counts["explored"] += shown.kind == slate.EXPLORED
            counts["clicks"] += place.clicked
            counts["valid"] += place.valid
            counts["shares"] += place.shared
            counts["purchases"] += place.purchased
            counts["value_fen"] += round(place.value * 100)
            counts["dwell_ms"] += round(place.dwell_s * 1_000)
            counts["heated_clicks"] += heated and place.clicked
            counts["heated_valid"] += heated and place.valid
    return out


def miscounted(stored: Stored) -> tuple[int, int]:
    """How far counters are below and above that, in places: impressions and clicks, not their amounts."""
    due = counters_of(stored)
    below = above = 0
    purses = {name for counts in (*due.values(), *stored.counted.values()) for name in counts if purse_of(name)[1]}
    for id in due.keys() | stored.counted.keys():
        for name in (*COUNTS, *purses):
            unit = {"value_fen": 1_250, "dwell_ms": 90_000}.get(name, 1)
            off = stored.counted.get(id, {}).get(name, 0) - due.get(id, Counter())[name]
            below, above = below + -(min(off, 0) // unit), above + -(-max(off, 0) // unit)
    return below, above


def overspent(stored: Stored) -> int:
    """Impressions shown beyond granted - released, over all contents and purses: 0, or money was made up."""
    over = 0
    for id, counted in stored.counted.items():
        book, heated = stored.books.get(id, {}), counted.get("heated", 0)
        for purse in {purse_of(name)[1] for name in (*book, *counted)} - {""}:
            own = counted.get(in_purse("heated", purse), 0)
            heated -= own
            over += max(own - outgoing(book, purse), 0)
        over += max(heated - outgoing(book, ""), 0)
    return over


def outgoing(book: Mapping[str, int], purse: str) -> int:
    """Impressions that a content's purse granted and did not take back."""
    return book.get(in_purse("granted", purse), 0) - book.get(in_purse("released", purse), 0)


def undelivered(journals: Sequence[Entry], topics: Sequence[Entry]) -> int:
    """Entries of the servers' journals that are not in the broker's topics."""
    there = {(entry.topic, entry.value) for entry in topics}
    kept = [entry for entry in journals if entry.topic in (DECISIONS, INTERACTIONS)]
    return sum((entry.topic, entry.value) not in there for entry in kept)


def replayed(settings: Settings, contents: dict[str, bytes], entries: Sequence[Entry]) -> tuple[Live, int]:
    """The log folded from its beginning in one go, as by a service that was never interrupted; and its decisions."""
    live, store = Live(settings, "replay"), MemoryStore()
    for body in contents.values():
        live.add_content(wire.content_decoder.decode(body), {})
    folded = sorted((e for e in entries if e.topic in (DECISIONS, INTERACTIONS)), key=lambda entry: entry.ts_ms)
    for begin in range(0, len(folded), AT_ONCE):
        apply.fold(store, live, folded[begin : begin + AT_ONCE])
        batch = live.unsaved()
        if batch is not None:
            store.write(batch)
            live.written(batch)
    return live, len({wire.logged_decoder.decode(e.value).decision_id for e in folded if e.topic == DECISIONS})


def continuity(stored: Stored, live: Live) -> tuple[float, list[str]]:
    """Share of users whose stored record is the replayed one, byte for byte; and fields in which others differ."""
    same, fields = 0, Counter[str]()
    for user, body in stored.users.items():
        row = live.users.rows.at.get(user)
        if row is not None and live.users.record[row].tobytes() == body:
            same += 1
            continue
        kept = records.read_user(body)
        for name in records.USER.names or ():
            if row is None or not np.array_equal(kept[name], live.users.record[row][name]):
                fields[name] += 1
    return same / max(len(stored.users), 1), [f"{name}: {count}" for name, count in fields.most_common()]
