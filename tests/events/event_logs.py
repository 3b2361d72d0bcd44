"""Logs to test, and what consumers of them do with their offsets."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from upwell.events import Consumer, Entry, Limits, Log, open_log
from upwell.events.port import TOPICS

PATIENCE_S = 60.0
SMALL = Limits(segment_bytes=4_096, max_bytes=1 << 20, sync_s=0.01)


class Logs:
    """Opens logs and consumers of one kind below one folder, and closes what a test leaves open."""

    def __init__(self, url: str, directory: Path) -> None:
        self.url, self.directory = url, directory
        self._open: list[Log | Consumer] = []

    def open(self, limits: Limits | None = None, folding: bool = True) -> Log:
        return self.keep(open_log(self.url, self.directory, limits, folding))

    def consumer(self, log: Log, offsets=lambda partitions: {}, group: str = "test", topics=TOPICS) -> Consumer:
        return self.keep(log.consumer(group, offsets, topics))

    def keep(self, one):
        self._open.append(one)
        return one

    def close(self) -> None:
        for one in reversed(self._open):
            one.close()


def forget_topics(address: str) -> None:
    """Topics have fixed names, so a test that begins must not find those of another."""
    from confluent_kafka.admin import AdminClient

    admin = AdminClient({"bootstrap.servers": address})
    there = [name for name in TOPICS if name in admin.list_topics(timeout=PATIENCE_S).topics]
    for gone in admin.delete_topics(there).values() if there else ():
        gone.result(PATIENCE_S)


class Folder:
    """A state store's part in it: entries and the offset after them are taken together, by comparison."""

    def __init__(self) -> None:
        self.offsets: dict[str, int] = {}
        self.applied: list[Entry] = []
        self.conflicts = 0
        self._lock = threading.Lock()

    def stored(self, partitions: list[str]) -> dict[str, int]:
        with self._lock:
            return {name: self.offsets[name] for name in partitions if name in self.offsets}

    def apply(self, entry: Entry, expected: int) -> bool:
        with self._lock:
            if self.offsets.get(entry.partition, 0) != expected:
                self.conflicts += 1
                return False
            self.offsets[entry.partition] = entry.next
            self.applied.append(entry)
            return True

    def values(self) -> list[bytes]:
        return [entry.value for entry in self.applied]


class Member:
    """Folds what its consumer gets, as an applier does: on a conflict it drops what it holds and seeks."""

    def __init__(self, log: Log, folder: Folder, logs: Logs) -> None:
        self.folder, self._expected = folder, dict[str, int]()
        self.consumer = logs.consumer(log, self._assigned, "appliers")

    def _assigned(self, partitions: list[str]) -> dict[str, int]:
        stored = self.folder.stored(partitions)
        self._expected |= {name: stored.get(name, 0) for name in partitions}
        return stored

    def step(self, timeout_s: float = 0.2) -> int:
        entries = self.consumer.poll(500, timeout_s)
        lost: set[str] = set()
        for entry in entries:
            if entry.partition in lost:
                continue
            if self.folder.apply(entry, self._expected[entry.partition]):
                self._expected[entry.partition] = entry.next
            else:
                lost.add(entry.partition)
        for name, offset in self._assigned(sorted(lost)).items() if lost else ():
            self.consumer.seek(name, offset)
        return len(entries)


def records(count: int, start: int = 0, users: int = 7, ts_ms: int = 1_700_000_000_000) -> list[tuple[str, int, bytes]]:
    """Numbered, of several users."""
    return [(f"user-{n % users}", ts_ms + n, b"%d" % n) for n in range(start, start + count)]


def drain(consumer: Consumer, count: int) -> list[Entry]:
    """Exactly so many entries, and a moment's proof that there are no more."""
    found: list[Entry] = []
    until = time.monotonic() + PATIENCE_S
    while len(found) < count and time.monotonic() < until:
        found += consumer.poll(500, 0.2)
    found += consumer.poll(500, 0.1)
    assert len(found) == count
    return found


def recovered(log: Log, offsets: dict[str, int] | None = None, limit: int = 100) -> list[Entry]:
    return [entry for entries in log.recover(offsets or {}, limit) for entry in entries]
