"""Half of what a server can do, for a long time: whether its memory grows, and whether anything fails."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from upwell.bench import fleet, traffic
from upwell.bench.load import Answered, Callers, arrivals, drive, http, percentile_ms
from upwell.bench.serve import CONTENTS, USERS, alone

CANDIDATES = 200
MEASURE_S, SAMPLE_S = 5.0, 1.0
SLATES = 20_000
"""At hand, so that the table of them is full within minutes: what grows after that grows without end."""
WARM = 0.5
"""Share of the run after which memory must be flat."""
STEPS = 20
"""Of the progress bar, and of the curve."""
MIB = 2.0**20


class Feed:
    """Requests for slates, and after each answer the interactions with it. ``asked``: by user, one after the other."""

    def __init__(self, asked: list[bytes]) -> None:
        self._asked, self._told = itertools.cycle(enumerate(asked)), deque[bytes]()
        self._who: dict[int, int] = {}  # whose slate a request under way is for, by its number
        self.slates = self.events = self.rejected = 0

    def __iter__(self) -> Iterator[bytes]:
        for number in itertools.count():
            if self._told:
                yield self._told.popleft()
            else:
                user, request = next(self._asked)
                self._who[number] = user
                yield request

    def seen(self, number: int, status: int, body: bytes) -> None:
        """Take an answer."""
        user = self._who.pop(number, None)
        if status >= 400:
            return
        if user is None:
            self.rejected += len(msgspec.json.decode(body)["rejected"])
            return
        told = traffic.events(user, traffic.answer_decoder.decode(body), time.time_ns() // 1_000_000)
        self._told.append(http("POST", "/v1/interactions", msgspec.json.encode({"events": told})))
        self.slates, self.events = self.slates + 1, self.events + len(told)


def run(
    minutes: float, connections: int, store: str, events: str, seed: int, folder: Path, step: Callable[[], None]
) -> dict[str, Any]:
    """The figures of one run in an empty folder."""
    asked = traffic.requests(range(USERS), CONTENTS, CANDIDATES, seed)
    with alone(store, events, folder, seed, slates_in_memory=SLATES) as made:
        return drive(lambda: measure(made, asked, minutes * 60, connections, seed, step))


async def measure(
    made: fleet.Fleet, asked: list[bytes], seconds: float, connections: int, seed: int, step: Callable[[], None]
) -> dict[str, Any]:
    """What the server can do in a closed loop, then half of it, with its memory looked at once a second."""
    server = made.servers[0]
    callers = await Callers.to(made.ports[0], connections)
    try:
        feed = Feed(asked)
        full = await callers.closed(iter(feed), min(MEASURE_S, seconds), feed.seen)
        feed = Feed(asked)
        memory: list[tuple[float, float]] = []
        looking = asyncio.create_task(look(server, seconds, memory, step))
        half = await callers.opened(feed, arrivals(full.count / full.seconds / 2, seconds, seed), feed.seen)
        looking.cancel()
    finally:
        callers.close()
    return figures(half, feed, memory, seconds)


async def look(
    server: fleet.Process, seconds: float, memory: list[tuple[float, float]], step: Callable[[], None]
) -> None:
    """Note the server's memory once a second, until cancelled."""
    began, steps = time.monotonic(), 0
    while True:
        at_s = time.monotonic() - began
        memory.append((at_s, server.resident_bytes() / MIB))
        while steps < STEPS and at_s >= (steps + 1) * seconds / STEPS:
            steps += 1
            step()
        await asyncio.sleep(SAMPLE_S)


def figures(half: Answered, feed: Feed, memory: list[tuple[float, float]], seconds: float) -> dict[str, Any]:
    """Slope by least squares over the part of the run that is warm."""
    at_s, mib = np.asarray(memory).T
    warm = at_s >= WARM * seconds
    slope, _ = np.polyfit(at_s[warm], mib[warm], 1) if warm.sum() > 2 else (float("nan"), 0.0)
    return {
        "seconds": half.seconds,
        "requests": half.count,
        "requests_per_second": half.count / half.seconds,
        "slates": feed.slates,
        "events": feed.events,
        "failed": half.failed,
        "rejected_events": feed.rejected,
        "p50_ms": percentile_ms(half.latencies_s, 0.5),
        "p99_ms": percentile_ms(half.latencies_s, 0.99),
        "memory_first_mib": float(mib[0]),
        "memory_middle_mib": float(mib[warm][0]) if warm.any() else float("nan"),
        "memory_last_mib": float(mib[-1]),
        "memory_slope_mib_per_min": float(slope) * 60.0,
        "memory_curve_s_mib": [
            [round(float(t), 1), round(float(m), 1)] for t, m in memory[:: max(len(memory) // STEPS, 1)]
        ],
    }
