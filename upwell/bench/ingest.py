"""Durable interactions a second, and whether each of them is counted once in the end."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from upwell.bench import fleet, traffic
from upwell.bench.load import Callers, ask, drive, http
from upwell.errors import UpwellError
from upwell.model import Answer, Interaction, Taken

CONTENTS, USERS = 2_000, 5_000
CANDIDATES = 30
CALL = 500
"""Events a call."""
CONNECTIONS = 8
DECISIONS_A_SECOND = 1_500
"""Made beforehand, for each second of the load: the events end before the time where the service is faster."""
CATCH_UP_S = 60.0
SETTINGS: dict[str, float] = {"daily_impressions": 5_000_000.0, "live_contents": float(CONTENTS), "history": 1_000}
taken_decoder = msgspec.json.Decoder(Taken)


class State(msgspec.Struct):
    """What counts of a content's state here."""

    counts: dict[str, int]


state_decoder = msgspec.json.Decoder(State)


def run(seconds: float, store: str, events: str, seed: int, folder: Path, step: Callable[[], None]) -> dict[str, Any]:
    """The figures of one run in an empty folder."""
    with fleet.prepared(store, events, folder, seed=seed, **SETTINGS) as (settings, redis):
        traffic.register(settings, CONTENTS, USERS, seed)
        with fleet.running(settings, redis, folder) as made:
            return drive(lambda: measure(made, seconds, seed, step))


async def answered(port: int, count: int, seed: int, first_user: int = 0) -> list[tuple[int, Answer]]:
    """Decisions for many users, each with whose it is."""
    users = np.random.default_rng(seed).integers(first_user, USERS, size=count).tolist()
    bodies = await ask(port, traffic.requests(users, CONTENTS, CANDIDATES, seed))
    return [(user, traffic.answer_decoder.decode(body)) for user, body in zip(users, bodies, strict=True)]


def reactions(answers: Sequence[tuple[int, Answer]]) -> list[list[Interaction]]:
    """The events of each decision."""
    now = time.time_ns() // 1_000_000
    return [traffic.events(user, answer, now) for user, answer in answers]


async def decided(port: int, count: int, seed: int, first_user: int = 0) -> list[list[Interaction]]:
    """The events of decisions for many users."""
    return reactions(await answered(port, count, seed, first_user))


def calls(of_decisions: Sequence[list[Interaction]], size: int) -> list[list[Interaction]]:
    """All events, ``size`` a call."""
    flat = [event for events in of_decisions for event in events]
    return [flat[i : i + size] for i in range(0, len(flat), size)]


async def measure(made: fleet.Fleet, seconds: float, seed: int, step: Callable[[], None]) -> dict[str, Any]:
    port = made.ports[0]
    answers = await answered(port, max(round(seconds * DECISIONS_A_SECOND), 50), seed)
    batches = calls(reactions(answers), CALL)
    wires = [traffic.call(batch) for batch in batches]
    step()
    account = Account(batches)
    callers = await Callers.to(port, CONNECTIONS)
    watch = fleet.Stopwatch(*made.servers, *made.workers)
    ran = await callers.closed(iter(wires), seconds, account.seen)
    _, cpu_s, own_s = watch.read()
    callers.close()
    step()
    caught_up_s, got = await caught_up(port, account.expected)
    _, folded_cpu_s, _ = watch.read()
    step()
    lost, doubled = difference(account.expected, got)
    return {
        "interactions_per_second": account.accepted / ran.seconds,
        "interactions_per_core_second": account.accepted / folded_cpu_s,
        "interactions_per_core_second_until_acknowledged": account.accepted / cpu_s,
        "accepted": account.accepted,
        "rejected": account.rejected,
        "decisions": len(answers),
        "degraded": sum(answer.degraded for _, answer in answers),
        "lost": lost,
        "doubled": doubled,
        "seconds": ran.seconds,
        "caught_up_s": caught_up_s,
        "cpu_s": folded_cpu_s,
        "callers_cpu_share": own_s / ran.seconds,
    }


class Account:
    """What was acknowledged."""

    def __init__(self, batches: Sequence[list[Interaction]]) -> None:
        self._batches = batches
        self.accepted = self.rejected = 0
        self.expected = Counter[str]()
        """Events acknowledged, by content."""

    def seen(self, number: int, status: int, body: bytes) -> None:
        if status != 202:
            raise UpwellError(f"interactions were answered with {status}: {body[:300].decode(errors='replace')}")
        taken, batch = taken_decoder.decode(body), self._batches[number]
        self.accepted += taken.accepted
        self.rejected += len(taken.rejected)
        no = {one.index for one in taken.rejected}
        self.expected.update(event.content_id for i, event in enumerate(batch) if i not in no)


async def counted(port: int, names: Sequence[str]) -> Counter[str]:
    """Events counted of these contents, as ``GET /v1/contents/{id}`` tells."""
    bodies = await ask(port, [http("GET", f"/v1/contents/{name}") for name in names])
    units = (traffic.units(state_decoder.decode(body).counts) for body in bodies)
    return Counter(dict(zip(names, units, strict=True)))


async def caught_up(port: int, expected: Counter[str]) -> tuple[float, Counter[str]]:
    """Seconds until the counts are what was acknowledged, and the counts; gives up after a while of no change."""
    began, names = time.monotonic(), sorted(expected)
    got, same_since = await counted(port, names), time.monotonic()
    while got != expected and time.monotonic() - same_since < CATCH_UP_S / 6 and time.monotonic() - began < CATCH_UP_S:
        await asyncio.sleep(0.2)
        now = await counted(port, names)
        if now != got:
            got, same_since = now, time.monotonic()
    return time.monotonic() - began, got


def difference(expected: Counter[str], got: Counter[str]) -> tuple[int, int]:
    """Events acknowledged and not counted, and those counted beyond what was acknowledged."""
    return (expected - got).total(), (got - expected).total()
