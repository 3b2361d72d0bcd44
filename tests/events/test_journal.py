"""A journal keeps what it was given: across cuts, damage, a full disk, erasure, and readers beside its writer."""

import asyncio
import errno
import os
import threading

import pytest
from event_logs import SMALL, records

from upwell.errors import BadRequest
from upwell.events import files
from upwell.events.erasing import erase
from upwell.events.frames import HEAD, encode
from upwell.events.journal import JUMP, Journal, Limits
from upwell.events.port import Corrupt, Entry, Full, LogDown, Taken
from upwell.events.reader import JournalReader

TOPIC = "user-interactions"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "0"


@pytest.fixture
def opens(folder):
    opened = []

    def opens(limits: Limits = SMALL) -> Journal:
        opened.append(Journal(folder, limits))
        return opened[-1]

    yield opens
    for journal in opened:
        journal.close()


@pytest.fixture
def reads(folder):
    opened = []

    def reads(offset: int = 0) -> JournalReader:
        opened.append(JournalReader(folder, "p", offset))
        return opened[-1]

    yield reads
    for reader in opened:
        reader.close()


def rest(reader: JournalReader, limit: int = 1_000) -> list[Entry]:
    found = []
    while entries := reader.poll(limit):
        found += entries
    return found


def values(reader: JournalReader, limit: int = 1_000) -> list[bytes]:
    return [entry.value for entry in rest(reader, limit)]


def numbers(start: int, stop: int) -> list[bytes]:
    return [b"%d" % n for n in range(start, stop)]


def fill(journal: Journal, start: int, stop: int) -> None:
    """So that segments roll: what is synced is looked at for its size."""
    for n in range(start, stop, 20):
        journal.wait(journal.append(TOPIC, records(20, n)), 10)


def test_segments_follow_each_other_without_a_seam(opens, reads, folder):
    journal = opens()
    fill(journal, 0, 400)
    assert len(files.segments(folder)) > 2
    reader = reads()
    assert values(reader, 7) == numbers(0, 400)
    assert reader.offset == files.end(folder) == journal.position
    assert reader.unread() == 0


def test_reading_goes_on_at_every_offset(opens, reads):
    fill(opens(), 0, 200)
    entries = rest(reads())
    for n, entry in enumerate(entries):
        assert reads(entry.offset).poll(1) == [entry]
        assert values(reads(entry.next)) == numbers(n + 1, len(entries))


def test_every_cut_is_mended_to_the_last_whole_frame(opens, reads, folder):
    journal = opens()
    journal.append(TOPIC, records(5))
    journal.close()
    path = files.segments(folder)[-1].path
    whole = path.read_bytes()
    ends = [entry.next for entry in reads().poll(10)]
    for cut in range(len(whole)):
        for one in files.segments(folder):
            one.path.unlink()
        path.write_bytes(whole[:cut])
        kept = sum(end <= cut for end in ends)
        assert values(reads()) == numbers(0, kept), cut  # a reader waits at the tear
        journal = opens()
        journal.append(TOPIC, records(1, 5))
        assert values(reads()) == [*numbers(0, kept), b"5"], cut
        journal.close()


@pytest.mark.parametrize("garbage", [bytes(100), b"\xff" * 100, b"\xf5\x01" * 50, encode(TOPIC, records(1))[:-1]])
def test_what_a_power_cut_leaves_at_the_tail_is_cut_off(opens, reads, folder, garbage):
    journal = opens()
    journal.append(TOPIC, records(5))
    journal.close()
    with files.segments(folder)[-1].path.open("ab") as file:
        file.write(garbage)
    assert values(reads()) == numbers(0, 5)
    reader = reads()
    assert len(reader.poll(10)) == 5
    journal = opens()
    journal.append(TOPIC, records(5, 5))
    assert values(reader) == numbers(5, 10)
    assert values(reads()) == numbers(0, 10)


@pytest.mark.parametrize("where", [0, 1, 3, 7, 12, 20, 23, 30], ids=lambda n: f"byte {n}")
def test_damage_in_the_middle_names_file_and_byte(opens, reads, folder, where):
    journal = opens()
    journal.append(TOPIC, records(5))
    journal.close()
    path = files.segments(folder)[-1].path
    at = reads().poll(3)[-1].offset
    data = bytearray(path.read_bytes())
    data[at + where] ^= 8
    path.write_bytes(data)
    reader = reads()
    assert len(reader.poll(10)) == 2
    attempts = [lambda: reader.poll(10), opens]
    if where < HEAD.size:  # else the header says where the next frame is, and erasing needs no more
        attempts.append(lambda: erase(folder, "user-0"))
    for attempt in attempts:
        with pytest.raises(Corrupt, match=rf"{path}: damaged at byte {at}:"):
            attempt()


def test_a_torn_segment_with_a_successor_is_damage(opens, reads, folder):
    journal = opens()
    fill(journal, 0, 200)
    first = files.segments(folder)[0].path
    os.truncate(first, first.stat().st_size - 1)
    with pytest.raises(Corrupt, match=str(first)):
        values(reads())


def test_an_offset_is_never_used_twice(opens, reads, folder):
    journal = opens()
    seen = journal.append(TOPIC, records(50))
    journal.close()
    os.truncate(files.segments(folder)[-1].path, 10)  # a power cut took back what a reader has had
    journal = opens()
    assert journal.append(TOPIC, records(1, 99)) > seen
    assert values(reads(seen)) == [b"99"]
    assert journal.position < seen + 2 * JUMP


def test_a_second_writer_is_kept_out(opens):
    journal = opens()
    with pytest.raises(Taken):
        opens()
    journal.close()
    opens().append(TOPIC, records(1))


def test_starts_without_an_entry_leave_nothing_behind(opens, folder):
    for _ in range(5):
        opens().close()
    assert len(files.segments(folder)) == 1


def test_a_full_journal_refuses_until_segments_are_dropped(opens):
    journal = opens(Limits(segment_bytes=1_000, max_bytes=3_000, sync_s=0.01))
    while journal.used_bytes < 2_800:
        journal.wait(journal.append(TOPIC, records(5)), 10)
    with pytest.raises(Full):
        journal.append(TOPIC, records(5))
    assert journal.drop_before(journal.position) > 0
    journal.append(TOPIC, records(5))


def test_only_segments_wholly_before_the_offset_are_dropped(opens, reads, folder):
    journal = opens()
    fill(journal, 0, 200)
    entries = rest(reads())
    late = reads()
    assert len(late.poll(1)) == 1
    journal.drop_before(entries[120].offset, older_s=3_600)
    assert values(reads()) == numbers(0, 200)
    journal.drop_before(entries[120].offset)
    kept = values(reads())
    assert b"0" not in kept
    assert kept[-80:] == numbers(120, 200)
    assert values(reads(entries[120].offset)) == numbers(120, 200)
    assert set(values(late)) >= set(numbers(120, 200))  # what it was reading is gone from the folder
    journal.drop_before(journal.position + 1)
    assert files.segments(folder)


def test_half_a_write_keeps_its_whole_frames_and_no_more(opens, reads, monkeypatch):
    journal = opens()
    journal.append(TOPIC, records(1))
    write, size = os.write, len(encode(TOPIC, records(3, 1))) + 10
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:size]))
    with pytest.raises(Full):
        journal.append(TOPIC, records(9, 1))
    monkeypatch.undo()
    journal.append(TOPIC, records(1, 4))
    assert values(reads()) == numbers(0, 5)


@pytest.mark.parametrize(("code", "error"), [(errno.ENOSPC, Full), (errno.EIO, LogDown)])
def test_a_failed_write_is_told_and_changes_nothing(opens, reads, monkeypatch, code, error):
    journal = opens()

    def fails(fd, data):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "write", fails)
    with pytest.raises(error):
        journal.append(TOPIC, records(1))
    monkeypatch.undo()
    journal.append(TOPIC, records(1))
    assert values(reads()) == [b"0"]


def test_after_a_failed_sync_nothing_is_taken(opens, monkeypatch):
    journal = opens()

    def fails(fd):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", fails)
    position = journal.append(TOPIC, records(1))
    with pytest.raises(LogDown, match="restart"):
        asyncio.run(journal.durable(position))
    with pytest.raises(LogDown, match="restart"):
        journal.wait(position, 5)
    with pytest.raises(LogDown):
        journal.append(TOPIC, records(1))


def test_many_who_wait_share_syncs(opens, monkeypatch):
    journal = opens(Limits())
    syncs, fdatasync = [], os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (syncs.append(fd), fdatasync(fd)))

    async def one(n: int) -> None:
        await journal.durable(journal.append(TOPIC, records(1, n)))

    async def all_of_them() -> None:
        await asyncio.gather(*(one(n) for n in range(500)))

    threads = [threading.Thread(target=asyncio.run, args=[all_of_them()]) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(syncs) < 100


def test_who_stops_waiting_does_no_harm(opens):
    journal = opens()

    async def impatient() -> None:
        position = journal.append(TOPIC, records(1))
        for task in [asyncio.create_task(journal.durable(position)) for _ in range(5)]:
            await asyncio.sleep(0)
            task.cancel()
        await journal.durable(position)

    asyncio.run(impatient())


def test_a_closed_journal_says_so(opens):
    journal = opens()
    position = journal.append(TOPIC, records(1))
    journal.close()
    journal.close()
    journal.wait(position, 1)
    with pytest.raises(LogDown, match="closed"):
        journal.append(TOPIC, records(1))


def test_a_bad_record_writes_nothing(opens, reads):
    journal = opens()
    with pytest.raises(BadRequest):
        journal.append(TOPIC, [*records(3), ("\ud800", 1, b"")])
    assert values(reads()) == []


def test_a_reader_beside_the_writer_sees_all_in_order(opens, reads):
    journal, found = opens(), []
    writer = threading.Thread(target=fill, args=(journal, 0, 2_000))
    writer.start()
    reader = reads()
    while len(found) < 2_000:
        found += [entry.value for entry in reader.poll(37)]
    writer.join()
    assert found == numbers(0, 2_000)


def test_erasure_overwrites_one_user_under_a_running_writer(opens, reads, folder):
    journal = opens()
    entries = [("anna", 1, b"secret-of-anna"), ("bert", 2, b"of bert"), ("ann", 3, b"of ann")]
    for n in range(100):
        journal.append(TOPIC, [*entries, *records(2, n)])
        journal.wait(journal.position, 10)
    reader = reads()
    assert len(reader.poll(2)) == 2
    assert erase(folder, "anna") == 100
    assert erase(folder, "anna") == 0
    journal.append(TOPIC, entries)
    assert sum(value == b"of bert" for value in values(reads())) == 101
    assert values(reader)[-3:] == [b"secret-of-anna", b"of bert", b"of ann"]
    assert erase(folder, "anna") == 1
    assert not any(b"anna" in one.path.read_bytes() for one in files.segments(folder))
    journal.close()
    assert opens().position


def test_an_erasure_that_stopped_half_way_is_finished_by_the_next(opens, reads, folder):
    journal = opens()
    journal.append(TOPIC, [("anna", 1, b"secret"), ("bert", 2, b"of bert")])
    path = files.segments(folder)[-1].path
    with path.open("r+b") as file:  # the mark is there, the zeros are not
        file.seek(1)
        file.write(b"\x02")
    assert values(reads()) == [b"of bert"]
    assert erase(folder, "anna") == 1
    assert b"secret" not in path.read_bytes()
    assert values(reads()) == [b"of bert"]


def test_a_quiet_journal_rolls_by_age(opens, folder):
    journal = opens(Limits(segment_s=0.0, sync_s=0.01))
    journal.wait(journal.append(TOPIC, records(1)), 10)
    journal.wait(journal.append(TOPIC, records(1)), 10)
    assert len(files.segments(folder)) >= 2
