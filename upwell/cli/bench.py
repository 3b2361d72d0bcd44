"""``upwell bench``: measurements, as commands, never as timed tests."""

from __future__ import annotations

import resource
import time
from typing import Annotated, Any

import typer

from upwell.cli.common import Json, Seed, build_world, emit, table

app = typer.Typer(help="Measure. Ratios are taken side by side in one run, since machines differ and are shared.")


@app.callback()
def group() -> None:
    """Measure. Ratios are taken side by side in one run, since machines differ and are shared."""


@app.command(epilog="Example: upwell bench world --users 100000 --json")
def world(
    users: Annotated[int, typer.Option(help="users", min=8)] = 100_000,
    contents: Annotated[int, typer.Option(help="live contents", min=10)] = 10_000,
    candidates: Annotated[int, typer.Option(help="candidates a request", min=2)] = 200,
    slate: Annotated[int, typer.Option(help="contents a slate", min=1)] = 10,
    days: Annotated[int, typer.Option(help="days timed, after one to compile", min=1)] = 3,
    arm: Annotated[str, typer.Option(help="raw, rules or oracle")] = "raw",
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Impressions a second of the whole world, against a bare kernel that only scores candidates and takes the top."""
    import jax

    from upwell.arms.registry import members
    from upwell.world import world as platform

    config = build_world(None, None, users, contents)
    config = config.override(
        {"sizes.candidates": min(candidates, contents), "sizes.slate": slate, "sizes.fresh": candidates // 4}
    )
    chosen = members(arm)[0]
    state = platform.reset(config, seed)
    state, report = platform.run_day(config, chosen, state)
    jax.block_until_ready(report)
    kernel = [kernel_requests_per_second(candidates, slate)]
    requests, began = 0.0, time.perf_counter()
    for _ in range(days):
        state, report = platform.run_day(config, chosen, state)
        requests += float(report["requests"])
    seconds = time.perf_counter() - began
    kernel.append(kernel_requests_per_second(candidates, slate))
    rate = requests / seconds
    result: dict[str, Any] = {
        "users": users, "arm": arm, "days": days, "seconds": seconds, "slates_per_second": rate,
        "impressions_per_second": rate * slate, "kernel_impressions_per_second": sum(kernel) / 2 * slate,
        "ratio_to_kernel": rate / (sum(kernel) / 2),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }  # fmt: skip
    emit(
        result,
        json,
        lambda: table(
            "world",
            ["figure", "value"],
            [[k, f"{v:,.3f}" if isinstance(v, float) else str(v)] for k, v in result.items()],
        ),
    )


def kernel_requests_per_second(candidates: int, slate: int, requests: int = 4_096, seconds: float = 2.0) -> float:
    """The bare kernel: score ``candidates`` of 32 dimensions by batched matmul for 4,096 requests, take the top."""
    import jax
    import jax.numpy as jnp

    segments = 64
    users = jax.random.normal(jax.random.key(0), (segments, requests // segments, 32))
    contents = jax.random.normal(jax.random.key(1), (segments, 32, candidates))
    kernel = jax.jit(lambda u, c: jax.lax.top_k(jnp.matmul(u, c), slate))
    jax.block_until_ready(kernel(users, contents))
    rounds, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        jax.block_until_ready(kernel(users, contents))
        rounds += 1
    return rounds * requests / (time.perf_counter() - began)
