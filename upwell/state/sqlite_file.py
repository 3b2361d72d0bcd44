"""The SQLite file: how it is opened, its schema and its migrations.

What each setting is for:

- WAL: readers, of any process, never wait for the writer.
- synchronous=FULL: a write is on the disk when it returns. Against kill -9 alone NORMAL would do, but power loss could
  then take back writes that were acknowledged and that no log replays (an operator's content, a goal). It costs one
  fsync a batch, about 2 ms.
- secure_delete: what is deleted is overwritten, not merely forgotten (see ``SqliteStore.scrub`` for the rest).
- BEGIN IMMEDIATE: a writer takes its turn before it reads, so that what it compared still holds when it writes.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager

from upwell.errors import BadRequest
from upwell.state.errors import StoreDown

APPLICATION = 0x5550574C  # "UPWL", in the header of our files

# Step n leads from schema n to n + 1. Steps are only ever added: files of every earlier schema exist somewhere.
MIGRATIONS: list[list[str]] = [
    [
        # facet: r a record, c counters (body: a map in MessagePack), l the head of a list (body: its next number).
        """CREATE TABLE entries (
            kind TEXT NOT NULL, facet TEXT NOT NULL, id TEXT NOT NULL, owner TEXT, expires_ms INTEGER,
            body BLOB NOT NULL, PRIMARY KEY (kind, facet, id)) WITHOUT ROWID""",
        "CREATE INDEX entries_owner ON entries (owner) WHERE owner IS NOT NULL",
        "CREATE INDEX entries_expires ON entries (expires_ms) WHERE expires_ms IS NOT NULL",
        """CREATE TABLE items (
            kind TEXT NOT NULL, id TEXT NOT NULL, n INTEGER NOT NULL, body BLOB NOT NULL,
            PRIMARY KEY (kind, id, n)) WITHOUT ROWID""",
        "CREATE TABLE offsets (partition TEXT PRIMARY KEY, next INTEGER NOT NULL) WITHOUT ROWID",
        """CREATE TABLE leases (
            name TEXT PRIMARY KEY, owner TEXT NOT NULL, token INTEGER NOT NULL,
            expires_s REAL NOT NULL) WITHOUT ROWID""",
        # One row a write; body: ids by kind in MessagePack, NULL where the ids must not be kept (an erasure).
        "CREATE TABLE changes (seq INTEGER PRIMARY KEY, writer INTEGER NOT NULL, body BLOB)",
    ],
]


class Link:
    """A connection, its lock and its errors. ``timeout_s`` bounds every wait for another thread or process."""

    def __init__(self, path: str, timeout_s: float) -> None:
        self.path = path
        self.timeout_s = timeout_s
        self._lock = threading.Lock()
        self._db = _connect(path, timeout_s)

    @contextmanager
    def use(self) -> Generator[sqlite3.Connection]:
        """The connection, for this thread alone. ``StoreDown`` for a busy, full or failing file."""
        if not self._lock.acquire(timeout=self.timeout_s):
            raise StoreDown(f"{self.path}: busy for more than {self.timeout_s} s")
        try:
            yield self._db
        except sqlite3.Error as error:
            raise StoreDown(f"{self.path}: {error}") from error
        finally:
            self._lock.release()

    @contextmanager
    def transaction(self) -> Generator[sqlite3.Connection]:
        """As ``use``, and all that happens in it is committed together, or none of it."""
        with self.use() as db, _transaction(db):
            yield db

    def close(self) -> None:
        with self._lock:
            self._db.close()


@contextmanager
def _transaction(db: sqlite3.Connection) -> Generator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # a full disk has rolled it back already
            db.execute("ROLLBACK")
        raise


def _connect(path: str, timeout_s: float) -> sqlite3.Connection:
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # it holds what users did: for the owner's eyes only
    except OSError as error:
        raise BadRequest(f"state file {path}: {error.strerror}; give a path in a folder that can be written") from None
    db = sqlite3.connect(path, timeout=timeout_s, isolation_level=None, check_same_thread=False)
    try:
        _set_up(db, path, timeout_s)
        _migrate(db, path)
    except sqlite3.OperationalError as error:
        db.close()
        raise StoreDown(f"{path}: {error}") from error
    except sqlite3.DatabaseError:
        db.close()
        raise BadRequest(f"{path} is not a state file of Upwell, or is damaged: give another path") from None
    except BaseException:
        db.close()
        raise
    return db


def _set_up(db: sqlite3.Connection, path: str, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while True:  # two processes that turn to WAL at once: SQLite does not wait here, so we do
        try:
            (mode,) = db.execute("PRAGMA journal_mode=WAL").fetchone()
            break
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    if mode != "wal":
        raise BadRequest(f"{path}: SQLite cannot share a file here (a network drive?): give a path on a local disk")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("PRAGMA secure_delete=ON").fetchall()
    db.execute("PRAGMA cache_size=-32768")  # KiB; the default of 2 MiB makes reads of many ids twice as slow


def _migrate(db: sqlite3.Connection, path: str) -> None:
    with _transaction(db):
        (application,) = db.execute("PRAGMA application_id").fetchone()
        (version,) = db.execute("PRAGMA user_version").fetchone()
        (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application != APPLICATION and tables:
            raise BadRequest(f"{path} is another program's SQLite file: give another path")
        if version > len(MIGRATIONS):
            raise BadRequest(
                f"{path} has schema {version}, this Upwell knows up to {len(MIGRATIONS)}: install the newer Upwell"
            )
        for step in MIGRATIONS[version:]:
            for statement in step:
                db.execute(statement)
        if version < len(MIGRATIONS):
            db.execute(f"PRAGMA application_id={APPLICATION}")
            db.execute(f"PRAGMA user_version={len(MIGRATIONS)}")
