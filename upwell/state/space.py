"""What the stores of one process share: three tables, offsets, leases and the last changes."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import Generic, TypeVar

from upwell.state.batch import KINDS, Kind, Lease
from upwell.state.port import REMEMBERED

T = TypeVar("T")


@dataclass(slots=True)
class Slot(Generic[T]):
    value: T
    expires: float = float("inf")
    owner: str | None = None


class Table(Generic[T]):
    """One of the three things that a kind and an id name, with its expiry."""

    def __init__(self, empty: Callable[[], T]) -> None:
        self.empty = empty
        self.slots: dict[Kind, dict[str, Slot[T]]] = {kind: {} for kind in KINDS}

    def get(self, kind: Kind, id: str, now: float) -> T | None:
        slot = self.slots[kind].get(id)
        return slot.value if slot and slot.expires > now else None

    def slot(self, kind: Kind, id: str, now: float, ttl_s: float | None) -> Slot[T]:
        """The slot to change: a new one where there is none alive."""
        slots = self.slots[kind]
        slot = slots.get(id)
        if slot is None or slot.expires <= now:
            slot = slots[id] = Slot(self.empty())
        if ttl_s is not None:
            slot.expires = now + ttl_s
        return slot

    def page(self, kind: Kind, after: str, limit: int, now: float) -> list[tuple[str, T]]:
        alive = ((id, slot.value) for id, slot in sorted(self.slots[kind].items()) if slot.expires > now and id > after)
        return list(islice(alive, limit))

    def remove(self, kind: Kind, id: str) -> int:
        return self.slots[kind].pop(id, None) is not None

    def sweep(self, now: float) -> int:
        gone: list[tuple[Kind, str]] = [
            (kind, id) for kind, slots in self.slots.items() for id, slot in slots.items() if slot.expires <= now
        ]
        return sum(self.remove(kind, id) for kind, id in gone)


@dataclass(slots=True)
class Space:
    """What several stores of one process share."""

    records: Table[bytes] = field(default_factory=lambda: Table[bytes](bytes))
    counts: Table[dict[str, int]] = field(default_factory=lambda: Table[dict[str, int]](dict[str, int]))
    lists: Table[list[bytes]] = field(default_factory=lambda: Table[list[bytes]](list[bytes]))
    offsets: dict[str, int] = field(default_factory=dict[str, int])
    leases: dict[str, tuple[Lease, float]] = field(default_factory=dict[str, tuple[Lease, float]])
    writes: int = 0
    changes: deque[tuple[object, dict[Kind, set[str]]]] = field(
        default_factory=lambda: deque[tuple[object, dict[Kind, set[str]]]](maxlen=REMEMBERED)
    )
    changed: threading.Condition = field(default_factory=threading.Condition)  # its lock guards all the rest

    def remove(self, kind: Kind, id: str) -> int:
        return sum(table.remove(kind, id) for table in (self.records, self.counts, self.lists))

    def tell(self, writer: object, touched: dict[Kind, set[str]]) -> None:
        self.writes += 1
        self.changes.append((writer, touched))
        self.changed.notify_all()
