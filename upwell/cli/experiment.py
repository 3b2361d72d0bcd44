"""``upwell experiment``: arms against arms on common random numbers; ``upwell disease``: what ails the platform."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from upwell.cli.common import (
    Contents,
    Json,
    Overrides,
    ProtocolBurnIn,
    ProtocolContents,
    ProtocolDays,
    ProtocolUsers,
    Users,
    WorldFile,
    build_world,
    emit,
    number,
    progress,
    table,
)
from upwell.cli.sensitivity import sensitivity
from upwell.cli.steer import steer
from upwell.cli.tune import tune


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: upwell experiment --arms raw,rules,oracle --seeds 4 --days 14")(experiment)
    app.command(epilog="Example: upwell sensitivity --keys activity.satisfaction,response.boredom")(sensitivity)
    app.command(epilog="Example: upwell steer --arm marl --seeds 4 --out out/steer")(steer)
    app.command(epilog="Example: upwell tune thompson,linucb --trials 12 --seeds 100,101,102")(tune)
    app.command(epilog="Example: upwell disease --out disease.html --users 2000")(disease)


def experiment(
    arms: Annotated[str, typer.Option(help="comma-separated; raw is always among them")] = "raw,itemcf,rules,oracle",
    seeds: Annotated[int | None, typer.Option(help="number of seeds, 0, 1, …; default: the protocol's", min=1)] = None,
    world: WorldFile = None,
    set: Overrides = None,
    users: ProtocolUsers = None,
    contents: ProtocolContents = None,
    days: ProtocolDays = None,
    burn_in: ProtocolBurnIn = None,
    out: Annotated[
        Path, typer.Option(help="folder of the runs and the report; runs found there are not run again")
    ] = Path("out/experiment"),
    json: Json = False,
) -> None:
    """Run arms × seeds from the same burnt-in platforms; intervals over seeds, an HTML report, and a Markdown table.

    What is not given comes from the fixed protocol (upwell/experiment/protocol.toml), whatever sizes a world file has.
    """
    from upwell.arms.registry import members
    from upwell.experiment import markdown, runner
    from upwell.experiment.protocol import fixed
    from upwell.experiment.report import write_report
    from upwell.experiment.summary import summarise

    protocol = fixed()
    sizes = [f"sizes.users={users or protocol.users}", f"sizes.contents={contents or protocol.contents}"]
    # Later settings win: --users and --contents over --set over the protocol.
    config = build_world(world, [*sizes, *(set or [])], users, contents)
    names = ["raw", *(name for name in dict.fromkeys(arms.split(",")) if name and name != "raw")]
    for name in names:
        members(name)
    plan = runner.Plan(
        config,
        tuple(names),
        tuple(range(seeds or protocol.seeds)),
        days or protocol.days,
        protocol.burn_in if burn_in is None else burn_in,
    )
    with progress("days", runner.days_to_run(plan, out)) as step:
        runs = runner.run(plan, out, step)
    result = summarise(plan, runs)
    page = out / "report.html"
    write_report(plan, runs, result, page)
    markdown.write(result, out / "table.md")
    result |= {"report": str(page), "table": str(out / "table.md")}
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
    if result["oracle_beaten"]:
        typer.echo("the oracle is beaten, so it is no upper bound here: " + "; ".join(result["oracle_beaten"]))
    typer.echo(f"report: {page}")


def disease(
    out: Annotated[Path, typer.Option(help="where to write the HTML page")] = Path("out/disease.html"),
    days: Annotated[int, typer.Option(help="days from a healthy start", min=2)] = 42,
    seeds: Annotated[int, typer.Option(help="number of seeds, 0, 1, …", min=1)] = 1,
    world: WorldFile = None,
    set: Overrides = None,
    users: Users = None,
    contents: Contents = None,
    json: Json = False,
) -> None:
    """Live the same young platform with a ranker that learns and one that does not: who falls ill, and how fast."""
    from upwell.experiment import disease as illness

    config = build_world(world, set, users, contents)
    with progress(f"{config.name}, with and without feedback", 2 * seeds * days) as step:
        result = illness.run(config, seeds, days, step)
    illness.write_page(config, result, out)
    result["report"] = str(out)
    emit(result, json, lambda: show_disease(result, days))


def show_disease(result: dict[str, Any], days: int) -> None:
    marks = sorted({0, days // 4, days // 2, 3 * days // 4, days - 1})
    rows = [
        [f"{key}, {said}", *(number(result[name]["daily"][key][d]) for d in marks)]
        for key in ("interest_tags", "top100_share")
        for name, said in (("feedback", "learning"), ("no_feedback", "not learning"))
    ]
    table("from a healthy start", ["", *(f"day {d + 1}" for d in marks)], rows)
    typer.echo(f"page: {result['report']}")
