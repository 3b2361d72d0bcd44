"""How one of several servers keeps up: it hears what changed in the store, and reports what it showed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable

import msgspec

from upwell.events.port import Log
from upwell.service import allowances, apply, records, told, wire
from upwell.service.clock import Clock
from upwell.service.live import Live
from upwell.service.memory import HOUR_MS
from upwell.service.regulator import place_users
from upwell.service.settings import Settings
from upwell.state.batch import Batch
from upwell.state.errors import StoreDown
from upwell.state.port import EVERYTHING, Store, Watcher

log = logging.getLogger(__name__)

WAIT_S = 0.05
CONTENTS_S = 1.0
START_S = 60.0
"""How long a server that starts waits for its store."""


class Follower:
    """Brings what others changed into ``live``. Reads run on a thread; what they brought is taken on the event loop."""

    def __init__(self, settings: Settings, store: Store, live: Live, clock: Clock, events: Log) -> None:
        self.settings, self.store, self.live, self.clock, self.events = settings, store, live, clock, events
        self._watcher: Watcher | None = None
        self._number = 0
        self._changed = set[str]()  # contents to be read anew
        self._next_contents_s = 0.0
        self._reported_ms = clock()

    def load(self) -> None:
        """All contents, and what the last tick told. Users come with their first request. Before requests do.

        A store that is away for a moment is waited for. Raises StoreDown when it stays away.
        """
        began = time.monotonic()
        while True:
            try:
                self._watcher = self.store.watch(["user", "content", "meta"])
                self._take_all(*self._read_all())
                return
            except StoreDown as error:
                self.close()  # a watcher that was there already
                if time.monotonic() - began > START_S:
                    raise
                log.warning("not started yet: %s; trying again", error)
                time.sleep(0.5)

    def _read_all(self) -> tuple[list[tuple[str, bytes]], dict[str, dict[str, int]], list[bytes | None]]:
        return *apply.read_contents(self.store), self._meta()

    def _take_all(
        self, bodies: list[tuple[str, bytes]], counted: dict[str, dict[str, int]], meta: list[bytes | None]
    ) -> None:
        apply.take_contents(self.live, bodies, counted)
        self._take_meta(meta)

    def _meta(self) -> list[bytes | None]:
        return self.store.get("meta", ["switch", told.ID])

    def _take_meta(self, meta: list[bytes | None]) -> None:
        switch, tick = meta
        self.live.obey(switch)
        if tick is not None:
            heard = told.decoder.decode(tick)
            told.take(self.live, heard, self.clock())
            self._number = heard.number

    async def follow(self) -> None:
        """Wait a moment for changes, and take them."""
        assert self._watcher is not None
        changes = await asyncio.to_thread(self._watcher.poll, WAIT_S)
        if changes is EVERYTHING:
            self._take_all(*await asyncio.to_thread(self._read_all))
            for name in await self._users(list(self.live.users.rows.at)):
                self.live.users.forget(name)
            return
        if not changes and not self._changed:
            return
        ids: dict[str, list[str]] = {}
        for kind, name in changes:
            ids.setdefault(kind, []).append(name)
        # A user's record goes when they are erased, and only then.
        for name in await self._users(name for name in ids.get("user", ()) if name in self.live.users.rows.at):
            self.live.erase(name, self.clock())
        self._changed.update(ids.get("content", ()))
        new = not self._changed <= self.live.contents.rows.at.keys()
        if new or (self._changed and time.monotonic() >= self._next_contents_s):
            await self._reload()
        if {"switch", told.ID} & set(ids.get("meta", ())):
            self._take_meta(await asyncio.to_thread(self._meta))

    async def _reload(self) -> None:
        """Contents that changed. Counts move with every slate and matter by the tick: once a second is enough for
        contents that are known."""
        self._next_contents_s = time.monotonic() + CONTENTS_S
        names, self._changed = sorted(self._changed), set()
        bodies, counts = await asyncio.to_thread(self._contents, names)
        for name, body, counted in zip(names, bodies, counts, strict=True):
            if body is None:
                self.live.contents.forget(name)
            else:
                self.live.add_content(wire.content_decoder.decode(body), counted)

    def _contents(self, names: list[str]) -> tuple[list[bytes | None], list[dict[str, int]]]:
        return self.store.get("content", names), self.store.counters("content", names)

    async def _users(self, names: Iterable[str]) -> list[str]:
        """Take users as the store has them now; returns those that it does not have."""
        wanted = list(names)
        if not wanted:
            return []
        bodies = await asyncio.to_thread(self.store.get, "user", wanted)
        for name, body in zip(wanted, bodies, strict=True):
            if body is not None and name in self.live.users.rows.at:
                self.live.users.put(name, records.read_user(body))
        if self.live.centres is not None:
            place_users(self.live, self.live.centres, wanted)
        return [name for name, body in zip(wanted, bodies, strict=True) if body is None]

    async def report(self) -> None:
        """Tell the worker what this server showed of grants, and which tick it goes by."""
        live = self.live
        events = self.events
        shown = {purse: dict(each) for purse, each in live.shown_of.items()}
        report = allowances.Report(
            self._number, shown.pop(""), live.shown, self.clock(), events.partition, events.began, shown
        )
        batch = Batch()
        batch.put("member", live.server, msgspec.msgpack.encode(report))
        batch.ttl_s["member"] = 86_400.0
        try:
            await asyncio.to_thread(self.store.write, batch)
        except StoreDown:
            # Whoever is not heard of for ``late_h`` is taken for dead, and what it had left is given to others.
            if report.at_ms - self._reported_ms > self.settings.late_h * HOUR_MS / 2:
                live.contents.keep_back()
            raise
        self._reported_ms = report.at_ms

    def close(self) -> None:
        if self._watcher is not None:
            self._watcher.close()
            self._watcher = None
