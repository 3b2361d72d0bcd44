"""Reads that many ask for at once, made together: one command to the store instead of one for each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class Gathered(Generic[T]):
    """What is asked for while a read is under way is read next, all at once. For one event loop.

    Nobody's patience ends a read: who gives up leaves it to the others, and what it brings is taken all the same.
    """

    def __init__(
        self, read: Callable[[list[str]], dict[str, T]], take: Callable[[dict[str, T]], None] | None = None
    ) -> None:
        """``read`` runs on a thread; ``take`` gets what it brought on the event loop, before who asked."""
        self._read, self._take = read, take
        self._wanted = set[str]()
        self._next: asyncio.Future[dict[str, T]] | None = None
        self._now: asyncio.Future[dict[str, T]] | None = None
        self._reading: asyncio.Task[None] | None = None

    async def get(self, keys: Iterable[str]) -> dict[str, T]:
        """What the read that these keys are part of has brought. Raises its error."""
        self._wanted.update(keys)
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
            self._next.add_done_callback(retrieved)
        coming = self._next
        if self._reading is None:
            self._reading = asyncio.create_task(self._run())
        return await asyncio.shield(coming)

    async def quiet(self) -> None:
        """Wait for the read that is under way."""
        if self._now is not None:
            await asyncio.wait([self._now])

    async def _run(self) -> None:
        while (coming := self._next) is not None:
            keys, self._wanted = sorted(self._wanted), set()
            self._now, self._next = coming, None
            try:
                brought = await asyncio.to_thread(self._read, keys)
                if self._take is not None:
                    self._take(brought)
                coming.set_result(brought)
            except Exception as error:
                coming.set_exception(error)
        self._now = self._reading = None


def retrieved(read: asyncio.Future[dict[str, T]]) -> None:
    """An error that nobody waits for any more is nobody's."""
    if not read.cancelled():
        read.exception()
