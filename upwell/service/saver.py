"""The store kept behind the log: what is new goes to it in batches, each with the offsets that it is the state of."""

from __future__ import annotations

import asyncio
import time

from upwell.events.port import Log
from upwell.service.live import Live
from upwell.state.batch import Batch
from upwell.state.errors import Conflict
from upwell.state.port import Store


class Saver:
    """Saves what ``live`` folded; where another folds for the store, drops it."""

    def __init__(self, store: Store, events: Log, live: Live) -> None:
        self._store, self._events, self._live = store, events, live
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
                self._events.trim(partition, position)
