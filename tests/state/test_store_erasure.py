"""Erased is erased: the files hold no trace."""

import random
import time
from pathlib import Path

import pytest
from redis import Redis
from servers import flushed

from upwell.state import Batch, open_store
from upwell.state import sqlite as sqlite_store

USERS = [f"user-{i:05d}-of-ours" for i in range(1_500)]


def traces(folder: Path, users) -> list[str]:
    held = b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())
    return [user for user in users if user.encode() in held]


def fill(store, rounds=3):
    """Records of changing length in changing order, so that pages split and rows move."""
    draw = random.Random(0)
    for _ in range(rounds):
        users = draw.sample(USERS, len(USERS))
        for some in range(0, len(users), 250):
            batch = Batch()
            for user in users[some : some + 250]:
                batch.put("user", user, f"record of {user} ".encode() * draw.randrange(2, 20))
                batch.append("history", user, f"event of {user}".encode())
                batch.put("decision", f"d-{draw.getrandbits(60)}", f"shown to {user}".encode() * 4, owner=user)
                batch.add("user", user, {"seen": 1})
            store.write(batch)


@pytest.mark.slow
def test_no_trace_in_sqlite_files(tmp_path):
    url = f"sqlite:{tmp_path / 'state.db'}"
    store, other = open_store(url), open_store(url)
    watcher = other.watch(["user"])
    fill(store)
    gone, kept = USERS[:5], USERS[5:]
    assert traces(tmp_path, gone) == gone
    for user in gone:
        other.get("user", [user])
        assert store.erase(user) == 6  # record, counters, list, three decisions
        assert not traces(tmp_path, [user])
    watcher.poll(0)
    assert traces(tmp_path, kept) == kept
    assert not traces(tmp_path, gone)
    for each in (watcher, store, other):
        each.close()
    assert not traces(tmp_path, gone)


@pytest.mark.slow
def test_a_large_sqlite_file_is_scrubbed_later(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite_store, "SCRUB_AT_ONCE", 0)
    store = open_store(f"sqlite:{tmp_path / 'state.db'}")
    fill(store)
    for user in USERS[::10]:
        store.erase(user)
    assert len(traces(tmp_path, USERS[::10])) < 15  # secure_delete alone: nearly nothing
    store.scrub()
    assert not traces(tmp_path, USERS[::10])
    store.close()


@pytest.mark.slow
def test_no_trace_in_redis_files(redis_server):
    store = open_store(flushed(redis_server))
    fill(store, rounds=1)
    gone, kept = USERS[:5], USERS[5:]
    assert traces(redis_server.data, gone) == gone
    for user in gone:
        store.erase(user)
    store.scrub()
    with Redis.from_url(f"redis://{redis_server.address}") as client:
        deadline = time.monotonic() + 60
        while client.info("persistence")["aof_rewrite_in_progress"] or traces(redis_server.data, gone):
            assert time.monotonic() < deadline, traces(redis_server.data, gone)
            time.sleep(0.1)
        assert client.info("persistence")["aof_last_bgrewrite_status"] == "ok"
        assert not list(client.scan_iter(f"*{gone[0]}*"))
    assert len(traces(redis_server.data, kept)) == len(kept)
    store.close()
