"""What every log does, whichever adapter it is."""

import asyncio
import threading
import time
from collections import defaultdict
from itertools import pairwise

import pytest
from event_logs import PATIENCE_S, SMALL, Folder, Member, drain, records, recovered

from upwell.errors import BadRequest
from upwell.events import CONTROL, DECISIONS, INTERACTIONS, LogDown, open_log


def by_partition(entries):
    found = defaultdict(list)
    for entry in entries:
        found[entry.partition].append(entry)
    return found


def test_entries_come_as_they_went_in_order_within_their_partition(logs):
    log = logs.open()
    sent = records(300)
    for start in range(0, 300, 50):
        log.append(INTERACTIONS, sent[start : start + 50])
    log.append(DECISIONS, [("user-1", 5, b"\x00\xff"), ("ключ 🗝", 6, b"")])
    entries = drain(logs.consumer(log), 302)
    assert sorted((e.key, e.ts_ms, e.value) for e in entries if e.topic == INTERACTIONS) == sorted(sent)
    assert {(e.key, e.ts_ms, e.value) for e in entries if e.topic == DECISIONS} == {
        ("user-1", 5, b"\x00\xff"), ("ключ 🗝", 6, b""),
    }  # fmt: skip
    for found in by_partition(entries).values():
        assert all(one.offset < one.next <= other.offset for one, other in pairwise(found))
    users = defaultdict(list)
    for entry in entries:
        if entry.topic == INTERACTIONS:
            users[entry.key].append(int(entry.value))
    assert all(numbers == sorted(numbers) for numbers in users.values())


def test_reading_goes_on_at_any_offset(logs):
    log = logs.open()
    log.append(INTERACTIONS, records(60))
    consumer = logs.consumer(log)
    for partition, entries in by_partition(drain(consumer, 60)).items():
        for n in range(0, len(entries), 7):
            consumer.seek(partition, entries[n].offset)
            assert drain(consumer, len(entries) - n) == entries[n:]
            consumer.seek(partition, entries[n].next)
            assert drain(consumer, len(entries) - n - 1) == entries[n + 1 :]
        consumer.seek(partition, 0)
        assert drain(consumer, len(entries)) == entries


def test_a_new_member_begins_at_the_stored_offsets(logs):
    log, folder = logs.open(), Folder()
    log.append(INTERACTIONS, records(40))
    first = Member(log, folder, logs)
    while len(folder.applied) < 40:
        first.step()
    first.consumer.close()
    log.append(INTERACTIONS, records(10, 40))
    second = logs.consumer(log, folder.stored, "appliers")
    assert sorted(int(entry.value) for entry in drain(second, 10)) == list(range(40, 50))


def test_only_the_topics_asked_for(logs):
    log = logs.open()
    for topic in (INTERACTIONS, DECISIONS, CONTROL):
        log.append(topic, [("key", 1, topic.encode())])
    assert {entry.value for entry in drain(logs.consumer(log, topics=[DECISIONS]), 1)} == {DECISIONS.encode()}
    assert len(drain(logs.consumer(log, group="all"), 3)) == 3


def test_lag_and_ends(logs):
    log = logs.open()
    log.append(INTERACTIONS, records(100))
    consumer = logs.consumer(log, topics=[INTERACTIONS])
    last = {entry.partition: entry.next for entry in drain(consumer, 100)}
    assert last.items() <= consumer.end_offsets().items()
    assert set(consumer.assigned()) == consumer.lag().keys() == consumer.end_offsets().keys()
    assert sum(consumer.lag().values()) == 0
    for partition in last:
        consumer.seek(partition, 0)
    assert sum(consumer.lag().values()) > 0


def test_polling_without_entries_takes_the_time_it_was_given(logs):
    consumer = logs.consumer(logs.open())
    began = time.monotonic()
    assert consumer.poll(10, 0.3) == []
    assert 0.25 < time.monotonic() - began < 5


def test_no_more_entries_than_asked_for(logs):
    log = logs.open()
    log.append(INTERACTIONS, records(50))
    consumer, found = logs.consumer(log), 0
    until = time.monotonic() + PATIENCE_S
    while found < 50 and time.monotonic() < until:
        entries = consumer.poll(7, 0.2)
        assert len(entries) <= 7
        found += len(entries)
    assert found == 50


def test_members_that_come_and_go_apply_each_entry_once(logs):
    log, folder, total = logs.open(), Folder(), 3_000
    stop = threading.Event()

    def work(leaves_after_s: float | None) -> None:
        began, member = time.monotonic(), Member(log, folder, logs)
        while not stop.is_set() and (leaves_after_s is None or time.monotonic() - began < leaves_after_s):
            member.step()
        member.consumer.close()

    threads = [threading.Thread(target=work, args=[after_s]) for after_s in (None, 4.0, None)]
    try:
        for n, thread in enumerate(threads):
            thread.start()
            for start in range(n * 1_000, n * 1_000 + 1_000, 50):
                log.append(INTERACTIONS if start % 100 else DECISIONS, records(50, start))
                time.sleep(0.05)
        until = time.monotonic() + PATIENCE_S
        while len(folder.applied) < total and time.monotonic() < until:
            time.sleep(0.05)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert sorted(int(value) for value in folder.values()) == list(range(total))
    for entries in by_partition(folder.applied).values():
        assert [e.offset for e in entries] == sorted(e.offset for e in entries)


def test_the_store_being_away_at_assignment_is_told_and_got_over(logs):
    log, calls = logs.open(), []

    def offsets(partitions):
        calls.append(partitions)
        if len(calls) == 1:
            raise ConnectionError("the store is away")
        return {}

    log.append(INTERACTIONS, records(5))
    consumer = logs.consumer(log, offsets)
    with pytest.raises(ConnectionError):
        drain(consumer, 5)
    assert consumer.assigned() == []
    drain(consumer, 5)


def test_durable_for_many_at_once(logs):
    log = logs.open()

    async def one(n: int) -> int:
        position = log.append(INTERACTIONS, records(1, n))
        await log.durable(position)
        return position

    async def all_of_them() -> list[int]:
        return await asyncio.gather(*(one(n) for n in range(200)))

    positions = asyncio.run(all_of_them())
    assert positions == sorted(set(positions))
    assert [int(entry.value) for entry in recovered(log)] == list(range(200))


def test_a_restart_keeps_slot_and_offsets(logs):
    log = logs.open()
    log.append(INTERACTIONS, records(30))
    entries = recovered(log)
    log.close()
    again = logs.open()
    assert (again.slot, again.partition) == (log.slot, log.partition)
    assert again.append(INTERACTIONS, records(1, 30)) > entries[-1].next
    for n in (0, 12, 29):
        left = recovered(again, {again.partition: entries[n].next}, limit=4)
        assert [int(entry.value) for entry in left] == list(range(n + 1, 31))


def test_two_processes_have_two_slots_and_the_dead_ones_entries_are_recovered(logs):
    one, two = logs.open(), logs.open()
    assert one.partition != two.partition
    one.append(INTERACTIONS, records(10))
    two.append(INTERACTIONS, records(10, 10))
    assert len(recovered(one)) == 10  # of the living other one it has none
    two.close()
    entries = recovered(one)
    assert [int(entry.value) for entry in entries] == list(range(20))
    saved = {entry.partition: entry.next for entry in entries}
    assert recovered(one, saved) == []


def test_trimming_never_drops_what_is_beyond(logs):
    log = logs.open(SMALL)
    for n in range(0, 400, 20):
        asyncio.run(log.durable(log.append(INTERACTIONS, records(20, n))))
    entries = recovered(log)
    until = time.monotonic() + PATIENCE_S
    while log.healthy().journal_bytes > 12_000 and time.monotonic() < until:
        log.trim(log.partition, entries[300].offset)
        time.sleep(0.05)
    assert log.healthy().journal_bytes <= 12_000
    left = [int(entry.value) for entry in recovered(log)]
    assert 100 <= len(left) < 200
    assert left == list(range(400 - len(left), 400))
    log.trim("nowhere-1", 5)


def test_erasure_leaves_nothing_of_a_user_in_the_journals(logs):
    log, other = logs.open(), logs.open()
    for one in (log, other):
        one.append(DECISIONS, [("anna", 1, b"hers"), ("bert", 1, b"his")])
    assert log.erase("anna") == 2
    assert not any(b"hers" in path.read_bytes() for path in logs.directory.rglob("*.frames"))
    assert [entry.value for entry in recovered(log)] == [b"his"]


def test_what_is_too_large_is_refused_and_not_written(logs):
    log = logs.open()
    with pytest.raises(BadRequest):
        log.append(INTERACTIONS, [("user", 1, b"good"), ("user", 1, bytes(1_000_001))])
    assert recovered(log) == []


def test_health_and_the_end(logs):
    log = logs.open()
    log.append(INTERACTIONS, records(10))
    drain(logs.consumer(log), 10)
    until = time.monotonic() + PATIENCE_S
    while log.healthy().undelivered_bytes and time.monotonic() < until:
        time.sleep(0.02)
    health = log.healthy()
    assert (health.writable, health.delivering, health.undelivered_bytes, health.error) == (True, True, 0, "")
    assert health.journal_bytes > 0
    log.close()
    log.close()
    with pytest.raises(LogDown):
        log.append(INTERACTIONS, records(1))


@pytest.mark.parametrize(
    "url",
    [
        "", "file:/x", "kafka:", "kafka://", "kafka://me:hunter2@host:9092", "kafka://h:1?partitions=0",
        "kafka://h:1?password=hunter2", "kafka://h:1?config=/no/such", "kafka://h:1/topic", "hunter2@host",
    ],
)  # fmt: skip
def test_an_unknown_url_is_refused_without_quoting_a_secret(url, tmp_path):
    with pytest.raises(BadRequest) as refused:
        open_log(url, tmp_path)
    assert "hunter2" not in str(refused.value)


def test_an_unwritable_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadRequest, match="file"):
        open_log(f"embedded:{tmp_path / 'file'}", tmp_path)
