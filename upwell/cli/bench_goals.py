"""``upwell bench goals``: whether goals in words move the platform, by simulation."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from upwell.cli.common import Json, Overrides, WorldFile, emit, progress, sized_world, stdout, table
from upwell.cli.propose import Arm, BurnIn, Contents, Days, Out, Seeds, Users


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: upwell bench goals --goals examples/goals.toml --json")(goals)


def goals(
    file: Annotated[Path, typer.Option("--goals", help="TOML list of [[goal]] with a text each")] = Path(
        "examples/goals.toml"
    ),
    world: WorldFile = None,
    set: Overrides = None,
    users: Users = 500,
    contents: Contents = 1_250,
    days: Days = 7,
    burn_in: BurnIn = 56,
    seeds: Seeds = 24,
    arm: Arm = "marl",
    out: Out = Path("out/goals"),
    json: Json = False,
) -> None:
    """Propose weights for every goal of a file: the share that is answered, and curves of metrics over the weights."""
    from upwell.experiment import goal_study
    from upwell.experiment.proof import present, simulated
    from upwell.experiment.runner import Plan

    wanted = goal_study.goals_of(file)
    plan = Plan(sized_world(world, set, users, contents), (arm,), tuple(range(seeds)), days, burn_in)
    began, lived = time.perf_counter(), 0
    with progress("days", goal_study.days_about(plan, len(wanted))) as step:

        def day() -> None:
            nonlocal lived
            lived += 1
            step()

        result = goal_study.run(wanted, simulated(plan, out, day), present(plan.config))
    page = out / "goals.html"
    goal_study.write_page(plan.config.name, result, page)
    result |= {"report": str(page), "seconds": time.perf_counter() - began, "days_lived": lived}
    emit(result, json, lambda: show(result))


def show(result: dict[str, Any]) -> None:
    """For people."""
    rows = [
        [one["text"], one["weights"] or "", "yes" if one["meets"] else "no", *one["effects"].values()][:4]
        for one in result["goals"]
    ]
    table("goals", ["goal", "weights", "answered", "effect on the first aim"], [[*r, ""][:4] for r in rows])
    for one in result["rises"]:
        kind = "monotone" if one["monotone"] else "not shown to be monotone"
        stdout.print(f"{one['metric']} with {one['weight']}: {kind}", markup=False)
    stdout.print(f"answered: {result['share_met']:.0%} of {len(rows)} goals", markup=False)
    stdout.print(f"page: {result['report']}", markup=False)
