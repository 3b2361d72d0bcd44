"""The event-log port: what the service asks of a log. Adapters: embedded and Kafka; one suite tests both.

Every process writes to a journal of its own on the local disk, whatever the adapter, so that an acknowledgement never
waits for another machine. An **offset** is an opaque integer that grows along a partition: ``Entry.offset`` is where an
entry is, ``Entry.next`` where reading goes on after it, and 0 the beginning of what is kept. Offsets fit in a double.
Delivery is at least once: the embedded log never repeats an entry by itself, Kafka may after a crash, so whoever folds
entries into state knows them by their ids, and commits ``next`` together with the state, by comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, Protocol

import msgspec

from upwell.errors import UpwellError

Topic = Literal["user-interactions", "recommendation-decisions", "upwell-control"]
INTERACTIONS: Topic = "user-interactions"
DECISIONS: Topic = "recommendation-decisions"
CONTROL: Topic = "upwell-control"
TOPICS: tuple[Topic, ...] = (INTERACTIONS, DECISIONS, CONTROL)
"""The first two are keyed by user id. Of control, which is compacted, the last value of each key is kept."""

Record = tuple[str, int, bytes]
"""Key, time (Unix ms) and value of what is appended."""
Offsets = Callable[[list[str]], dict[str, int]]
"""The offset to go on at, of each partition asked for; one it leaves out begins at 0."""

RECORD_BYTES = 1_000_000
"""Most bytes of topic, key and value together: what a Kafka broker takes by default, less its own overhead."""


class LogDown(UpwellError):
    """The log cannot be written or read at present: its disk failed, or the broker refuses."""


class Taken(LogDown):
    """Another process has the journal."""


class Full(LogDown):
    """The journal holds as much as it may, or the disk is full. It empties as entries are saved and forwarded."""


class Corrupt(LogDown):
    """A journal is damaged in its middle. Names the file and the byte."""


class OffsetLost(LogDown):
    """The offset asked for is not in the log (any more): entries were dropped unread, or the topic was made anew."""

    def __init__(self, partition: str, offset: int, first: int, end: int) -> None:
        super().__init__(f"partition {partition}: offset {offset} is not kept (it has {first} to {end}): seek to go on")
        self.partition, self.offset, self.first, self.end = partition, offset, first, end


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A record in the log."""

    partition: str
    offset: int
    next: int
    topic: str
    key: str
    ts_ms: int
    value: bytes


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """How a log is. ``error`` says what is wrong, and never holds a secret."""

    writable: bool
    """``append`` and ``durable`` work."""
    delivering: bool
    """What is appended reaches the consumers: always with the embedded log, with Kafka while the broker takes it."""
    journal_bytes: int
    """On disk, of this process."""
    undelivered_bytes: int
    """Of them, not yet in Kafka."""
    error: str = ""


class Consumer(Protocol):
    """One member of a group: every partition is read by one member at a time. For one thread.

    When a partition is newly assigned, inside ``poll``, the consumer asks ``offsets`` (see ``Log.consumer``) and goes
    on there. A member that lost a partition unknowingly may fold an entry that another folds too: comparing the stored
    offset tells, and the loser should drop what it holds in memory and ``seek``.
    """

    def assigned(self) -> list[str]:
        """Partitions that are this member's now. May change with every ``poll``."""
        ...

    def seek(self, partition: str, offset: int) -> None:
        """Go on at an offset of an assigned partition; of another one, no effect."""
        ...

    def poll(self, max_entries: int, timeout_s: float) -> list[Entry]:
        """The next entries, in order within each partition; empty when none came in time.

        Returns as soon as there are any. ``Corrupt``, ``OffsetLost``, ``LogDown``: nothing was skipped; entries of
        other partitions can come with the next call.
        """
        ...

    def end_offsets(self) -> dict[str, int]:
        """Of each assigned partition: the ``next`` of its last entry. ``LogDown``."""
        ...

    def lag(self) -> dict[str, int]:
        """Of each assigned partition: what is not polled yet, in bytes (embedded) or entries (Kafka). ``LogDown``."""
        ...

    def close(self) -> None:
        """Leaves the group, so that others take over at once. Twice does no harm."""
        ...


class Log(Protocol):
    """The log as a server uses it. ``append`` and ``durable`` are for any thread or task. Opened after a fork."""

    slot: str
    """Names this process's place, on every machine; kept by a restart where it is still free."""
    partition: str
    """Of this process's own journal."""
    began: int
    """The offset of this process's first entry in it: all before is of processes that are gone."""

    def append(self, topic: str, records: Sequence[Record]) -> int:
        """Write to the operating system, at once: what is appended outlives this process, though not the machine.

        Returns the offset after the last record, in ``partition``. ``Full``: some of the first records may be in the
        log. ``LogDown``. BadRequest: a record is too large; nothing was written.
        """
        ...

    async def durable(self, position: int) -> None:
        """Wait until all before ``position`` outlives the machine too. ``LogDown``: it may not."""
        ...

    def recover(self, offsets: dict[str, int], limit: int) -> Iterator[list[Entry]]:
        """Entries of this machine's journals beyond ``offsets``, ``limit`` at a time: of its own and of dead processes.

        For a process that folds what it appends by itself, and so needs no consumer.
        """
        ...

    def consumer(self, group: str, offsets: Offsets, topics: Sequence[str] = TOPICS) -> Consumer:
        """A member of a group that reads these topics, appended by whichever process."""
        ...

    def trim(self, partition: str, offset: int) -> None:
        """What is before ``offset`` is saved elsewhere and may go. Drops whole files, so some of it stays a while."""
        ...

    def erase(self, user_id: str) -> int:
        """Overwrite what this machine's journals hold under a key; returns how many entries."""
        ...

    def healthy(self) -> Health:
        """Never raises."""
        ...

    def close(self) -> None:
        """Syncs and lets go. Consumers are closed on their own. Twice does no harm."""
        ...
