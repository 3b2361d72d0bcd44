"""``upwell demo``: the whole of it, live, in a few minutes."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn

from upwell.cli.common import HEADLINE, Json, Seed, build_world, emit, number, progress, stderr, stdout, table
from upwell.errors import BadRequest

if TYPE_CHECKING:
    from upwell.demo.live import Figures
    from upwell.experiment.metrics import Report

USERS, CONTENTS, DAYS, TICKS = 1_000, 5_000, 8, 144


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: upwell demo --headless")(demo)


def demo(
    headless: Annotated[bool, typer.Option(help="terminal only")] = True,
    logs: Annotated[
        list[Path] | None, typer.Option(help="your own logs: imported first, and the platform takes after them")
    ] = None,
    seconds: Annotated[int, typer.Option(help="most seconds of live traffic; it ends with the day", min=10)] = 150,
    arm: Annotated[str, typer.Option(help="what decides: marl, the learned policy, or rules")] = "marl",
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """A platform falls ill under raw ranking. Then the real service stands between its ranker and its users.

    The same days are lived three times from the same morning, with the same random numbers: under raw ranking, with the
    service over HTTP, and with the same agents inside the simulation, which the live days must agree with.
    """
    from upwell.arms.registry import members
    from upwell.cli.logs import read_logs
    from upwell.demo import run
    from upwell.experiment import metrics, runner
    from upwell.experiment.protocol import fixed
    from upwell.logs import marginals
    from upwell.logs.targets import direct
    from upwell.world import world as platform

    if arm not in ("marl", "rules"):
        raise BadRequest(
            f"--arm {arm}: the service runs marl or rules; for others `upwell experiment --arms raw,{arm}`"
        )
    began, imported, keys = time.perf_counter(), None, dict[str, float]()
    if logs:
        folder = Path("out/demo-logs")
        imported = read_logs(logs, folder)
        keys = direct(marginals.measure(folder))
    config = build_world(None, None, USERS, CONTENTS).override(keys)
    burn_in = fixed().burn_in
    with progress("the platform falls ill", burn_in + 2 * DAYS) as step:
        state = platform.burnt_in(config, seed, burn_in, step)
        raw = runner.run_arm(config, members("raw"), state, DAYS, step)
        simulated = runner.run_arm(config, members(arm), state, DAYS, step)
    with live_numbers() as tick:
        policy = "" if arm == "rules" else arm
        lived = run.live(config, state, DAYS, tick, time.perf_counter() + seconds, policy=policy)
    days = len(lived.reports)

    def measured(reports: list[Report]) -> dict[str, float]:
        return metrics.over(config, reports[:days])

    before, after, inside = measured(raw), measured(lived.reports), measured(simulated)
    figures = lived.figures
    result: dict[str, Any] = {
        "before": before,
        "after": after,
        "simulated": inside,
        "days": days,
        "arm": arm,
        "decisions": figures.decisions,
        "degraded": figures.degraded,
        "interactions": figures.events,
        "decisions_per_second": figures.decisions / lived.seconds,
        "p50_ms": figures.quantile_ms(0.5),
        "p99_ms": figures.quantile_ms(0.99),
        "seconds": time.perf_counter() - began,
        "imported": imported,
        "from_logs": keys,
    }
    rows = [
        [
            name,
            number(before[name]),
            number(after[name]),
            f"{after[name] / before[name] - 1:+.0%}" if before[name] else "",
            number(inside[name]),
        ]
        for name in HEADLINE
    ]

    def people() -> None:
        if imported:
            stdout.print(f"logs: {imported['rows_kept']:,} rows kept, {imported['rows_rejected']:,} rejected")
            stdout.print("set from them: " + (", ".join(keys) or "nothing that a world has a key for"))
        stdout.print(
            f"{figures.decisions:,} slates and {figures.events:,} interactions over HTTP, "
            f"{result['decisions_per_second']:,.0f} slates/s, {figures.degraded:,} in the ranker's own order; "
            f"p50 {result['p50_ms']:.1f} ms, p99 {result['p99_ms']:.1f} ms"
        )
        columns = ["metric", "raw ranking", "with Upwell, live", "change", "the same, simulated"]
        table(f"{days} days", columns, rows)

    emit(result, json, people)


@contextmanager
def live_numbers() -> Generator[Callable[[Figures], None]]:
    """A bar on stderr with live numbers; call the yielded function after each tick."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[live]}"))
    with Progress(*columns, console=stderr, transient=True) as bar:
        task, began = bar.add_task("live", total=DAYS * TICKS, live=""), time.perf_counter()

        def tick(figures: Figures) -> None:
            rate = figures.decisions / max(time.perf_counter() - began, 1e-9)
            live = (
                f"{figures.decisions:,} slates, {rate:,.0f}/s, p50 {figures.quantile_ms(0.5):.1f} ms, "
                f"{figures.clicks:,} clicks, heated {figures.heated / max(figures.shown, 1):.1%}"
            )
            bar.update(task, advance=1, live=live, description=f"day {figures.day}")

        yield tick
