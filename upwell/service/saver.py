"""The store kept behind the log: what is new goes to it in batches, each with the offsets that it is the state of."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from upwell.events.port import INTERACTIONS, Log, LogDown
from upwell.service.errors import Refused, store_down
from upwell.service.live import Live
from upwell.state.batch import Batch
from upwell.state.errors import Conflict, StoreDown
from upwell.state.port import Store

LEARNER = "learner/"
"""Before a partition's name: the offset that the learner has read it to."""
WAITED_FOR_BYTES = 1 << 30


def trim(events: Log, partition: str, offset: int, read: dict[str, int] | None) -> None:
    """Let go of what is saved. ``read``: offsets of the store, where a learner reads the log too.

    It is waited for while the journal has room: what serves comes before what learns.
    """
    if read is not None and events.healthy().journal_bytes < WAITED_FOR_BYTES:
        offset = min(offset, read.get(LEARNER + partition, 0))
    events.trim(partition, offset)


class Saver:
    """Saves what ``live`` folded; where another folds for the store, drops it."""

    def __init__(self, store: Store, events: Log, live: Live, learned_from: bool = False) -> None:
        """``learned_from``: what is logged, by a process that must have read it before it may go."""
        self._store, self._events, self._live = store, events, live
        self.read: dict[str, int] | None = {} if learned_from else None  # the store's offsets, as of lately
        self._pending: Batch | None = None
        self._saving = asyncio.Lock()
        self._stale_since_s: float | None = None

    def logged(self, position: int) -> None:
        """All before ``position`` of this server's journal is folded."""
        self._live.offsets[self._events.partition] = position
        if self._stale_since_s is None:
            self._stale_since_s = time.monotonic()

    def unsaved_s(self) -> float:
        """How long something has been waiting to be saved, seconds."""
        return 0.0 if self._stale_since_s is None else time.monotonic() - self._stale_since_s

    async def tell(self, lines: Sequence[tuple[str, int, bytes]], fold: Callable[[], object]) -> None:
        """Log lines of ``user-interactions`` and ``fold`` them; returns once they are durable. Raises Refused 429 while
        the log cannot take them."""
        try:
            position = self._events.append(INTERACTIONS, lines)
            fold()
            self.logged(position)
            await self._events.durable(position)
        except LogDown as error:
            self._live.failures["log"] += 1
            raise Refused(429, "log_down", str(error), retry_after_s=1) from None

    async def write(self, batch: Batch) -> None:
        """Write what does not hang on the log. Raises Refused 429 while the store is down."""
        try:
            await asyncio.to_thread(self._store.write, batch)
        except StoreDown:
            raise store_down() from None

    async def saved(self) -> None:
        """``flush``, for a caller. Raises Refused 429 while the store or the log is down."""
        try:
            await self.flush()
        except (StoreDown, LogDown):
            raise store_down() from None

    async def flush(self) -> None:
        """Write all that is new. A write that failed is repeated as it was. Raises the store's and the log's errors."""
        if not self._live.saves:
            self._live.discard()
            self._stale_since_s = None
            return
        async with self._saving:
            if self._pending is None:
                since, self._stale_since_s = self._stale_since_s, None
                self._pending = self._live.unsaved()
                if self._pending is None:
                    return
                self._stale_since_s = since
            batch = self._pending
            # Never ahead of the log: after a power cut state without its entries could not be told from wrong state.
            for partition, (_, position) in batch.offsets.items():
                if partition == self._events.partition:
                    await self._events.durable(position)
            try:
                await asyncio.to_thread(self._store.write, batch)
            except Conflict as conflict:
                if conflict.stored != batch.offsets[conflict.partition][1]:
                    raise
            self._live.written(batch)
            self._pending = None
            self._stale_since_s = None
            for partition, (_, position) in batch.offsets.items():
                trim(self._events, partition, position, self.read)
