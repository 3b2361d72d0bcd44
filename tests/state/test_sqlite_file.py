"""The SQLite file: its schema, its migrations, and what is not ours."""

import os
import sqlite3
import stat
import threading
import time

import pytest

from upwell.errors import BadRequest
from upwell.state import Batch, StoreDown, open_store
from upwell.state import sqlite_file as file
from upwell.state.sqlite import SqliteStore

STEP = ["ALTER TABLE entries ADD COLUMN colour TEXT NOT NULL DEFAULT 'blue'"]


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "state.db")


def peek(path, question):
    db = sqlite3.connect(path)
    try:
        return db.execute(question).fetchone()[0]
    finally:
        db.close()


def test_an_older_schema_is_brought_up_to_date(path, monkeypatch):
    store = SqliteStore(path)
    store.write(Batch(puts={"user": {"u": b"kept"}}, offsets={"p": (0, 3)}))
    store.close()
    known = len(file.MIGRATIONS)
    monkeypatch.setattr(file, "MIGRATIONS", [*file.MIGRATIONS, STEP])
    for _ in range(2):  # the second time there is nothing to do
        store = SqliteStore(path)
        assert store.get("user", ["u"]) == [b"kept"]
        assert store.offsets() == {"p": 3}
        store.close()
    assert peek(path, "PRAGMA user_version") == known + 1
    assert peek(path, "SELECT colour FROM entries") == "blue"


def test_a_migration_that_fails_changes_nothing(path, monkeypatch):
    SqliteStore(path).close()
    known = len(file.MIGRATIONS)
    with monkeypatch.context() as patch:
        patch.setattr(file, "MIGRATIONS", [*file.MIGRATIONS, STEP, ["ALTER TABLE nowhere ADD COLUMN x"]])
        with pytest.raises(StoreDown):
            SqliteStore(path)
    assert peek(path, "PRAGMA user_version") == known
    assert peek(path, "SELECT count(*) FROM pragma_table_info('entries') WHERE name = 'colour'") == 0
    SqliteStore(path).close()


def test_a_newer_schema_is_refused_and_left_alone(path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(file, "MIGRATIONS", [*file.MIGRATIONS, STEP])
        SqliteStore(path).close()
    with pytest.raises(BadRequest, match="newer Upwell"):
        SqliteStore(path)
    assert peek(path, "PRAGMA user_version") == len(file.MIGRATIONS) + 1


def test_what_is_not_ours_is_refused(path, tmp_path):
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE theirs (x)")
    db.close()
    with pytest.raises(BadRequest, match="another program"):
        SqliteStore(path)
    text = tmp_path / "notes.txt"
    text.write_text("not a database, but some text " * 100)
    with pytest.raises(BadRequest, match="not a state file"):
        SqliteStore(str(text))
    assert text.read_text().startswith("not a database")
    with pytest.raises(BadRequest, match="No such file"):
        SqliteStore(str(tmp_path / "no" / "folder" / "state.db"))
    with pytest.raises(BadRequest, match="directory"):
        SqliteStore(str(tmp_path))


def test_two_may_open_a_new_file_at_once(path):
    opened, failed = [], []

    def work():
        try:
            opened.append(SqliteStore(path))
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for store in opened:
        store.close()
    assert not failed


def test_only_its_owner_reads_it(path):
    store = SqliteStore(path)
    store.write(Batch(puts={"user": {"u": b""}}))
    for name in (path, f"{path}-wal"):
        assert stat.S_IMODE(os.stat(name).st_mode) == 0o600
    store.close()


def test_a_file_that_another_holds_is_down_in_time(path):
    store = SqliteStore(path, timeout_s=0.3)
    store.write(Batch(puts={"user": {"u": b"1"}}))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    begun = time.monotonic()
    with pytest.raises(StoreDown):
        store.write(Batch(puts={"user": {"u": b"2"}}))
    assert time.monotonic() - begun < 2
    assert store.get("user", ["u"]) == [b"1"]  # readers do not wait
    other.execute("ROLLBACK")
    other.close()
    store.write(Batch(puts={"user": {"u": b"2"}}))
    store.close()
    with pytest.raises(StoreDown):
        store.get("user", ["u"])


def test_expiry_goes_by_the_clock_given(path):
    now = [1_000.0]
    store = open_store(f"sqlite:{path}", clock=lambda: now[0])
    store.write(
        Batch(
            puts={"meta": {str(i): b"" for i in range(1_200)}},
            appends={"meta": {"list": [b"x"]}},
            ttl_s={"meta": 10},
        )
    )
    now[0] += 9.9
    assert store.get("meta", ["1"]) == [b""]
    assert store.sweep() == 0
    now[0] += 0.2
    assert store.get("meta", ["1"]) == [None]
    assert store.sweep() == 1_201
    store.close()
    assert peek(path, "SELECT count(*) FROM entries") == peek(path, "SELECT count(*) FROM items") == 0


def test_writes_are_on_the_disk_when_they_return(path):
    store = SqliteStore(path)
    with store._writer.use() as db:
        assert db.execute("PRAGMA synchronous").fetchone() == (2,)
        assert db.execute("PRAGMA secure_delete").fetchone() == (1,)
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    store.close()
