"""A process that reads the log beside the service: alone by a lease, from the offsets that its state is of.

Whatever dies when, each entry counts once: what is known is written with the offsets that it is the state of, and all
that was not written is forgotten and read again.
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import suppress

from upwell.events.port import Consumer, Entry, LogDown, OffsetLost, Offsets
from upwell.service.order import Order
from upwell.state.batch import Batch, Lease
from upwell.state.errors import Conflict, Fenced, StoreDown
from upwell.state.port import Store

log = logging.getLogger(__name__)

ENTRIES = 2_000
POLL_S, AGAIN_S = 0.2, 0.5


class Reader(ABC):
    """``step`` until told to stop. For one thread."""

    GROUP: str
    """Of the log's consumers, and the name of the lease."""
    PREFIX: str
    """Before a partition's name: the offset in the store that it is read to."""
    LEASE_S: float
    """Longer than a step takes."""

    def __init__(self, store: Store, open_log: Callable[[str, Offsets], Consumer], owner: str) -> None:
        """``open_log``: of the group and the function that tells stored offsets. ``owner``: of the lease, the same
        after a restart, so that it need not wait for its former self."""
        self.store, self.owner = store, owner
        self.lease: Lease | None = None
        self.saved, self.offsets = dict[str, int](), dict[str, int]()
        self.now_ms = 0  # the latest time in the log
        self._from_store()
        self.consumer = open_log(self.GROUP, lambda partitions: {p: self.offsets.get(p, 0) for p in partitions})
        self.order = Order(lambda: self.now_ms)

    @abstractmethod
    def load(self, stored: dict[str, int]) -> None:
        """Know what the store has, and nothing else. ``stored``: its offsets. Raises StoreDown."""

    @abstractmethod
    def step(self) -> None:
        """Take what the log has, and do what is due. Raises the store's and the log's errors."""

    def run(self, running: Callable[[], bool]) -> None:
        """Step while ``running``; a store or log that is down is asked again."""
        try:
            while running():
                try:
                    self.step()
                except OffsetLost as lost:
                    log.error("%s; going on at its beginning: nothing is known of what lay between", lost)
                    self.consumer.seek(lost.partition, lost.first)
                except (StoreDown, LogDown, Conflict, Fenced) as error:
                    # What was polled and not taken would be passed over: all is read again from where the store is.
                    log.warning("%s: reading anew", error)
                    self.lease = None
                    time.sleep(AGAIN_S)
        finally:
            self.consumer.close()
            if self.lease is not None:
                with suppress(StoreDown):
                    self.store.release(self.lease)

    def leads(self) -> bool:
        """Whether this is the one that reads; with a new lease all is as the store has it. Waits where another does."""
        if self.lease is not None and self.store.renew(self.lease, self.LEASE_S):
            return True
        self.lease = self.store.acquire(self.GROUP, self.owner, self.LEASE_S)
        if self.lease is None:
            time.sleep(1.0)
            return False
        self.order.forget()
        self._from_store()
        for partition in self.consumer.assigned():
            self.consumer.seek(partition, self.offsets.get(partition, 0))
        return True

    def entries(self) -> Iterator[Entry]:
        """What the log has, by time. An entry is read once the next one is asked for."""
        for entry in self.order.take(self.consumer.poll(ENTRIES, POLL_S), self.consumer.lag):
            self.now_ms = max(self.now_ms, entry.ts_ms)
            yield entry

    def advance(self, batch: Batch) -> None:
        """The offsets that have moved, in the write of what is known by them."""
        for partition, offset in self.offsets.items():
            before = self.saved.get(partition, 0)
            if offset != before:
                batch.advance(self.PREFIX + partition, before, offset)

    def _from_store(self) -> None:
        stored = self.store.offsets()
        self.saved = {p.removeprefix(self.PREFIX): at for p, at in stored.items() if p.startswith(self.PREFIX)}
        self.offsets = dict(self.saved)
        self.load(stored)
