"""What both adapters share: a slot of its own on the local disk, which every append goes to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from upwell.events import files
from upwell.events.erasing import erase
from upwell.events.journal import Limits
from upwell.events.port import Entry, Record
from upwell.events.reader import JournalReader
from upwell.events.slots import Slots


class LocalLog:
    """The half of ``port.Log`` that needs the local disk alone."""

    def __init__(self, directory: Path, limits: Limits | None = None) -> None:
        """Claims a slot below ``directory``. Raises BadRequest, Corrupt, LogDown."""
        self.slots = Slots(directory, limits)
        self.partition, self.journal = self.slots.claim()
        self.slot, self.began = self.partition, self.journal.position

    def append(self, topic: str, records: Sequence[Record]) -> int:
        return self.journal.append(topic, records)

    async def durable(self, position: int) -> None:
        await self.journal.durable(position)

    def recover(self, offsets: dict[str, int], limit: int) -> Iterator[list[Entry]]:
        paths = self.slots.partitions()
        yield from beyond(paths.pop(self.partition), self.partition, offsets, limit)
        for partition, path in paths.items():
            if (journal := self.slots.adopt(path)) is not None:
                with closing(journal):
                    yield from beyond(path, partition, offsets, limit)
                    # What the caller got just now goes at the next start: it may not be saved yet.
                    self.trim(partition, offsets.get(partition, 0))

    def trim(self, partition: str, offset: int) -> None:
        if partition == self.partition:
            self.journal.drop_before(min(offset, self.delivered(self.journal.directory)))
        elif (path := self.slots.partitions().get(partition)) is not None:
            files.drop_before(path, min(offset, self.delivered(path)))

    def delivered(self, path: Path) -> int:
        """Up to where what is in a slot is with the consumers: here they read the slot itself."""
        return files.end(path)

    def erase(self, user_id: str) -> int:
        return sum(erase(path, user_id) for path in self.slots.partitions().values())

    def close(self) -> None:
        self.journal.close()


def beyond(path: Path, partition: str, offsets: dict[str, int], limit: int) -> Iterator[list[Entry]]:
    """All that is in a slot from its offset on."""
    reader = JournalReader(path, partition, offsets.get(partition, 0))
    try:
        while entries := reader.poll(limit):
            yield entries
    finally:
        reader.close()
