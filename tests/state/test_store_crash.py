"""kill -9 in the middle of a stream of writes: what was acknowledged is there, and each event counts once."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from servers import Server, need

from upwell.state import open_store

CHILD = Path(__file__).with_name("store_child.py")


def child(url, *more):
    return subprocess.Popen([sys.executable, CHILD, url, *more], stdout=subprocess.PIPE, text=True)


def acknowledged(process):
    """The last offset that a killed child was told of."""
    said = process.stdout.read().splitlines(keepends=True)
    process.stdout.close()
    process.wait()
    return max((int(line.split()[1]) for line in said if line.startswith("ack") and line.endswith("\n")), default=0)


def check(store, told):
    """All or nothing of each batch: counters, records and lists agree with the offset."""
    offset = store.offsets().get("p", 0)
    assert offset >= told
    assert sum(c.get("n", 0) for c in store.counters("content", ["c0", "c1", "c2"])) == offset
    for user in range(50):
        last = max((event for event in range(max(0, offset - 50), offset) if event % 50 == user), default=None)
        assert store.get("user", [f"u{user}"]) == [None if last is None else b"%d" % last * 40]
    for user in range(7):
        whole = [b"%d" % event for event in range(offset) if event % 7 == user]
        assert store.tail("history", f"u{user}", 1_000) == whole[-1_000:]
    return offset


@pytest.mark.slow
def test_sqlite_survives_kills_of_the_writer(tmp_path):
    url, draw, offsets = f"sqlite:{tmp_path / 'state.db'}", random.Random(1), [0]
    for _ in range(10):
        process = child(url)
        assert process.stdout.readline().split() == ["from", str(offsets[-1])]
        time.sleep(draw.uniform(0.02, 0.25))
        process.kill()
        told = acknowledged(process)
        store = open_store(url)
        offsets.append(check(store, told))
        store.close()
    assert offsets[-1] > 50


@pytest.mark.slow
def test_redis_survives_kills_of_the_server(tmp_path):
    """The writer goes on trying meanwhile; a write whose answer was lost is not written twice."""
    need("redis")
    server = Server("redis", tmp_path / "redis")
    url, draw, offset = f"redis://{server.address}/0", random.Random(2), 0
    process = child(url, "patient")
    store = open_store(url)
    try:
        for _ in range(10):
            time.sleep(draw.uniform(0.05, 0.3))
            server.kill()
            server.start()
            before, offset = offset, store.offsets().get("p", 0)
            assert offset >= before
            deadline = time.monotonic() + 20
            while store.offsets().get("p", 0) <= offset and time.monotonic() < deadline:
                time.sleep(0.01)
        process.kill()
        assert check(store, acknowledged(process)) > 50
    finally:
        process.kill()
        process.wait()
        store.close()
        server.kill()


@pytest.mark.slow
def test_redis_survives_kills_of_the_writer(redis_server):
    url, draw, offset = f"redis://{redis_server.address}/2", random.Random(3), 0
    store = open_store(url)
    for _ in range(5):
        process = child(url)
        assert process.stdout.readline().split() == ["from", str(offset)]
        time.sleep(draw.uniform(0.02, 0.2))
        process.kill()
        offset = check(store, acknowledged(process))
    assert offset > 50
    store.close()
