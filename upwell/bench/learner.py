"""Latency of decisions with and without the learner beside the server, in one run: it is stopped and goes on by turns.

The platform's time runs fast (a request header tells it), so that hours end, and the learner has updates to do: while
it runs it reads the log as fast as it can and learns without a pause, which is the most that it ever does.
"""

from __future__ import annotations

import gc
import itertools
import os
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from upwell.bench import fleet, serve, traffic
from upwell.bench.load import Answered, Callers, arrivals, drive, percentile_ms
from upwell.errors import UpwellError
from upwell.online import kept
from upwell.service.app import NOW
from upwell.service.learned import WINDOW_MS
from upwell.state import open_store

ROUNDS = 5
USERS = 500
"""So few that each comes again and again, and hours of theirs end all the time."""
VISITS = 4
STEPS = 2 + 2 * ROUNDS
GIVEN: dict[str, Any] = {
    # No tick while the load runs: with time this fast there would be one with every few requests.
    "clock": "request", "tick_s": 1e9, "learn": True, "dial_noise": 0.1, "learn_steps": 128,
}  # fmt: skip
PATIENCE_S = 120.0


def run(
    candidates: int, connections: int, seconds: float, seed: int, folder: Path, step: Callable[[], None]
) -> dict[str, Any]:
    """The figures of one run in an empty folder. ``seconds``: of each load (with the learner, without it)."""
    asked = traffic.requests(range(USERS), serve.CONTENTS, candidates, seed)
    with serve.alone("sqlite", "embedded", folder, seed, 0.0, **GIVEN) as made:
        theirs, _ = fleet.cores()
        others = os.sched_getaffinity(0) if theirs is None else set(range(os.cpu_count() or 1)) - theirs
        learner = fleet.Process(["upwell.online.child", "learner"], made.settings, folder / "learner.log", others)
        try:
            found = drive(lambda: measure(made, learner, asked, connections, seconds, seed, step))
            return found | {"updates": updates(made)}
        finally:
            learner.signal(signal.SIGCONT)
            learner.stop()


def moving(asked: list[bytes]) -> Iterator[bytes]:
    """Requests without end, each a little later: six hours for all of them once."""
    began_ms = time.time_ns() // 1_000_000
    for n, request in enumerate(itertools.cycle(asked)):
        now_ms = began_ms + n * WINDOW_MS // len(asked)
        yield request.replace(b"\r\n\r\n", f"\r\n{NOW}: {now_ms}\r\n\r\n".encode(), 1)


async def measure(
    made: fleet.Fleet, learner: fleet.Process, asked: list[bytes], connections: int, seconds: float, seed: int,
    step: Callable[[], None],
) -> dict[str, Any]:  # fmt: skip
    """Half of what the server can do without the learner, in alternating rounds."""
    requests, callers = moving(asked), await Callers.to(made.ports[0], connections)
    gc.collect()
    gc.disable()  # a pause of the callers would look like one of the server
    try:
        await callers.closed(itertools.islice(requests, VISITS * USERS))  # hours that end, for it to learn of
        step()
        learner.signal(signal.SIGSTOP)
        full = await callers.closed(requests, seconds / ROUNDS)
        step()
        rate = full.count / full.seconds / 2.0
        legs: dict[str, list[Answered]] = {"without": [], "with": []}
        busy_s = 0.0
        for n in range(ROUNDS):
            for name, ran in legs.items():
                learner.signal(signal.SIGCONT if name == "with" else signal.SIGSTOP)
                before_s = learner.cpu_s()
                ran.append(await callers.opened(requests, arrivals(rate, seconds / ROUNDS, seed + n)))
                busy_s += learner.cpu_s() - before_s if name == "with" else 0.0
                step()
    finally:
        gc.enable()
        callers.close()
    if any(ran.failed for leg in legs.values() for ran in leg):
        raise UpwellError("requests were refused: the server's log says why")
    p99 = {name: [percentile_ms(ran.latencies_s, 0.99) for ran in leg] for name, leg in legs.items()}
    p50 = {name: [percentile_ms(ran.latencies_s, 0.5) for ran in leg] for name, leg in legs.items()}
    return {
        "half_load_per_second": rate,
        "p50_ms_without": statistics.median(p50["without"]),
        "p50_ms_with": statistics.median(p50["with"]),
        "p99_ms_without": statistics.median(p99["without"]),
        "p99_ms_with": statistics.median(p99["with"]),
        "p99_ratio": statistics.median(a / b for a, b in zip(p99["with"], p99["without"], strict=True)),
        "p99_rounds": [p99["without"], p99["with"]],
        "learner_cpu_share": busy_s / sum(ran.seconds for ran in legs["with"]),
    }


def updates(made: fleet.Fleet) -> int:
    """How often the learner has updated the policy, as the store has it. Raises UpwellError where it has not."""
    store, until_s = open_store(made.settings.store_url), time.monotonic() + PATIENCE_S
    try:
        while time.monotonic() < until_s:
            (body,) = store.get("meta", [kept.ID])
            if body is not None and (found := kept.progress_of(body).updates):
                return found
            time.sleep(0.2)
    finally:
        store.close()
    raise UpwellError("the learner has learned nothing: its log says why")
