"""The store in this process's memory: for tests and for the shadow mode. Nothing outlives the process."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice

from upwell.state.batch import KINDS, USER_KINDS, Batch, Kind, Lease
from upwell.state.errors import Conflict, Fenced
from upwell.state.port import EVERYTHING, Changes, Page, Watcher
from upwell.state.space import Slot, Space


class MemoryStore:
    """See ``Store``. ``clock``: Unix seconds, for expiry; leases run on real time."""

    def __init__(self, space: Space | None = None, clock: Callable[[], float] = time.time) -> None:
        self.space = space or Space()
        self.clock = clock
        self.commands: Counter[str] = Counter()

    def get(self, kind: Kind, ids: Sequence[str]) -> list[bytes | None]:
        with self._counted("get"):
            return [self.space.records.get(kind, id, self.clock()) for id in ids]

    def counters(self, kind: Kind, ids: Sequence[str]) -> list[dict[str, int]]:
        with self._counted("counters"):
            return [dict(self.space.counts.get(kind, id, self.clock()) or {}) for id in ids]

    def tail(self, kind: Kind, id: str, n: int) -> list[bytes]:
        with self._counted("tail"):
            entries = self.space.lists.get(kind, id, self.clock()) or []
            return entries[-n:] if n > 0 else []

    def scan(self, kind: Kind, after: str = "", limit: int = 1_000) -> Page[bytes]:
        with self._counted("scan"):
            items = self.space.records.page(kind, after, limit, self.clock())
        return Page(items, items[-1][0] if len(items) == limit else None)

    def scan_counters(self, kind: Kind, after: str = "", limit: int = 1_000) -> Page[dict[str, int]]:
        with self._counted("scan"):
            items = [(id, dict(it)) for id, it in self.space.counts.page(kind, after, limit, self.clock())]
        return Page(items, items[-1][0] if len(items) == limit else None)

    def offsets(self) -> dict[str, int]:
        with self._counted("offsets"):
            return dict(self.space.offsets)

    def write(self, batch: Batch) -> None:
        batch.check()
        space, now = self.space, self.clock()
        with self._counted("write"):
            for partition, (expected, _) in batch.offsets.items():
                if (stored := space.offsets.get(partition, 0)) != expected:
                    raise Conflict(partition, expected, stored)
            if batch.fence and not self._holds(batch.fence):
                raise Fenced(batch.fence.name, batch.fence.token)
            for kind, ids in batch.deletes.items():
                for id in ids:
                    space.remove(kind, id)
            for kind, bodies in batch.puts.items():
                expires = now + batch.ttl_s.get(kind, float("inf"))
                owners = batch.owners.get(kind, {})
                for id, body in bodies.items():
                    space.records.slots[kind][id] = Slot(body, expires, owners.get(id))
            for kind, counters in batch.adds.items():
                for id, deltas in counters.items():
                    counts = space.counts.slot(kind, id, now, batch.ttl_s.get(kind)).value
                    for name, delta in deltas.items():
                        counts[name] = counts.get(name, 0) + delta
            for kind, lists in batch.appends.items():
                for id, entries in lists.items():
                    kept = space.lists.slot(kind, id, now, batch.ttl_s.get(kind)).value
                    kept.extend(entries)
                    del kept[: -batch.keep]
            space.offsets.update({partition: next for partition, (_, next) in batch.offsets.items()})
            space.tell(self, batch.touched())

    def erase(self, owner: str) -> int:
        with self._counted("erase"):
            slots = self.space.records.slots
            theirs: set[tuple[Kind, str]] = {(kind, owner) for kind in USER_KINDS}
            theirs |= {(kind, id) for kind in KINDS for id, slot in slots[kind].items() if slot.owner == owner}
            self.space.tell(self, {kind: {id for k, id in theirs if k == kind} for kind, _ in theirs})
            return sum(self.space.remove(kind, id) for kind, id in theirs)

    def acquire(self, name: str, owner: str, ttl_s: float) -> Lease | None:
        with self._counted("acquire"):
            last, expires = self.space.leases.get(name, (Lease(name, "", 0), 0.0))
            if expires > time.time() and last.owner != owner:
                return None
            lease = Lease(name, owner, last.token + 1)
            self.space.leases[name] = lease, time.time() + ttl_s
            return lease

    def renew(self, lease: Lease, ttl_s: float) -> bool:
        with self._counted("renew"):
            if held := self._holds(lease):
                self.space.leases[lease.name] = lease, time.time() + ttl_s
            return held

    def release(self, lease: Lease) -> None:
        with self._counted("release"):
            if self._holds(lease):
                self.space.leases[lease.name] = lease, 0.0

    def watch(self, kinds: Sequence[Kind]) -> Watcher:
        return MemoryWatcher(self, kinds)

    def sweep(self) -> int:
        with self._counted("sweep"):
            now = self.clock()
            return sum(table.sweep(now) for table in (self.space.records, self.space.counts, self.space.lists))

    def scrub(self) -> None:
        """Nothing is on disk."""

    def stats(self) -> dict[str, int]:
        """Bytes of records and lists; what Python adds to them is not counted."""
        with self.space.changed:
            records = (len(slot.value) for slots in self.space.records.slots.values() for slot in slots.values())
            lists = (len(e) for slots in self.space.lists.slots.values() for slot in slots.values() for e in slot.value)
            return {"bytes": sum(records) + sum(lists)}

    def healthy(self) -> bool:
        return True

    def close(self) -> None:
        """Nothing to let go of."""

    def _counted(self, command: str) -> threading.Condition:
        self.commands[command] += 1
        return self.space.changed

    def _holds(self, lease: Lease) -> bool:
        last, expires = self.space.leases.get(lease.name, (None, 0.0))
        return last == lease and expires > time.time()


class MemoryWatcher:
    """See ``Watcher``: reads the shared deque of the last writes."""

    def __init__(self, store: MemoryStore, kinds: Sequence[Kind]) -> None:
        self.store = store
        self.kinds = set(kinds)
        self.seen = store.space.writes

    def poll(self, timeout_s: float) -> Changes:
        space, deadline = self.store.space, time.monotonic() + timeout_s
        with space.changed:
            while not (found := self._news()) and (left := deadline - time.monotonic()) > 0:
                space.changed.wait(left)
        return found

    def close(self) -> None:
        """Nothing to let go of."""

    def _news(self) -> Changes:
        space = self.store.space
        behind, self.seen = space.writes - self.seen, space.writes
        if behind > len(space.changes):
            return EVERYTHING
        news = islice(space.changes, len(space.changes) - behind, None)
        return {
            (kind, id)
            for writer, touched in news
            if writer is not self.store
            for kind in touched.keys() & self.kinds
            for id in touched[kind]
        }
