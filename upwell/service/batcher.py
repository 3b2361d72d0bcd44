"""Requests that arrive together are decided together: one pass over the regulator's arrays, one write to the log."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import NamedTuple

from upwell.events.port import DECISIONS, Log, LogDown
from upwell.model import Answer, Request
from upwell.service import recommend, wire
from upwell.service.live import Live, ranked
from upwell.service.recommend import Asked
from upwell.service.records import key_of
from upwell.service.settings import Settings
from upwell.service.tables import NOBODY

log = logging.getLogger(__name__)

MOST = 64
"""Requests decided in one pass: enough to spread the cost of an array operation, few enough to keep the wait short."""


class Waiting(NamedTuple):
    asked: Asked
    decision_id: str
    since_s: float
    now_ms: int
    answer: asyncio.Future[Answer]


class Batcher:
    """Collects what the event loop has read, and decides it before the loop waits for more."""

    def __init__(self, settings: Settings, live: Live, events: Log, logged: Callable[[int], None]) -> None:
        self._settings, self._live, self._events, self._logged = settings, live, events, logged
        self._queue: list[Waiting] = []
        self._due = False
        self.compute_s, self.decided = 0.0, 0

    async def answer(self, request: Request, now_ms: int) -> Answer:
        """The slate for a request whose user is in memory. Raises ValueError when a score is not a number."""
        began = time.perf_counter()
        live = self._live
        decision_id = live.next_id(now_ms)
        row = live.users.rows.at.get(request.user_id, NOBODY)
        asked = recommend.prepare(live.contents, request, key_of(decision_id), row)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        self._queue.append(Waiting(asked, decision_id, began, now_ms, future))
        self.compute_s += time.perf_counter() - began
        if not self._due:
            self._due = True
            loop.call_soon(self._decide_all)
        return await future

    def _decide_all(self) -> None:
        self._due = False
        waiting, self._queue = self._queue, []
        began = time.perf_counter()
        while waiting:
            waiting = self._decide_some(waiting)
        self.compute_s += time.perf_counter() - began

    def _decide_some(self, waiting: list[Waiting]) -> list[Waiting]:
        """Decide what can be decided together: one size, no user twice. Returns the rest.

        All at the time of the last of them: milliseconds tell requests that came together apart, and nothing else.
        """
        first = waiting[0]
        late = time.perf_counter() - first.since_s > self._settings.deadline_ms / 1_000
        group: list[Waiting] = []
        rest: list[Waiting] = []
        users: set[str] = set()
        for one in waiting:
            alike = one.asked.request.size == first.asked.request.size
            user = one.asked.request.user_id
            if alike and len(group) < MOST and user not in users:
                group.append(one)
                users.add(user)
            else:
                rest.append(one)
        asked, ids = [one.asked for one in group], [one.decision_id for one in group]
        try:
            now_ms = max(one.now_ms for one in group)
            lines = self._live.recommend(asked, ids, now_ms, "deadline" if late else None)
            decided, self._live.outbox = self._live.outbox, []
            self._logged(self._events.append(DECISIONS, decided))
            for one, line in zip(group, lines, strict=True):
                if not one.answer.done():  # else the caller has gone
                    one.answer.set_result(wire.answer_of(line))
        except Exception:
            # The log is full or its disk is gone: the ranker's order is an answer still.
            log.exception("a batch of %d could not be decided and logged", len(group))
            self._live.failures["log"] += 1
            for one in group:
                if not one.answer.done():
                    one.answer.set_result(self.unlogged(one.asked.request, one.now_ms, "not_logged"))
        self.decided += len(group)
        return rest

    def unread(self, request: Request, now_ms: int) -> Answer:
        """The ranker's order for a user whom the store did not tell of in time. It is logged, for another process folds
        the log; here nothing is known of the user still."""
        id = self._live.next_id(now_ms)
        try:
            line = self._live.unread(
                recommend.prepare(self._live.contents, request, 0, NOBODY), id, now_ms, "slow_store"
            )
            decided, self._live.outbox = self._live.outbox, []
            self._logged(self._events.append(DECISIONS, decided))
        except LogDown:
            self._live.failures["log"] += 1
            return self.unlogged(request, now_ms, "not_logged")
        self.decided += 1
        return wire.answer_of(line)

    def unlogged(self, request: Request, now_ms: int, why: str) -> Answer:
        """The last step of the ladder: the ranker's order, remembered nowhere."""
        asked = recommend.prepare(self._live.contents, request, 0, NOBODY)
        items = wire.items_of(ranked(asked, request.size))
        return Answer(self._live.next_id(now_ms), items, "raw", "ranker", "0", True, why)
