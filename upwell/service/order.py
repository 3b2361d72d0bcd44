"""In what order a worker folds what comes in by several partitions: by time, as far as waiting for it pays."""

from __future__ import annotations

import time
from collections.abc import Callable

from upwell.events.port import Entry
from upwell.service import apply
from upwell.service.clock import Clock

HOLD_S = 0.05
LATE_MS, STALL_S = 500, 5.0


class Order:
    """Entries that have come in and are not to be folded yet.

    A user's decisions and interactions come in by different partitions. So an entry waits ``HOLD_S`` from its arrival
    for what may still come in from another partition, and while the worker is behind, all beyond the partition that is
    furthest behind waits for that one. What comes in later than that costs a second fold, and changes nothing else
    (``trail``).
    """

    def __init__(self, clock: Clock, now_s: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._now_s = clock, now_s
        self.waiting: list[Entry] = []
        self._arrived: list[tuple[float, int]] = []  # until when an entry waits for others, and its time
        self._moving_until_s = now_s() + STALL_S
        self._limit_ms = 0  # entries up to this time have waited long enough

    def forget(self) -> None:
        """All will be read anew."""
        self.waiting, self._arrived = [], []

    def take(self, new: list[Entry], lag: Callable[[], dict[str, int]]) -> list[Entry]:
        """The entries to fold now, by time. ``lag``: entries that each partition still has to bring; takes a while."""
        now_s, late_ms = self._now_s(), self._clock() - LATE_MS
        self._arrived += [(now_s + HOLD_S, entry.ts_ms) for entry in new]
        due = [ts_ms for due_s, ts_ms in self._arrived if due_s <= now_s]
        self._arrived = [one for one in self._arrived if one[0] > now_s]
        self._limit_ms = max(self._limit_ms, *due) if due else self._limit_ms
        limit_ms = self._limit_ms
        pending = apply.merged([*self.waiting, *new])
        # Asked for only when it matters; and not for ever, should a partition bring nothing.
        if pending and pending[0].ts_ms < late_ms and now_s < self._moving_until_s:
            last = {entry.partition: entry.ts_ms for entry in pending}
            behind = [last.get(partition, 0) for partition, count in lag().items() if count > 0]
            limit_ms = min([limit_ms, *behind])
        now, waiting, held = list[Entry](), list[Entry](), set[str]()
        for entry in pending:
            if entry.ts_ms > limit_ms or entry.partition in held:
                held.add(entry.partition)
                waiting.append(entry)
            else:
                now.append(entry)
        self.waiting = waiting
        if now or not waiting:
            self._moving_until_s = now_s + STALL_S
        return now
