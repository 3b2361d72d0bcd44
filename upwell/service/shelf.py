"""Contents registered, taken down, and past their life: with their accounts, whose rest goes back to the pool."""

from __future__ import annotations

import asyncio

import msgspec
import numpy as np

from upwell.model import Content
from upwell.service import ticker
from upwell.service.clock import Clock
from upwell.service.errors import Refused, store_down
from upwell.service.live import Live
from upwell.service.regulator import Regulator
from upwell.service.saver import Saver
from upwell.service.settings import Settings
from upwell.state.batch import Batch
from upwell.state.errors import StoreDown
from upwell.state.port import Store

DAY_MS = 86_400_000


class Shelf:
    """The contents of one server. ``ticking`` is held while one is taken down: a tick would write to its account."""

    def __init__(
        self, settings: Settings, store: Store, live: Live, regulator: Regulator, saver: Saver, clock: Clock,
        shared: bool, ticking: asyncio.Lock,
    ) -> None:  # fmt: skip
        self._settings, self._store, self._live, self._regulator = settings, store, live, regulator
        self._saver, self._clock, self._shared, self._ticking = saver, clock, shared, ticking

    async def put(self, content: Content) -> None:
        """Register or change a content. Raises Refused 409 when it would change when it was published."""
        row = self._live.contents.rows.at.get(content.id)
        if row is not None and self._live.contents.published_ms[row] != content.published_at:
            raise Refused(409, "immutable", "published_at cannot change once it is set", "published_at")
        batch = Batch()
        batch.put("content", content.id, msgspec.json.encode(content))
        await self._saver.write(batch)
        self._live.add_content(content, None if row is not None else {})

    async def take_down(self, content_id: str) -> None:
        """A content that is not to be shown any more: its grant goes back to the pool. Raises Refused 404."""
        row = self._live.contents.rows.at.get(content_id)
        if row is None:
            raise Refused(404, "not_found", f"no content '{content_id}'", "id")
        async with self._ticking:
            await self._saver.saved()
            try:
                await self._forget([row])
            except StoreDown:
                raise store_down() from None

    async def bury(self) -> None:
        """Take down contents past their life: their grants are released, their records removed."""
        contents, now = self._live.contents, self._clock()
        rows = contents.all_rows
        dead = rows[now - contents.published_ms[rows] > self._settings.life_days * DAY_MS]
        if not len(dead):
            return
        async with self._ticking:
            await self._saver.flush()
            await self._forget(dead.tolist())

    async def _forget(self, rows: list[int]) -> None:
        """Contents and their accounts removed; what they had left goes back to the pool. Raises StoreDown."""
        contents, every, batch = self._live.contents, self._regulator.every, Batch()
        names = [contents.rows.names[row] for row in rows]
        batch.delete("content", *names)
        for purse in ("", *contents.purses):
            contents.left_in(purse)[rows] = 0  # nothing of them is shown while this is written
        left: dict[str, int] = {}
        if not self._shared:
            for purse, books in every.items():
                books.fit(max(rows) + 1)
                left[purse] = int(np.maximum(books.outstanding(contents, np.asarray(rows)), 0).sum())
                ticker.count_day(batch, purse, self._clock() // DAY_MS, released=left[purse])
            batch.delete("grant", *names)
        await asyncio.to_thread(self._store.write, batch)
        for purse, back in left.items():
            every[purse].released_today += back
            every[purse].close(rows)
        for name in names:
            contents.forget(name)
