"""``upwell experiments run``: a live experiment over HTTP on the simulated platform, beside the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from upwell.cli.common import HEADLINE, Json, WorldFile, emit, number, progress, sized_world, stdout, table, toml_of


def run(
    file: Annotated[Path, typer.Argument(help="TOML file of the experiment, with a table `platform`")],
    out: Annotated[Path, typer.Option(help="where to write the page")] = Path("out/experiment.html"),
    data: Annotated[Path | None, typer.Option(help="a Parquet file of all looks, a row an arm and metric")] = None,
    world: WorldFile = None,
    json: Json = False,
) -> None:
    """Run an experiment on the simulated platform: the real service over HTTP, every arm, from one file.

    The platform asks the service who is in which arm, ranks and heats for each arm as the ranker does that it names
    (`ranker = "deepfm"`), and lets Upwell decide for the others. Then each arm has the platform to itself: the truth,
    which the live intervals should cover.
    """
    from upwell.demo import replay
    from upwell.experiment import live_page, metrics, replay_page
    from upwell.world import world as platform

    asked = replay.read(toml_of(file))
    stage, arms = asked.stage, asked.plan.experiment.arms
    config = sized_world(world, None, stage.users, stage.contents)
    with progress("the platform falls ill", stage.burn_in) as step:
        state = platform.burnt_in(config, stage.seed, stage.burn_in, step)
    ticks = (asked.warmup_days + stage.days) * config.sizes.ticks_per_day * (len(arms) + 1)
    with progress("live, over HTTP", ticks) as step:
        lived = replay.live(asked, config, state, lambda figures: step())
    days = len(lived.reports[arms[0].name])
    with progress("each arm alone", days * len(arms)) as step:
        true = replay.truth(asked, config, lived.morning, days, step)
    effects = replay.compared(lived.told, true)
    seen = {name: metrics.over(config, reports) for name, reports in lived.reports.items()}
    live_page.write_page(lived.told, out, replay_page.sections(effects, seen, true))
    if data is not None:
        live_page.write_data(lived.told, data)
    figures = lived.figures
    result: dict[str, Any] = lived.told | {
        "days": days, "against_truth": effects, "platform": seen, "alone": true, "report": str(out),
        "decisions": figures.decisions, "degraded": figures.degraded, "interactions": figures.events,
        "seconds": lived.seconds,
        "p50_ms": figures.quantile_ms(0.5), "p99_ms": figures.quantile_ms(0.99),
    }  # fmt: skip

    def people() -> None:
        stdout.print(
            f"{figures.decisions:,} slates over HTTP in {lived.seconds:.0f} s, {figures.degraded:,} "
            f"degraded; p99 {result['p99_ms']:.1f} ms"
        )
        names = [arm.name for arm in arms]
        rows = [[metric, *(number(true[name][metric]) for name in names)] for metric in HEADLINE]
        table(f"each arm alone, {days} days", ["metric", *names], rows)
        table("live against the truth", replay_page.HEAD, replay_page.rows_of(effects))
        for verdict in lived.told["verdicts"].values():
            stdout.print(verdict["why"], markup=False)
        stdout.print(f"page: {out}", markup=False)

    emit(result, json, people)
