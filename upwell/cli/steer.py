"""``upwell steer``: what a goal's weights do to an arm's metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from upwell.cli.common import Json, Overrides, WorldFile, emit, progress, sized_world, table
from upwell.errors import BadRequest


def steer(
    arm: Annotated[str, typer.Option(help="whose weights are turned: marl, marl:FILE, rules …")] = "marl",
    points: Annotated[int, typer.Option(help="goals on each of the three lines", min=2)] = 5,
    seeds: Annotated[int, typer.Option(help="number of seeds, 0, 1, …", min=1)] = 4,
    users: Annotated[int, typer.Option(help="users of the world", min=8)] = 2_000,
    contents: Annotated[int, typer.Option(help="live contents", min=10)] = 5_000,
    days: Annotated[int, typer.Option(help="days judged", min=8)] = 14,
    burn_in: Annotated[int, typer.Option(help="days under raw ranking before", min=0)] = 56,
    world: WorldFile = None,
    set: Overrides = None,
    out: Annotated[
        Path, typer.Option(help="folder of the runs and the page; runs found there are not run again")
    ] = Path("out/steer"),
    json: Json = False,
) -> None:
    """Give one arm goals all over the simplex of weights on the same platforms: metrics as curves."""
    from upwell.arms.registry import members
    from upwell.experiment import steering
    from upwell.experiment.runner import Plan

    if len(members(arm)) > 1:
        raise BadRequest(f"--arm {arm}: a family of arms, of which the goal itself would choose; give a single one")
    config = sized_world(world, set, users, contents)
    plan = Plan(config, (arm,), tuple(range(seeds)), days, burn_in)
    with progress("days", steering.days_left(plan, points, out)) as step:
        result = steering.run(plan, points, out, step)
    page = out / "steer.html"
    steering.write_page(config.name, result, page)
    result["report"] = str(page)
    emit(result, json, lambda: show(result))


def show(result: dict[str, Any]) -> None:
    from upwell.experiment import steering

    table("what each weight does, with 95% intervals", steering.head(), steering.rows(result))
    typer.echo(f"report: {result['report']}")
