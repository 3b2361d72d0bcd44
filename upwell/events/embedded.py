"""The log without a broker: the journals of all processes of this machine, each a partition."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from upwell.events import files
from upwell.events.local import LocalLog
from upwell.events.port import TOPICS, Consumer, Entry, Health, Offsets
from upwell.events.reader import JournalReader
from upwell.events.slots import Slots

IDLE_S = 0.002
"""Between looks at journals that had nothing new, so about the latency too."""


class EmbeddedLog(LocalLog):
    """See ``port.Log``."""

    def consumer(self, group: str, offsets: Offsets, topics: Sequence[str] = TOPICS) -> Consumer:
        return EmbeddedConsumer(self.slots, group, offsets, topics)

    def healthy(self) -> Health:
        error = self.journal.error
        return Health(
            writable=not error, delivering=not error, journal_bytes=self.journal.used_bytes, undelivered_bytes=0,
            error=error,
        )  # fmt: skip


class EmbeddedConsumer:
    """See ``port.Consumer``. One member of a group, elected by a file lock, has all partitions."""

    def __init__(self, slots: Slots, group: str, offsets: Offsets, topics: Sequence[str]) -> None:
        self._slots, self._offsets, self._topics = slots, offsets, frozenset(topics)
        self._lock = slots.directory / f"{group}.group"
        self._held: int | None = None
        self._readers: dict[str, JournalReader] = {}
        self._turn = 0

    def assigned(self) -> list[str]:
        return list(self._readers)

    def seek(self, partition: str, offset: int) -> None:
        if (reader := self._readers.get(partition)) is not None:
            reader.seek(offset)

    def poll(self, max_entries: int, timeout_s: float) -> list[Entry]:
        until = time.monotonic() + timeout_s
        while True:
            entries = self._read(max_entries) if self._elected() else []
            left = until - time.monotonic()
            if entries or left <= 0:
                return entries
            time.sleep(min(left, IDLE_S))

    def end_offsets(self) -> dict[str, int]:
        return {partition: files.end(reader.directory) for partition, reader in self._readers.items()}

    def lag(self) -> dict[str, int]:
        return {partition: reader.unread() for partition, reader in self._readers.items()}

    def close(self) -> None:
        for reader in self._readers.values():
            reader.close()
        self._readers = {}
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def _elected(self) -> bool:
        """Whether this is the group's reader; takes new slots in."""
        if self._held is None:
            self._held = files.lock(self._lock)
            if self._held is None:
                return False
        fresh = {name: path for name, path in self._slots.partitions().items() if name not in self._readers}
        if fresh:
            offsets = self._offsets(list(fresh))
            for partition, path in fresh.items():
                self._readers[partition] = JournalReader(path, partition, offsets.get(partition, 0))
        return True

    def _read(self, limit: int) -> list[Entry]:
        """From the first journal, in turn, that has something."""
        readers = list(self._readers.values())
        for _ in readers:
            self._turn += 1
            reader = readers[self._turn % len(readers)]
            while raw := reader.poll(limit):
                entries = [entry for entry in raw if entry.topic in self._topics]
                if entries:
                    return entries
        return []
