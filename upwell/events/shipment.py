"""One journal on its way to Kafka."""

from __future__ import annotations

import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from struct import Struct

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from upwell.events import files
from upwell.events.journal import Journal
from upwell.events.reader import JournalReader

BATCH = 500
WINDOW = 40
"""Batches under way at once."""
RECORD_S = 0.1
"""Between records of how far it has come; after a crash, so much is sent again."""
TIME = "ts"
"""Header with the record's own time, Unix ms: the topic keeps the broker's."""
TIME_BYTES = Struct("<q")


class Batch:
    """Records handed to the producer together; its thread counts them off."""

    __slots__ = ("end", "error", "left")

    def __init__(self, count: int, end: int) -> None:
        self.left, self.end = count, end
        self.error: KafkaError | None = None

    def reported(self, error: KafkaError | None, _: Message) -> None:
        self.left -= 1
        self.error = error or self.error


class Shipment:
    """Sends a journal from where it had come. ``forwarded``: all before this offset is in Kafka."""

    def __init__(self, producer: Producer, path: Path, partition: str, orphan: Journal | None = None) -> None:
        self.path, self.orphan, self._producer = path, orphan, producer
        self.forwarded = self._recorded = forwarded(path)
        self._reader = JournalReader(path, partition, self.forwarded)
        self._under_way: deque[Batch] = deque()
        self._recorded_s = self.moved_s = time.monotonic()

    def send(self) -> int:
        """Hand the next records to the producer; returns how many it took."""
        if len(self._under_way) >= WINDOW:
            return 0
        entries = self._reader.poll(BATCH)
        batch, sent = Batch(len(entries), self._reader.offset), 0
        for entry in entries:
            try:
                self._producer.produce(
                    entry.topic, entry.value, entry.key, on_delivery=batch.reported,
                    headers=[(TIME, TIME_BYTES.pack(entry.ts_ms))],
                )  # fmt: skip
            except BufferError:  # it holds as much as it may: the rest comes later
                batch.left, batch.end = batch.left - (len(entries) - sent), entry.offset
                self._reader.seek(entry.offset)
                break
            sent += 1
        if batch.end > self.forwarded:
            self._under_way.append(batch)
        return sent

    def settle(self) -> None:
        """Take delivery reports in. Raises KafkaException when one says that a record did not arrive."""
        came = self.forwarded
        while self._under_way and not self._under_way[0].left:
            batch = self._under_way.popleft()
            if batch.error is not None:
                raise KafkaException(batch.error)
            self.forwarded = batch.end
        now = time.monotonic()
        if self.forwarded > came or not self._under_way:
            self.moved_s = now
        if self.forwarded > self._recorded and now - self._recorded_s >= RECORD_S:
            self.record()

    def done(self) -> bool:
        """Whether all that is in the journal is in Kafka."""
        return not self._under_way and not self._reader.unread()

    def record(self) -> None:
        """Keep how far it has come. Not synced: an older record means that more is sent again, nothing else."""
        if self.forwarded > self._recorded:
            with suppress(OSError):  # a full disk must not keep the journal from emptying
                files.replace(self.path / "forwarded", str(self.forwarded))
            self._recorded, self._recorded_s = self.forwarded, time.monotonic()

    def close(self) -> None:
        self.record()
        self._reader.close()
        if self.orphan is not None:
            self.orphan.close()


def forwarded(path: Path) -> int:
    """How far a journal is in Kafka by its last record; 0 where it cannot be read."""
    try:
        return int((path / "forwarded").read_text())
    except (FileNotFoundError, ValueError):
        return 0
