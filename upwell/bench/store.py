"""Redis commands an interaction costs, and how soon another server knows of it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import redis

from upwell.bench import fleet, ingest, traffic
from upwell.bench.load import Answered, Callers, ask, drive, http, percentile_ms
from upwell.errors import BadRequest
from upwell.model import Interaction

RATE = 1_000
"""Interactions a second."""
CALL = 10
"""Events a call: about what one person does with one slate."""
PROBED, PROBERS = 1_000, 2
POLL_S = 0.004
PATIENCE_S = 5.0
QUIET_S = 2.0
NOT_OURS = {"info", "ping", "hello", "client|setinfo"}
"""Of counting itself, and of connecting."""
SENT = {"evalsha", "mget", "lrange", "scan"}
"""What servers and workers send; all else runs inside their scripts."""


class Mind(msgspec.Struct):
    """What a click changes of a user, and time alone does not."""

    expected_click_rate: float


mind_decoder = msgspec.json.Decoder(Mind)


def commands(address: str) -> Counter[str]:
    """Commands that a Redis has run so far by name, those inside scripts included."""
    host, _, port = address.rpartition(":")
    with redis.Redis(host=host, port=int(port)) as client:
        found: dict[str, dict[str, int]] = client.info("commandstats")  # type: ignore[assignment]
    calls = {name.removeprefix("cmdstat_"): of["calls"] for name, of in found.items()}
    return Counter({name: n for name, n in calls.items() if name not in NOT_OURS})


def baseline(address: str, interactions: int) -> float:
    """Commands an interaction of a service that reads a user's state and writes it back for each, really run."""
    host, _, port = address.rpartition(":")
    before = commands(address)
    with redis.Redis(host=host, port=int(port)) as client:
        for n in range(interactions):
            key = f"baseline:{n % 100}"
            client.get(key)
            client.set(key, bytes(512))
    return (commands(address) - before).total() / interactions


def run(seconds: float, store: str, events: str, seed: int, folder: Path, step: Callable[[], None]) -> dict[str, Any]:
    """The figures of one run in an empty folder."""
    if store != "redis":
        raise BadRequest("--store redis: commands are counted of a Redis that this run starts and has for itself")
    with fleet.prepared(store, events, folder, seed=seed, **ingest.SETTINGS) as (settings, address):
        traffic.register(settings, ingest.CONTENTS, ingest.USERS, seed)
        with fleet.running(settings, address, folder, servers=2 if settings.shared else 1) as made:
            counted = drive(lambda: count(made, seconds, seed))
            step()
            stale = drive(lambda: probe(made, seconds, seed + 1)) if settings.shared else {}
            step()
        at_baseline = baseline(address, RATE)
        step()
    per = counted["commands_per_interaction"]
    return {
        **counted,
        "baseline_per_interaction": at_baseline,
        "reduction": 1.0 - per / at_baseline,
        "reduction_sent": 1.0 - counted["sent_per_interaction"] / at_baseline,
        **stale,
    }


async def paced(port: int, batches: list[list[Interaction]], seconds: float, account: ingest.Account) -> Answered:
    """Calls at an even rate, for some time."""
    callers = await Callers.to(port, 8)
    gap_s = seconds / len(batches)
    wires = [traffic.call(batch) for batch in batches]
    try:
        return await callers.opened(wires, (n * gap_s for n in range(len(wires))), account.seen)
    finally:
        callers.close()


async def count(made: fleet.Fleet, seconds: float, seed: int) -> dict[str, Any]:
    """Commands from the first event to the last one's fold, those of ticks and of listening included."""
    ports, interactions = made.ports, round(RATE * seconds)
    decisions = -(-interactions // traffic.EVENTS_A_DECISION)
    started = commands(made.redis)
    halves = [await ingest.decided(port, decisions // len(ports) + 1, seed + n) for n, port in enumerate(ports)]
    await asyncio.sleep(QUIET_S)
    before = commands(made.redis)
    accounts: list[ingest.Account] = []
    loads: list[asyncio.Task[Answered]] = []
    for port, half in zip(ports, halves, strict=True):
        batches = ingest.calls(half, CALL)[: interactions // CALL // len(ports)]
        accounts.append(ingest.Account(batches))
        loads.append(asyncio.create_task(paced(port, batches, seconds, accounts[-1])))
    took = [await load for load in loads]
    expected = sum((account.expected for account in accounts), Counter[str]())
    after = commands(made.redis)
    accepted = sum(account.accepted for account in accounts)
    caught_up_s, got = await ingest.caught_up(ports[0], expected)
    lost, doubled = ingest.difference(expected, got)
    spent = after - before
    return {
        "commands_per_interaction": spent.total() / accepted,
        "with_decisions_per_interaction": (after - started).total() / accepted,
        "sent_per_interaction": sum(spent[name] for name in SENT) / accepted,
        "by_command": {name: round(n / accepted, 4) for name, n in spent.most_common()},
        "interactions": accepted,
        "interactions_per_second": accepted / max(run.seconds for run in took),
        "lost": lost,
        "doubled": doubled,
        "caught_up_s": caught_up_s,
    }


async def probe(made: fleet.Fleet, seconds: float, seed: int) -> dict[str, Any]:
    """Clicks through one server, looked for on the other, under the load of before."""
    here, there = made.ports
    users = list(range(PROBED))  # theirs are the only slates since: a click on an older one changes nothing here
    made_here = await ask(here, traffic.requests(users, ingest.CONTENTS, ingest.CANDIDATES, seed))
    clicks = [
        traffic.events(user, traffic.answer_decoder.decode(body), time.time_ns() // 1_000_000)[-2]
        for user, body in zip(users, made_here, strict=True)
    ]
    decisions = round(RATE * seconds / traffic.EVENTS_A_DECISION) + 1
    background = await ingest.decided(here, decisions, seed + 1, first_user=PROBED)
    await ask(there, [http("GET", f"/v1/users/u{user}") for user in users])  # into its memory: kept up from now on
    await asyncio.sleep(QUIET_S)
    batches = ingest.calls(background, CALL)
    load = asyncio.create_task(paced(here, batches, len(batches) * CALL / RATE, ingest.Account(batches)))
    waiting, waits, unseen = iter(clicks), list[float](), Counter[str]()

    async def prober() -> None:
        for click in waiting:
            if load.done():
                return
            waited = await seen_there(here, there, click)
            if waited is None:
                unseen["unseen"] += 1
            else:
                waits.append(waited)

    await asyncio.gather(*(prober() for _ in range(PROBERS)))
    await load
    return {
        "staleness_p50_ms": percentile_ms(waits, 0.5),
        "staleness_p99_ms": percentile_ms(waits, 0.99),
        "staleness_probes": len(waits),
        "staleness_unseen": unseen["unseen"],
    }


async def seen_there(here: int, there: int, click: Interaction) -> float | None:
    """Seconds from sending a click to one server until another one's view of the user has it; None: not in time."""
    look = [http("GET", f"/v1/users/{click.user_id}")]
    before = mind_decoder.decode((await ask(there, look, 1))[0])
    sent_s = time.perf_counter()
    await ask(here, [traffic.call([click])], 1)
    while time.perf_counter() - sent_s < PATIENCE_S:
        now = mind_decoder.decode((await ask(there, look, 1))[0])
        if now.expected_click_rate != before.expected_click_rate:
            return time.perf_counter() - sent_s
        await asyncio.sleep(POLL_S)
    return None
