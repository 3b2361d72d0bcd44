"""The store in one SQLite file, for one machine. Several processes may have it open at once."""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

from upwell.state.batch import USER_KINDS, Batch, Kind, Lease
from upwell.state.errors import StoreDown
from upwell.state.port import Page, Watcher
from upwell.state.sqlite_file import Link
from upwell.state.sqlite_watch import SqliteWatcher
from upwell.state.sqlite_write import CHUNK, alive, apply, holds, remove, tell, unpack_counters

SCRUB_AT_ONCE = 64 * 2**20  # bytes; about half a second's work


class SqliteStore:
    """See ``Store``. ``clock``: Unix seconds, for expiry; leases run on real time.

    ``timeout_s`` bounds the wait for other writers. BadRequest: the path cannot be a state file.
    """

    def __init__(self, path: str, timeout_s: float = 5.0, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self.clock = clock
        self.commands: Counter[str] = Counter()
        self.id = secrets.randbits(62)  # tells our own changes from others'
        self._writer = Link(path, timeout_s)
        self._reader = Link(path, timeout_s)  # reads need not wait for our own writer

    def get(self, kind: Kind, ids: Sequence[str]) -> list[bytes | None]:
        with self._reads("get") as db:
            found = alive(db, kind, "r", ids, self._now_ms())
        return [found[id][0] if id in found else None for id in ids]

    def counters(self, kind: Kind, ids: Sequence[str]) -> list[dict[str, int]]:
        with self._reads("counters") as db:
            found = alive(db, kind, "c", ids, self._now_ms())
        return [unpack_counters(found[id][0]) if id in found else {} for id in ids]

    def tail(self, kind: Kind, id: str, n: int) -> list[bytes]:
        with self._reads("tail") as db:
            rows = db.execute(
                "SELECT i.body FROM entries e JOIN items i USING (kind, id) WHERE e.kind = ? AND e.facet = 'l'"
                " AND e.id = ? AND (e.expires_ms IS NULL OR e.expires_ms > ?) ORDER BY i.n DESC LIMIT ?",
                (kind, id, self._now_ms(), max(n, 0)),
            ).fetchall()
        return [body for (body,) in reversed(rows)]

    def scan(self, kind: Kind, after: str = "", limit: int = 1_000) -> Page[bytes]:
        items = self._scan(kind, "r", after, limit)
        return Page(items, items[-1][0] if len(items) == limit else None)

    def scan_counters(self, kind: Kind, after: str = "", limit: int = 1_000) -> Page[dict[str, int]]:
        items = [(id, unpack_counters(body)) for id, body in self._scan(kind, "c", after, limit)]
        return Page(items, items[-1][0] if len(items) == limit else None)

    def offsets(self) -> dict[str, int]:
        with self._reads("offsets") as db:
            return dict(db.execute("SELECT partition, next FROM offsets").fetchall())

    def write(self, batch: Batch) -> None:
        batch.check()
        with self._writes("write") as db:
            apply(db, batch, self._now_ms(), self.id)

    def erase(self, owner: str) -> int:
        """As the port says. The files hold nothing of it either, unless they are large: then after ``scrub``."""
        with self._writes("erase") as db:
            owned = db.execute("SELECT kind, id FROM entries WHERE owner = ?", (owner,)).fetchall()
            removed = remove(db, {*owned, *((kind, owner) for kind in USER_KINDS)})
            last = tell(db, self.id, None)
            db.execute("DELETE FROM changes WHERE seq < ?", (last,))  # they name the user
        if self.stats()["bytes"] <= SCRUB_AT_ONCE:
            self.scrub()
        else:
            with self._writer.use() as db:
                self._truncate_log(db)
        return removed

    def acquire(self, name: str, owner: str, ttl_s: float) -> Lease | None:
        with self._writes("acquire") as db:
            row = db.execute("SELECT owner, token, expires_s FROM leases WHERE name = ?", (name,)).fetchone()
            if row and row[0] != owner and row[2] > time.time():
                return None
            lease = Lease(name, owner, row[1] + 1 if row else 1)
            db.execute("INSERT OR REPLACE INTO leases VALUES (?, ?, ?, ?)", (*lease, time.time() + ttl_s))
            return lease

    def renew(self, lease: Lease, ttl_s: float) -> bool:
        with self._writes("renew") as db:
            held = holds(db, lease.name, lease.token)
            if held:
                db.execute("UPDATE leases SET expires_s = ? WHERE name = ?", (time.time() + ttl_s, lease.name))
            return held

    def release(self, lease: Lease) -> None:
        with self._writes("release") as db:
            db.execute("UPDATE leases SET expires_s = 0 WHERE name = ? AND token = ?", (lease.name, lease.token))

    def watch(self, kinds: Sequence[Kind]) -> Watcher:
        return SqliteWatcher(Link(self.path, self._reader.timeout_s), self.id, kinds)

    def sweep(self) -> int:
        swept = 0
        while True:  # in short transactions, so that writers get their turn
            with self._writes("sweep") as db:
                gone = db.execute(
                    "SELECT kind, facet, id FROM entries WHERE expires_ms <= ? LIMIT ?", (self._now_ms(), CHUNK)
                ).fetchall()
                lists = [(kind, id) for kind, facet, id in gone if facet == "l"]
                db.executemany("DELETE FROM items WHERE kind = ? AND id = ?", lists)
                db.executemany("DELETE FROM entries WHERE kind = ? AND facet = ? AND id = ?", gone)
            swept += len(gone)
            if len(gone) < CHUNK:
                return swept

    def scrub(self) -> None:
        """Writes the file anew: secure_delete leaves copies where SQLite once moved a row between pages."""
        with self._writer.use() as db:
            db.execute("VACUUM")
            self._truncate_log(db)

    def stats(self) -> dict[str, int]:
        files = (self.path, f"{self.path}-wal")
        return {"bytes": sum(os.path.getsize(file) for file in files if os.path.exists(file))}

    def healthy(self) -> bool:
        try:
            with self._reads("healthy") as db:
                return db.execute("SELECT 1 FROM sqlite_master").fetchone() is not None
        except StoreDown:
            return False

    def close(self) -> None:
        self._reader.close()
        self._writer.close()

    def _scan(self, kind: Kind, facet: str, after: str, limit: int) -> list[tuple[str, bytes]]:
        with self._reads("scan") as db:
            return db.execute(
                "SELECT id, body FROM entries WHERE kind = ? AND facet = ? AND id > ?"
                " AND (expires_ms IS NULL OR expires_ms > ?) ORDER BY id LIMIT ?",
                (kind, facet, after, self._now_ms(), limit),
            ).fetchall()

    def _truncate_log(self, db: sqlite3.Connection) -> None:
        (busy, _, _) = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise StoreDown(f"{self.path}: erased, but a reader keeps it in the log: try again")

    def _now_ms(self) -> int:
        return int(self.clock() * 1_000)

    @contextmanager
    def _reads(self, command: str) -> Generator[sqlite3.Connection]:
        self.commands[command] += 1
        with self._reader.use() as db:
            yield db

    @contextmanager
    def _writes(self, command: str) -> Generator[sqlite3.Connection]:
        self.commands[command] += 1
        with self._writer.transaction() as db:
            yield db
