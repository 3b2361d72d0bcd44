"""``upwell bench``: measurements, as commands, never as timed tests."""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from upwell.cli import (
    bench_aa,
    bench_assignment,
    bench_crash,
    bench_encoder,
    bench_goals,
    bench_interference,
    bench_learning,
    bench_program,
    bench_service,
    bench_story,
    bench_train,
    bench_trust,
)
from upwell.cli.common import Json, Overrides, Seed, WorldFile, build_world, emit, progress, table
from upwell.errors import BadRequest

app = typer.Typer(help="Measure. Ratios are taken side by side in one run, since machines differ and are shared.")
bench_assignment.register(app)
bench_crash.register(app)
bench_service.register(app)
bench_encoder.register(app)
bench_train.register(app)
bench_learning.register(app)
bench_goals.register(app)
bench_program.register(app)
bench_story.register(app)
bench_aa.register(app)
bench_interference.register(app)
bench_trust.register(app)


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
    arm: Annotated[str, typer.Option(help="raw, itemcf, rules or oracle")] = "raw",
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Impressions a second of the whole world, against a bare kernel that only scores candidates and takes the top."""
    import jax

    from upwell.arms.registry import members
    from upwell.world import world as platform

    config = build_world(None, None, users, contents)
    config = config.override(
        {
            "sizes.candidates": min(candidates, contents),
            "sizes.slate": slate,
            "sizes.fresh": candidates // 4,
            "sizes.segments": 0,
        }
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


@app.command(epilog="Example: upwell bench noise --seeds 6 --users 2000,4000 --days 14 --json")
def noise(
    seeds: Annotated[int | None, typer.Option(help="number of seeds, 0, 1, …", min=2)] = None,
    users: Annotated[str, typer.Option(help="comma-separated numbers of users; default: the protocol's")] = "",
    days: Annotated[int | None, typer.Option(help="days judged", min=8)] = None,
    burn_in: Annotated[int | None, typer.Option(help="days under raw ranking before", min=0)] = None,
    world: WorldFile = None,
    set: Overrides = None,
    out: Annotated[Path, typer.Option(help="folder of the runs; those found there are not run again")] = Path(
        "out/noise"
    ),
    json: Json = False,
) -> None:
    """Half-widths of an experiment's 95% intervals, and the seeds that ±0.05 of oracle_gap_closed would take."""
    from upwell.experiment import noise as study
    from upwell.experiment import runner
    from upwell.experiment.protocol import fixed

    protocol = fixed()
    try:
        sizes = [int(word) for word in users.split(",") if word] or [protocol.users]
    except ValueError:
        raise BadRequest(f"--users {users}: give whole numbers such as 2000,4000") from None
    plans = [
        runner.Plan(
            build_world(world, [f"sizes.contents={protocol.contents}", *(set or [])], size, None),
            study.ARMS,
            tuple(range(seeds or protocol.seeds)),
            days or protocol.days,
            protocol.burn_in if burn_in is None else burn_in,
        )
        for size in sizes
    ]
    folders = [out / str(size) for size in sizes]
    measured: list[dict[str, Any]] = []
    with progress("days", sum(map(runner.days_to_run, plans, folders))) as step:
        for plan, folder in zip(plans, folders, strict=True):
            measured.append(study.measure(plan, runner.run(plan, folder, step)))
    rows = [
        [
            f"{m['users']:,}", f"{m['oracle_gap_closed']['mean']:.3f}", f"± {m['oracle_gap_closed_half_width']:.3f}",
            f"± {m['half_width']['objective']:.4f}", f"{m['seconds_per_seed']:,.0f}", str(m["seeds_needed"]),
        ]
        for m in measured
    ]  # fmt: skip
    head = ["users", "gap closed by rules", "half-width", "objective's", "seconds a seed", "seeds for ±0.05"]
    emit({"settings": measured, "target": study.TARGET}, json, lambda: table("noise", head, rows))


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
