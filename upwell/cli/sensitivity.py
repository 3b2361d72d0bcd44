"""``upwell sensitivity``: how much the headline figures hang on what is assumed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from upwell.cli.common import Json, Overrides, WorldFile, emit, progress, sized_world, table


def sensitivity(
    keys: Annotated[str, typer.Option(help="comma-separated world keys; default: every assumed parameter")] = "",
    change: Annotated[float, typer.Option(help="share by which each is lowered and raised", min=0.01, max=0.9)] = 0.5,
    seeds: Annotated[int, typer.Option(help="number of seeds, 0, 1, …", min=1)] = 2,
    users: Annotated[int, typer.Option(help="users of the world", min=8)] = 1_000,
    contents: Annotated[int, typer.Option(help="live contents", min=10)] = 2_500,
    days: Annotated[int, typer.Option(help="days judged", min=8)] = 10,
    burn_in: Annotated[int, typer.Option(help="days under raw ranking before", min=0)] = 42,
    world: WorldFile = None,
    set: Overrides = None,
    out: Annotated[
        Path, typer.Option(help="folder of the runs and the page; runs found there are not run again")
    ] = Path("out/sensitivity"),
    json: Json = False,
) -> None:
    """Change one assumed parameter at a time and run raw, thompson, marl and oracle: what becomes of each figure."""
    from upwell.experiment import sensitivity as study
    from upwell.experiment import tornado
    from upwell.experiment.runner import Plan

    config = sized_world(world, set, users, contents)
    base = Plan(config, study.ARMS, tuple(range(seeds)), days, burn_in)
    names = [key.strip() for key in keys.split(",") if key.strip()] or study.assumed()
    settings = [study.setting(config, key, change) for key in dict.fromkeys(names)]
    with progress("days", study.days_left(base, settings, out)) as step:
        result = study.run(base, settings, out, step)
    page = out / "sensitivity.html"
    tornado.write_page(config.name, result, page)
    result |= {"change": change, "report": str(page), "table": str(page.with_name("table.md"))}
    emit(result, json, lambda: show(result))


def show(result: dict[str, Any]) -> None:
    from upwell.experiment import tornado

    table(f"each parameter ∓ {result['change']:.0%}", tornado.head(), tornado.rows(result))
    typer.echo(f"report: {result['report']}")
