"""The erasure of a user: from memory, store and journals, while nothing new of them comes in."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import MutableMapping

from upwell.events.port import CONTROL, Log, LogDown
from upwell.model import Answer
from upwell.service import wire
from upwell.service.clock import Clock
from upwell.service.errors import Refused, store_down
from upwell.service.keys import digest_of, request_key
from upwell.service.live import Live
from upwell.service.recall import Recall
from upwell.service.saver import Saver
from upwell.state.errors import StoreDown
from upwell.state.port import Store

ERASED_S = 10.0
"""So long an erasure waits for the worker."""
ERASING = "the user is being erased"


class Erasure:
    """One user at a time; ``user`` names them."""

    def __init__(
        self, store: Store, events: Log, live: Live, recall: Recall, saver: Saver, clock: Clock, shared: bool,
        answers: MutableMapping[str, asyncio.Future[Answer]],
    ) -> None:  # fmt: skip
        """``answers``: those kept for requests that are sent again."""
        self._store, self._events, self._live, self._recall = store, events, live, recall
        self._saver, self._clock, self._shared, self._answers = saver, clock, shared, answers
        self._one = asyncio.Lock()
        self.user: str | None = None

    async def erase(self, user_id: str) -> int:
        """Remove all that is stored of a user; returns how many records of the store. Raises Refused.

        From its beginning to its end what comes in of them is refused, and a slate for them is logged nowhere. So all
        there is was there before, and who comes back later is new. Entries of the journal are overwritten; Kafka drops
        its own when their retention ends (docs/events.md).
        """
        async with self._one:
            self.user = user_id
            try:
                await asyncio.sleep(0)  # requests that the batcher has already are decided
                await self._saver.saved()
                await self._saver.saved()  # a batch that failed before goes alone; what came since goes now
                erased = await asyncio.to_thread(self._store.erase, user_id)
                try:
                    if self._shared:
                        await self._in_order(user_id)
                    await asyncio.to_thread(self._events.erase, user_id)
                finally:
                    await self._recall.quiet()  # what was read of them before is in memory by then
                    self._live.erase(user_id, self._clock())
                    for key in [k for k in self._answers if k.startswith(request_key(user_id, ""))]:
                        del self._answers[key]
                self._tell_learner(user_id)
                await asyncio.to_thread(self._store.scrub)
            except StoreDown:
                raise store_down() from None
            finally:
                self.user = None
        return erased

    def _tell_learner(self, user_id: str) -> None:
        """Let a learner forget them too; under a name that only who knows the user can tell. Raises Refused."""
        name = digest_of(user_id)
        try:
            self._events.append(CONTROL, [(name, self._clock(), wire.encoder.encode(wire.Erased(wire.SCHEMA, name)))])
        except LogDown:
            raise Refused(429, "log_down", "the log cannot be written: erase them again", retry_after_s=1) from None

    async def _in_order(self, user_id: str) -> None:
        """Let the worker erase a user where the log has come to now, and wait until it did.

        Until then it may bring back what it folds, and the journal must keep what it has not read. Raises Refused.
        """
        done = f"erased {secrets.token_hex(8)}"
        line = wire.Event(wire.SCHEMA, self._clock(), erase=user_id, erased=done)
        await self._saver.tell([(user_id, line.received_ms, wire.encoder.encode(line))], lambda: None)
        until_s = time.monotonic() + ERASED_S
        while (await asyncio.to_thread(self._store.get, "meta", [done]))[0] is None:
            if time.monotonic() > until_s:
                raise Refused(429, "erasing", "the worker is behind: erase them again", retry_after_s=1)
            await asyncio.sleep(0.02)
