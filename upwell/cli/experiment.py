"""``upwell experiment``: arms against arms on common random numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from upwell.cli.common import Contents, Json, Overrides, Users, WorldFile, build_world, emit, progress, table


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: upwell experiment --arms raw,rules,oracle --seeds 4 --days 14")(experiment)


def experiment(
    arms: Annotated[str, typer.Option(help="comma-separated; raw is always among them")] = "raw,rules,oracle",
    seeds: Annotated[int, typer.Option(help="number of seeds, 0, 1, …", min=1)] = 4,
    world: WorldFile = None,
    set: Overrides = None,
    users: Users = None,
    contents: Contents = None,
    days: Annotated[int, typer.Option(help="days judged", min=8)] = 14,
    burn_in: Annotated[int, typer.Option(help="days under raw ranking before", min=0)] = 35,
    out: Annotated[
        Path, typer.Option(help="folder of the runs and the report; runs found there are not run again")
    ] = Path("out/experiment"),
    json: Json = False,
) -> None:
    """Run arms × seeds from the same burnt-in platforms; intervals over seeds, and an HTML report."""
    from upwell.experiment import runner
    from upwell.experiment.report import write_report

    config = build_world(world, set, users, contents)
    names = ["raw", *(name for name in arms.split(",") if name and name != "raw")]
    plan = runner.Plan(config, tuple(names), tuple(range(seeds)), days, burn_in)
    with progress("days", runner.days_to_run(plan, out)) as step:
        runs = runner.run(plan, out, step)
    result = runner.summarise(plan, runs)
    page = out / "report.html"
    write_report(plan, runs, result, page)
    result["report"] = str(page)
    emit(result, json, lambda: show(result, page))


def show(result: dict[str, Any], page: Path) -> None:
    arms: dict[str, Any] = result["arms"]
    names = list(next(iter(arms.values())))
    rows = [
        [
            name,
            *(
                f"{arms[arm][name]['mean']:.4g} ± {(arms[arm][name]['high'] - arms[arm][name]['low']) / 2:.2g}"
                for arm in arms
            ),
        ]
        for name in names
    ]
    table("means and 95% intervals over seeds", ["metric", *arms], rows)
    gaps = [
        [arm, f"{gap['mean']:.3f}", f"{gap['low']:.3f} … {gap['high']:.3f}"]
        for arm, gap in result["oracle_gap_closed"].items()
    ]
    table("share of the gap from raw to oracle closed", ["arm", "mean", "95% interval"], gaps)
    typer.echo(f"report: {page}")
