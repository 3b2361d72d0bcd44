"""What the service asks of its surroundings."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from upwell.service.apply import Entry

Clock = Callable[[], int]
"""Unix milliseconds. All time comes from it, so that a simulation can bring its own."""


def system_clock() -> int:
    return time.time_ns() // 1_000_000


class Log(Protocol):
    """The event log as a server uses it (see ``upwell.events``)."""

    slot: str
    partition: str

    def append(self, topic: str, records: Sequence[tuple[str, int, bytes]]) -> int: ...
    async def durable(self, position: int) -> None: ...
    def recover(self, offsets: dict[str, int], limit: int) -> Iterator[list[Entry]]: ...
    def trim(self, partition: str, offset: int) -> None: ...
    def erase(self, user_id: str) -> None: ...
    def close(self) -> None: ...
