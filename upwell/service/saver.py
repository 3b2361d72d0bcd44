"""The store kept behind the log: what is new goes to it in batches, each with the offsets that it is the state of."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from upwell.events.port import INTERACTIONS, Log, LogDown
from upwell.service.errors import Refused, store_down
from upwell.service.live import Live
from upwell.service.settings import Settings
from upwell.state.batch import Batch
from upwell.state.errors import Conflict, StoreDown
from upwell.state.port import Store

LEARNER, JUDGE = "learner/", "judge/"
"""Before a partition's name: the offset that the learner, or the judge, has read it to."""
WAITED_FOR_BYTES = 1 << 30


def readers(settings: Settings) -> tuple[str, ...]:
    """Who reads the log beside the service: before a partition's name, of the offsets that they have read it to."""
    return (LEARNER,) * settings.learn + (JUDGE,) * settings.trust


def trim(events: Log, partition: str, offset: int, others: tuple[str, ...], stored: dict[str, int]) -> None:
    """Let go of what is saved. ``others`` read the log too, as far as ``stored``, the store's offsets, says.

    They are waited for while the journal has room: what serves comes before what learns.
    """
    if others and events.healthy().journal_bytes < WAITED_FOR_BYTES:
        offset = min(offset, *(stored.get(who + partition, 0) for who in others))
    events.trim(partition, offset)


class Saver:
    """Saves what ``live`` folded; where another folds for the store, drops it."""

    def __init__(self, store: Store, events: Log, live: Live) -> None:
        self._store, self._events, self._live = store, events, live
        self._others = readers(live.settings)
        self.stored: dict[str, int] = {}  # the store's offsets, as of lately, where others read the log too
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
                trim(self._events, partition, position, self._others, self.stored)
