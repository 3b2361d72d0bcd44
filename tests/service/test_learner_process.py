"""The learner as ``upwell serve`` starts it: a process of its own, beside servers that do not wait for it."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

from upwell.errors import BadRequest
from upwell.events import DECISIONS, Limits, open_consumer, open_log
from upwell.online import kept
from upwell.service.saver import JUDGE, LEARNER, readers, trim
from upwell.service.settings import load
from upwell.state import open_store

LEARNS = {"UPWELL_LEARN": "true", "UPWELL_DIAL_NOISE": "0.1"}
BIG = b"x" * 2_000
BOTH = (LEARNER, JUDGE)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "dial_noise"),
        ({"dial_noise": 0.1, "policy": ""}, "`policy` is empty"),
        ({"dial_noise": 0.1, "store": "memory:"}, "a process of its own"),
    ],
)
def test_learning_that_could_not_be_is_refused(tmp_path, given, message):
    with pytest.raises(BadRequest, match=message):
        load(None, learn=True, data=tmp_path, **given)


def test_what_a_learner_has_not_read_is_kept_while_there_is_room(tmp_path, monkeypatch):
    log = open_log(f"embedded:{tmp_path}", tmp_path, Limits(segment_bytes=10_000))
    for n in range(20):
        end = log.append(DECISIONS, [("u", n, BIG)])
        log.journal.wait(end)  # syncing begins a new segment
    full = log.healthy().journal_bytes
    trim(log, log.partition, end, BOTH, {})
    trim(log, log.partition, end, BOTH, {LEARNER + "another": end})
    assert log.healthy().journal_bytes == full
    consumer = open_consumer(f"embedded:{tmp_path}", tmp_path, "learner", lambda partitions: {})
    read = consumer.poll(10, 1.0)
    at = {who + log.partition: end for who in BOTH}
    trim(log, log.partition, end, BOTH, at | {LEARNER + log.partition: 0})  # the slowest is waited for
    assert log.healthy().journal_bytes == full
    trim(log, log.partition, end, BOTH, at | {LEARNER + log.partition: read[-1].next})
    assert 0 < log.healthy().journal_bytes < full
    more: list = []
    while entries := consumer.poll(10, 0.1):
        more += entries
    assert len(read) + len(more) == 20
    consumer.close()
    monkeypatch.setattr("upwell.service.saver.WAITED_FOR_BYTES", 1)
    trim(log, log.partition, end, BOTH, {})  # there is no room: what serves comes first
    assert log.healthy().journal_bytes < 10_000
    log.close()


def test_who_reads_the_log_beside_the_service(tmp_path):
    given = {"data": tmp_path, "dial_noise": 0.1}
    assert readers(load(None, **given)) == ()
    assert readers(load(None, learn=True, **given)) == (LEARNER,)
    assert readers(load(None, trust=True, **given)) == (JUDGE,)
    assert readers(load(None, learn=True, trust=True, **given)) == BOTH


def test_a_learner_takes_no_place_of_a_server(tmp_path):
    consumer = open_consumer(f"embedded:{tmp_path}", tmp_path, "learner", lambda partitions: {})
    log = open_log(f"embedded:{tmp_path}", tmp_path)
    assert log.slot.endswith("-0")
    end = log.append(DECISIONS, [("u", 1, BIG)])
    (entry,) = consumer.poll(10, 1.0)
    assert (entry.partition, entry.next) == (log.partition, end)
    consumer.close()
    log.close()


@pytest.mark.slow
def test_a_service_that_learns(serve):
    """It answers before the learner is there; the learner reads all of the log, and once killed, goes on."""
    one = serve(**LEARNS)
    names = [f"c{n}" for n in range(8)]
    for name in names:
        one.content(name)
    store = open_store(f"sqlite:{one.folder}/data/state.db")
    first = lived(one, names, 0)
    wait(lambda: read_to(store) >= first, "the learner has read what was logged")
    (body,) = store.get("meta", [kept.ID])
    assert body is not None
    learner = learner_of(one)
    os.kill(learner, signal.SIGKILL)
    wait(lambda: learner_of(one) not in (0, learner), "it is started again")
    assert one.recommend("u0", names).status_code == 200
    second = lived(one, names, 1)
    assert second > first
    wait(lambda: read_to(store) >= second, "it goes on")
    assert one.stop() == 0
    store.close()


def lived(one, names, number: int) -> int:
    """Some slates and clicks; returns how far the log goes."""
    for n in range(30):
        answer = one.recommend(f"u{n}", names).json()
        assert not answer["degraded"]
        told = {
            "event_id": f"e{number}-{n}", "decision_id": answer["decision_id"], "user_id": f"u{n}", "kind": "click",
            "content_id": answer["items"][0]["id"], "ts": time.time_ns() // 1_000_000, "clicked": True,
        }  # fmt: skip
        assert one.tell(told).json()["accepted"] == 1
    reader = open_consumer(f"embedded:{one.folder}/data/journal", one.folder, f"look{number}", lambda partitions: {})
    reader.poll(1, 1.0)
    end = max(reader.end_offsets().values())
    reader.close()
    return end


def read_to(store) -> int:
    return max((at for name, at in store.offsets().items() if name.startswith(LEARNER)), default=0)


def learner_of(one) -> int:
    """The learner's process; 0: there is none."""
    found = subprocess.run(
        ["pgrep", "-P", str(one.process.pid), "-f", "upwell.online.child"], capture_output=True, text=True
    )
    return int(found.stdout.split()[0]) if found.stdout.split() else 0


def wait(done, what: str) -> None:
    until = time.monotonic() + 120.0
    while not done():
        assert time.monotonic() < until, what
        time.sleep(0.1)
