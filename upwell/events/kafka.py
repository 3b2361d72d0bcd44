"""The log in Kafka: a journal on the local disk first, forwarded by a thread; read by groups of consumers.

An acknowledgement needs the local disk alone, so Kafka may be away for as long as the journal has room. What was sent
but not recorded as sent when the process died is sent again by the next: a consumer must know entries by their ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from upwell.events.broker import Broker
from upwell.events.forwarder import Forwarder
from upwell.events.journal import Limits
from upwell.events.local import LocalLog
from upwell.events.members import KafkaConsumer
from upwell.events.port import TOPICS, Consumer, Health, Offsets
from upwell.events.shipment import forwarded


class KafkaLog(LocalLog):
    """See ``port.Log`` and ``open_log``."""

    def __init__(self, url: str, directory: Path, limits: Limits | None = None, folding: bool = True) -> None:
        """Raises BadRequest, Corrupt, LogDown; not when Kafka is away."""
        self._broker = Broker.of(url)
        super().__init__(directory, limits)
        self._forwarder = Forwarder(self._broker, self.slots, self.partition, folding)

    def consumer(self, group: str, offsets: Offsets, topics: Sequence[str] = TOPICS) -> Consumer:
        return KafkaConsumer(self._broker, group, offsets, topics)

    def delivered(self, path: Path) -> int:
        return self._forwarder.forwarded if path == self.journal.directory else forwarded(path)

    def healthy(self) -> Health:
        error, stalled = self.journal.error, self._forwarder.stalled()
        return Health(
            writable=not error, delivering=not (error or stalled), journal_bytes=self.journal.used_bytes,
            undelivered_bytes=self._forwarder.backlog(), error=error or (self._forwarder.error if stalled else ""),
        )  # fmt: skip

    def close(self) -> None:
        self._forwarder.close()
        super().close()
