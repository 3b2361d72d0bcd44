"""How a batch becomes rows. Runs inside one transaction; see ``sqlite_file`` for the tables."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Collection, Iterable
from itertools import islice

import msgspec

from upwell.state.batch import Batch, Kind
from upwell.state.errors import Conflict, Fenced
from upwell.state.port import REMEMBERED

CHUNK = 500  # ids a query

# Not INSERT OR REPLACE: that deletes the row first, which costs half as much again.
PUT = """INSERT INTO entries (kind, facet, id, owner, expires_ms, body) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET owner = excluded.owner, expires_ms = excluded.expires_ms, body = excluded.body"""

pack = msgspec.msgpack.Encoder().encode
unpack_counters = msgspec.msgpack.Decoder(dict[str, int]).decode
unpack_number = msgspec.msgpack.Decoder(int).decode
unpack_touched = msgspec.msgpack.Decoder(dict[str, list[str]]).decode

Row = tuple[str, str, str, str | None, int | None, bytes]


def alive(
    db: sqlite3.Connection, kind: Kind, facet: str, ids: Collection[str], now_ms: int
) -> dict[str, tuple[bytes, int | None]]:
    """Body and expiry by id, of those that are there and have not expired."""
    found: dict[str, tuple[bytes, int | None]] = {}
    left = iter(ids)
    while chunk := list(islice(left, CHUNK)):
        rows = db.execute(
            "SELECT id, body, expires_ms FROM entries WHERE kind = ? AND facet = ?"
            f" AND (expires_ms IS NULL OR expires_ms > ?) AND id IN ({','.join('?' * len(chunk))})",
            (kind, facet, now_ms, *chunk),
        )
        found.update((id, (body, expires)) for id, body, expires in rows)
    return found


def apply(db: sqlite3.Connection, batch: Batch, now_ms: int, writer: int) -> None:
    """Writes the batch, or raises before it wrote anything."""
    _guard(db, batch)
    for kind in batch.kinds():
        ttl = batch.ttl_s.get(kind)
        expires = None if ttl is None else now_ms + max(1, round(ttl * 1_000))
        remove(db, ((kind, id) for id in batch.deletes.get(kind, ())))
        owners = batch.owners.get(kind, {})
        puts = batch.puts.get(kind, {})
        db.executemany(PUT, [(kind, "r", id, owners.get(id), expires, body) for id, body in puts.items()])
        _add(db, kind, batch.adds.get(kind, {}), now_ms, expires)
        _append(db, kind, batch.appends.get(kind, {}), batch.keep, now_ms, expires)
    moves = [(partition, next) for partition, (_, next) in batch.offsets.items()]
    db.executemany("INSERT OR REPLACE INTO offsets (partition, next) VALUES (?, ?)", moves)
    if touched := batch.touched():
        tell(db, writer, pack(touched))


def remove(db: sqlite3.Connection, ids: Iterable[tuple[Kind, str]]) -> int:
    """Deletes record, counters and list; how many there were."""
    named = list(ids)
    db.executemany("DELETE FROM items WHERE kind = ? AND id = ?", named)
    facets = [(kind, facet, id) for kind, id in named for facet in "rcl"]
    return db.executemany("DELETE FROM entries WHERE kind = ? AND facet = ? AND id = ?", facets).rowcount


def tell(db: sqlite3.Connection, writer: int, body: bytes | None) -> int:
    """Lets watchers know; the number of this change."""
    seq = db.execute("INSERT INTO changes (writer, body) VALUES (?, ?)", (writer, body)).lastrowid or 0
    db.execute("DELETE FROM changes WHERE seq <= ?", (seq - REMEMBERED,))
    return seq


def holds(db: sqlite3.Connection, name: str, token: int) -> bool:
    """Whether a lease is still held by its token."""
    where = "SELECT 1 FROM leases WHERE name = ? AND token = ? AND expires_s > ?"
    return db.execute(where, (name, token, time.time())).fetchone() is not None


def _guard(db: sqlite3.Connection, batch: Batch) -> None:
    for partition, (expected, _) in batch.offsets.items():
        row = db.execute("SELECT next FROM offsets WHERE partition = ?", (partition,)).fetchone()
        if (stored := row[0] if row else 0) != expected:
            raise Conflict(partition, expected, stored)
    if batch.fence and not holds(db, batch.fence.name, batch.fence.token):
        raise Fenced(batch.fence.name, batch.fence.token)


def _add(db: sqlite3.Connection, kind: Kind, adds: dict[str, dict[str, int]], now_ms: int, expires: int | None) -> None:
    rows: list[Row] = []
    old = alive(db, kind, "c", adds.keys(), now_ms)
    for id, deltas in adds.items():
        body, old_expires = old.get(id, (None, None))
        counters = unpack_counters(body) if body else {}
        for name, delta in deltas.items():
            counters[name] = counters.get(name, 0) + delta
        rows.append((kind, "c", id, None, expires or old_expires, pack(counters)))
    db.executemany(PUT, rows)


def _append(
    db: sqlite3.Connection,
    kind: Kind,
    appends: dict[str, list[bytes]],
    keep: int,
    now_ms: int,
    expires: int | None,
) -> None:
    heads: list[Row] = []
    items: list[tuple[str, str, int, bytes]] = []
    fallen: list[tuple[str, str, int]] = []
    old = alive(db, kind, "l", appends.keys(), now_ms)
    for id, entries in appends.items():
        body, old_expires = old.get(id, (None, None))
        first = unpack_number(body) if body else 0
        next = first + len(entries)
        heads.append((kind, "l", id, None, expires or old_expires, pack(next)))
        items += [(kind, id, n, entry) for n, entry in enumerate(entries, first) if n >= next - keep]
        fallen.append((kind, id, next - keep))
    expired = [(kind, id) for id in appends.keys() - old.keys()]
    db.executemany("DELETE FROM items WHERE kind = ? AND id = ?", expired)
    db.executemany("DELETE FROM items WHERE kind = ? AND id = ? AND n < ?", fallen)
    db.executemany("INSERT INTO items (kind, id, n, body) VALUES (?, ?, ?, ?)", items)
    db.executemany(PUT, heads)
