"""Requests a second where TensorFlow Serving works the policy out, beside the local policy, and when it is killed."""

from __future__ import annotations

import asyncio
import gc
import itertools
import statistics
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from upwell.agents import network
from upwell.bench import figures, fleet, serve, traffic
from upwell.bench.load import Answered, Callers, arrivals, ask, drive, percentile_ms
from upwell.bench.stand_in import PredictionServer
from upwell.errors import UpwellError
from upwell.learn.export import export
from upwell.learn.signatures import of_policy

STEPS = 3 + 2 * serve.ROUNDS + 4
PATIENCE_S = 30.0
PROBE_S = 0.05


def run(
    candidates: int, connections: int, seconds: float, seed: int, folder: Path, step: Callable[[], None]
) -> dict[str, Any]:
    """The figures of one run in an empty folder. ``seconds``: of each load."""
    export(of_policy(network.shipped("marl")), folder / "models", seed, step)
    asked = traffic.requests([n % serve.USERS for n in range(serve.DISTINCT)], serve.CONTENTS, candidates, seed)
    with ExitStack() as stack:
        server = PredictionServer(folder / "models")
        stack.callback(server.kill)
        fleets: list[fleet.Fleet] = []
        for name, given in (("local", {}), ("grpc", {"policy_backend": "tfserving", "tfserving": server.address})):
            (folder / name).mkdir()
            settle_s = min(serve.SETTLE_S, seconds)
            fleets.append(
                stack.enter_context(serve.alone("sqlite", "embedded", folder / name, seed, settle_s, **given))
            )
        return drive(lambda: measure(fleets, server, asked, connections, seconds, seed, step))


async def measure(
    fleets: list[fleet.Fleet],
    server: PredictionServer,
    asked: list[bytes],
    connections: int,
    seconds: float,
    seed: int,
    step: Callable[[], None],
) -> dict[str, Any]:
    """Alternating rounds of both backends, both at one rate, and the second while its server is killed."""
    local, grpc = (made.ports[0] for made in fleets)
    requests = itertools.cycle(asked)
    gc.collect()
    gc.disable()  # a pause of the callers would look like one of the server
    try:
        for port in (local, grpc):
            async with calling(port, connections) as callers:
                await callers.closed(requests, min(serve.WARM_UP_S, seconds))
        before = await figures.of(grpc)
        legs = [serve.Leg(rates=[], costs_s=[]) for _ in fleets]
        for _ in range(serve.ROUNDS):
            for made, leg in zip(fleets, legs, strict=True):
                async with calling(made.ports[0], connections) as callers:
                    watch = fleet.Stopwatch(made.servers[0])
                    leg.add(await callers.closed(requests, seconds / serve.ROUNDS), *watch.read())
                step()
        after = await figures.of(grpc)
        times = arrivals(min(leg.rate for leg in legs) / 2, seconds, seed)
        half: list[Answered] = []
        for port in (local, grpc):
            async with calling(port, connections) as callers:
                half.append(await callers.opened(requests, times))
            step()
        async with calling(grpc, connections) as callers:
            asyncio.get_running_loop().call_later(seconds / 2, server.kill)
            killed = await callers.opened(requests, times)
        dead = await figures.of(grpc)
        step()
        await asyncio.to_thread(server.start)
        again_s = await answered_again(grpc, asked[0], dead["upwell_tfserving_answered"])
        step()
    finally:
        gc.enable()
    counted = {name: after[name] - before[name] for name in after}
    batches = counted["upwell_tfserving_answered"] + counted["upwell_tfserving_fallbacks"]
    late = killed.latencies_s[len(killed.latencies_s) // 2 :]
    return {
        "local_per_second": legs[0].rate,
        "grpc_per_second": legs[1].rate,
        "ratio": statistics.median(b / a for a, b in zip(legs[0].rates, legs[1].rates, strict=True)),
        "rounds": [leg.rates for leg in legs],
        "requests_a_batch": counted["upwell_decided"] / batches,
        "answered_share": counted["upwell_tfserving_answered"] / batches,
        "half_load_per_second": half[0].count / half[0].seconds,
        **{
            f"{name}_p{share}_ms": percentile_ms(ran.latencies_s, share / 100)
            for name, ran in (("local", half[0]), ("grpc", half[1]))
            for share in (50, 99)
        },
        "local_memory_mib": fleets[0].servers[0].resident_bytes() / 2**20,
        "grpc_memory_mib": fleets[1].servers[0].resident_bytes() / 2**20,
        "killed_requests": killed.count,
        "killed_failed": killed.failed,
        "killed_p50_ms": percentile_ms(late, 0.5),
        "killed_p99_ms": percentile_ms(late, 0.99),
        "killed_slowest_ms": 1_000 * max(late),
        "answers_again_s": again_s,
        "server": "upwell.bench.prediction_server: SavedModels run by TensorFlow, not TensorFlow Serving",
    }


@asynccontextmanager
async def calling(port: int, connections: int) -> AsyncGenerator[Callers]:
    """Connections for one load: a server closes those that are idle for seconds."""
    callers = await Callers.to(port, connections)
    try:
        yield callers
    finally:
        callers.close()


async def answered_again(port: int, request: bytes, before: float) -> float:
    """Seconds until the prediction server's answers count again. Raises UpwellError where they do not."""
    began = time.perf_counter()
    while (await figures.of(port))["upwell_tfserving_answered"] <= before:
        if time.perf_counter() - began > PATIENCE_S:
            raise UpwellError("the prediction server was started again, and is not asked")
        await ask(port, [request])
        await asyncio.sleep(PROBE_S)
    return time.perf_counter() - began
