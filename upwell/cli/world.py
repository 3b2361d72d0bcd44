"""``upwell simulate`` and ``calibrate``."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from upwell import files
from upwell.cli.common import (
    HEADLINE,
    Contents,
    Json,
    Overrides,
    Seed,
    Users,
    WorldFile,
    build_world,
    emit,
    number,
    progress,
    stderr,
    table,
)  # fmt: skip


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: upwell simulate --arm rules --days 10 --burn-in 30")(simulate)
    app.command(epilog="Example: upwell calibrate --generations 20 --out world.toml")(calibrate)


def simulate(
    world: WorldFile = None,
    set: Overrides = None,
    arm: Annotated[
        str, typer.Option(help="any of the arms, such as raw, thompson, marl; marl:FILE plays by a policy of your own")
    ] = "raw",
    users: Users = None,
    contents: Contents = None,
    days: Annotated[int, typer.Option(help="days judged", min=1)] = 10,
    burn_in: Annotated[int, typer.Option(help="days under raw ranking before that, from a healthy start", min=0)] = 0,
    decisions: Annotated[
        Path | None, typer.Option(help="also write a sample of the last day's decisions there, as JSON lines")
    ] = None,
    print_world: Annotated[
        bool, typer.Option(help="print every key with default, unit and meaning; run nothing")
    ] = False,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Live some days of the simulated platform under one arm."""
    config = build_world(world, set, users, contents)
    if print_world:
        from upwell.world.config import to_toml

        typer.echo(to_toml(config), nl=False)
        return
    from upwell.arms.registry import members
    from upwell.experiment import metrics, runner
    from upwell.world import world as platform

    family = members(arm)
    with progress(f"{config.name} under {arm}", burn_in + days * len(family)) as step:
        state = platform.burnt_in(config, seed, burn_in, step)
        began = time.perf_counter()
        winner, reports = runner.best_of(config, family, state, days, step)
    seconds = time.perf_counter() - began
    measured = metrics.over(config, reports)
    impressions = float(sum(float(r["impressions"]) for r in reports))
    result: dict[str, Any] = {
        "arm": arm,
        "metrics": measured,
        "daily": metrics.curves(config, reports),
        "impressions": impressions,
        "seconds": seconds,
        "impressions_per_second": impressions / seconds,
    }
    if decisions is not None:
        from upwell.world.decisions import write_last_day

        chosen = next(member for member in family if member.name == winner)
        result["decisions"] = write_last_day(config, chosen, state, days, decisions)
    emit(result, json, lambda: show_days(f"{config.name} under {arm}, {days} days", result["daily"], measured))


def show_days(title: str, daily: dict[str, list[float]], measured: dict[str, float]) -> None:
    last = len(daily["ctr"]) - 1
    marks = sorted({0, last // 4, last // 2, 3 * last // 4, last})
    rows = [[name, *(number(daily[name][d]) for d in marks), number(measured[name])] for name in HEADLINE]
    table(title, ["metric", *(f"day {d + 1}" for d in marks), "all days"], rows)


def calibrate(
    dataset: Annotated[
        Path | None, typer.Argument(help="imported data set, or a JSON file of published aggregates, to fit to")
    ] = None,
    targets: Annotated[
        Path | None, typer.Option(help="TOML: [metric] value, weight, upper; default: the reference column")
    ] = None,
    world: WorldFile = None,
    set: Overrides = None,
    generations: Annotated[int, typer.Option(help="generations; 0 sets only what follows directly", min=0)] = 15,
    days: Annotated[int, typer.Option(help="days of burn-in", min=12)] = 42,
    population: Annotated[int, typer.Option(help="worlds a generation", min=4)] = 12,
    step: Annotated[float, typer.Option(help="first step, as a share of each parameter's range", min=0.001)] = 0.08,
    free: Annotated[str | None, typer.Option(help="search only these keys, comma-separated; default: all")] = None,
    out: Annotated[Path | None, typer.Option(help="where to write the fitted world")] = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Fit the world's free parameters to what is known of the raw ranking. No other arm is ever run.

    A search that was cut off goes on where it stopped when it is given the same --out.
    """
    from upwell.logs import calibrate as fitting
    from upwell.logs import targets as known
    from upwell.world.config import to_toml

    config = build_world(world, set, None, None)
    wanted = known.load_targets(targets) if targets else known.REFERENCE
    direct: dict[str, float] = {}
    if dataset is not None:
        told = known.read_marginals(dataset)
        direct = known.direct(told)
        wanted = known.load_targets(targets) if targets else known.searched(told)
        config = replace(config.override(direct), name=dataset.stem)
    began = time.perf_counter()

    def note(generation: int, best: float, _: object) -> None:
        spent = time.perf_counter() - began
        left = spent / (generation + 1) * (generations - generation - 1)
        stderr.print(f"generation {generation + 1}/{generations}: loss {best:.3f}, about {left:.0f} s left")

    if generations:
        config, fitted = fitting.fit(
            config, wanted, generations=generations, population=population, days=days, seed=seed, report=note,
            step=step, free=fitting.bounds_of(free.split(",")) if free else fitting.FREE,
            journal=out.with_suffix(".journal.jsonl") if out else None,
        )  # fmt: skip
    else:
        config, fitted = fitting.solve(config, wanted, seed + 1_000, days)
    rows = {
        name: {"target": t.value, "fitted": fitted[name], "relative_error": t.error(fitted[name])}
        for name, t in wanted.items()
    }
    if out:
        source = f" {dataset.name}" if dataset else ""
        made_by = f"Made by `upwell calibrate{source} --generations {generations} --days {days} --seed {seed}`."
        files.put(out, to_toml(config, made_by))
    result: dict[str, Any] = {
        "targets": rows,
        "direct": direct,
        "world": str(out) if out else None,
        "seconds": time.perf_counter() - began,
    }
    lines = [
        [name, number(row["target"]), number(row["fitted"]), f"{row['relative_error']:+.1%}"]
        for name, row in rows.items()
    ]
    emit(result, json, lambda: table("fit", ["target", "wanted", "fitted", "error"], lines))
