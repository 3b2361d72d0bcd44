"""What only the store has, brought to memory for requests; and, while a user is erased, nothing of them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any

from upwell.model import Interaction
from upwell.service import apply, ingest, own, records, wire
from upwell.service.gathered import Gathered
from upwell.service.live import Live
from upwell.state.errors import StoreDown
from upwell.state.port import Store


class Recall:
    """Reads on a thread, and takes what came on the event loop."""

    def __init__(self, store: Store, live: Live) -> None:
        self._store, self._live = store, live
        self.everyone = False  # every stored user is in memory: who is not there is new
        self._under_way = set[asyncio.Task[None]]()
        self._people = Gathered(self._read_users, self._take_users)
        self._answers = Gathered(self._read_answers)

    def has(self, user_id: str) -> bool:
        """Whether memory tells who this is, be it that nobody knows them."""
        return self.everyone or user_id in self._live.users.rows.at

    async def users(self, ids: Iterable[str]) -> bool:
        """Bring users; False when the store cannot be asked, so that nobody is taken for new by mistake."""
        missing = [id for id in ids if not self.has(id)]
        if missing:
            try:
                await self._people.get(missing)
            except StoreDown:
                return False
        return True

    async def slates(self, events: Sequence[Interaction]) -> None:
        """Bring slates that events name, and what became of them so far. Raises StoreDown."""
        decisions = ingest.unknown_decisions(self._live, events)
        outcomes = ingest.unknown_outcomes(self._live, events)
        if decisions:
            await self._read(asyncio.to_thread(apply.load_slates, self._store, self._live, decisions))
        if outcomes:
            await self._read(asyncio.to_thread(apply.load_outcomes, self._store, self._live, outcomes))

    async def answered(self, key: str) -> wire.Logged | None:
        """The decision that a request had, as the store has it. Raises StoreDown."""
        return (await self._answers.get([key])).get(key)

    async def quiet(self) -> None:
        """Wait for what is being read now: it may be of a user who is erased meanwhile."""
        await self._people.quiet()
        if self._under_way:
            await asyncio.wait(list(self._under_way))

    async def _read(self, reading: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(reading)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        await task

    def _read_users(self, missing: list[str]) -> dict[str, tuple[bytes, bytes | None]]:
        """Records, and what moves each user more than others."""
        bodies = self._store.get("user", missing)
        factors = own.read(self._store, missing) if self._live.settings.learn else {}
        return {id: (body, factors.get(id)) for id, body in zip(missing, bodies, strict=True) if body is not None}

    def _take_users(self, brought: dict[str, tuple[bytes, bytes | None]]) -> None:
        for id, (body, factors) in brought.items():
            if id not in self._live.users.rows.at:
                self._live.users.put(id, records.read_user(body))
                own.take(self._live.users, {id: factors} if factors is not None else {})

    def _read_answers(self, keys: list[str]) -> dict[str, wire.Logged]:
        """A request and its decision are written at once, so one that is there has the other."""
        ids = {key: id.decode() for key, id in zip(keys, self._store.get("request", keys), strict=True) if id}
        if not ids:
            return {}
        bodies = dict(zip(ids, self._store.get("decision", list(ids.values())), strict=True))
        return {key: wire.logged_decoder.decode(body) for key, body in bodies.items() if body is not None}
