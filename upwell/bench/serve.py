"""Decisions a second of one server core, against a route that decides nothing on the same server in the same run."""

from __future__ import annotations

import gc
import itertools
import statistics
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from upwell.bench import figures, fleet, traffic
from upwell.bench.load import Answered, Callers, arrivals, drive, http, percentile_ms
from upwell.errors import UpwellError

CONTENTS, USERS, DISTINCT = 10_000, 5_000, 4_000
ROUNDS = 5
WARM_UP_S = 1.0
SETTLE_S = 5.0
"""For segments and first grants: two ticks."""
SETTINGS: dict[str, float] = {"daily_impressions": 50_000_000.0, "live_contents": float(CONTENTS)}
"""A platform that is as busy as the load, so that the heated places are used."""


class Leg(msgspec.Struct):
    """One kind of request over all rounds."""

    rates: list[float] = []  # by round, answers a second
    costs_s: list[float] = []  # by round, processor time of the server an answer
    count: int = 0
    cpu_s: float = 0.0  # of the server
    own_s: float = 0.0  # of the callers
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)

    def add(self, ran: Answered, wall_s: float, cpu_s: float, own_s: float) -> None:
        if ran.failed:
            raise UpwellError(f"{ran.failed} of {ran.count} requests were refused: the server's log says why")
        self.rates.append(ran.count / ran.seconds)
        self.costs_s.append(cpu_s / ran.count)
        self.count, self.seconds = self.count + ran.count, self.seconds + wall_s
        self.cpu_s, self.own_s = self.cpu_s + cpu_s, self.own_s + own_s


def run(
    candidates: int, connections: int, seconds: float, store: str, events: str, seed: int, folder: Path,
    step: Callable[[], None],
) -> dict[str, Any]:  # fmt: skip
    """The figures of one run in an empty folder. ``seconds``: of each of three loads (decisions, empty, half)."""
    asked = traffic.requests([n % USERS for n in range(DISTINCT)], CONTENTS, candidates, seed)
    with alone(store, events, folder, seed, min(SETTLE_S, seconds)) as made:
        return drive(lambda: measure(made, asked, connections, seconds, seed, step))


@contextmanager
def alone(
    store: str, events: str, folder: Path, seed: int, settle_s: float = SETTLE_S, **given: Any
) -> Generator[fleet.Fleet]:
    """A busy platform's server on one core, and this process on the other."""
    with fleet.prepared(store, events, folder, seed=seed, **SETTINGS, **given) as (settings, redis):
        traffic.register(settings, CONTENTS, USERS, seed)
        theirs, ours = fleet.cores()
        with fleet.running(settings, redis, folder, cores=theirs) as made:
            time.sleep(settle_s)
            with fleet.pinned(ours):
                yield made


async def measure(
    made: fleet.Fleet, asked: list[bytes], connections: int, seconds: float, seed: int, step: Callable[[], None]
) -> dict[str, Any]:
    """Alternating rounds of decisions and of the empty route, then half of the decisions' rate."""
    port, server = made.ports[0], made.servers[0]
    deciding, empty = itertools.cycle(asked), itertools.cycle([http("POST", "/empty", bodies(r)) for r in asked])
    callers = await Callers.to(port, connections)
    gc.collect()
    gc.disable()  # a pause of the callers would look like one of the server
    try:
        await callers.closed(deciding, min(WARM_UP_S, seconds))
        before = await figures.of(port)
        full, idle = Leg(rates=[], costs_s=[]), Leg(rates=[], costs_s=[])
        for _ in range(ROUNDS):
            for leg, requests in ((full, deciding), (idle, empty)):
                watch = fleet.Stopwatch(server)
                leg.add(await callers.closed(requests, seconds / ROUNDS), *watch.read())
                step()
        after = await figures.of(port)
        times = arrivals(full.rate / 2, seconds, seed)
        heated = Heated()
        half = await callers.opened(deciding, times, heated.seen)
        step()
    finally:
        gc.enable()
        callers.close()
    decided = after["upwell_decided"] - before["upwell_decided"]
    busy, own = full.cpu_s / full.seconds, full.own_s / full.seconds
    return {
        "decisions_per_second": full.rate,
        "decisions_per_cpu_second": full.count / full.cpu_s,
        "p50_ms": percentile_ms(half.latencies_s, 0.5),
        "p99_ms": percentile_ms(half.latencies_s, 0.99),
        "half_load_per_second": half.count / half.seconds,
        "compute_us": 1e6 * (after["upwell_compute_seconds"] - before["upwell_compute_seconds"]) / max(decided, 1),
        # By processor time: the same as by rates where the server's core is the limit, and true where it is not.
        "ratio_to_empty": statistics.median(b / a for a, b in zip(full.costs_s, idle.costs_s, strict=True)),
        "ratio_to_empty_by_rate": statistics.median(a / b for a, b in zip(full.rates, idle.rates, strict=True)),
        "cpu_us": 1e6 * full.cpu_s / full.count,
        "empty_cpu_us": 1e6 * idle.cpu_s / idle.count,
        "empty_per_second": idle.rate,
        "rounds": [full.rates, idle.rates],
        "server_cpu_share": busy,
        "callers_cpu_share": own,
        "heated_share": heated.heated / max(heated.shown, 1),
        "limited_by": limit(busy, own),
    }


class Heated:
    """Counts heated places of answers."""

    def __init__(self) -> None:
        self.shown = self.heated = 0

    def seen(self, _number: int, _status: int, body: bytes) -> None:
        self.shown += body.count(b'"heated":')
        self.heated += body.count(b'"heated":true')


def bodies(request: bytes) -> bytes:
    return request[request.index(b"\r\n\r\n") + 4 :]


def limit(server_share: float, callers_share: float) -> str:
    """What kept the rate where it was, by shares of a core."""
    if server_share > 0.9:
        return "the server's core"
    if callers_share > 0.9:
        return "the callers' core: the figure is too low"
    return "waits: for the disk, or for a core that other processes had"
