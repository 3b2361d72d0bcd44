"""``upwell bench learning``: what learning in production does, with the service live before a simulated platform."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from upwell.cli.common import Json, Seed, emit, progress, sized_world, stdout, table

TICKS = 144


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: upwell bench learning shift --days 14 --json")(learning)


def learning(
    scenario: Annotated[
        str, typer.Argument(help="shift (tastes change at half time), versions (a bad one is let in), or poison")
    ],
    days: Annotated[int, typer.Option(help="that each life lasts", min=2)] = 14,
    users: Annotated[int, typer.Option(help="users of the platform", min=64)] = 1_000,
    contents: Annotated[int, typer.Option(help="live contents", min=100)] = 5_000,
    burn_in: Annotated[int, typer.Option(help="days under raw ranking before", min=8)] = 56,
    steps: Annotated[int, typer.Option(help="the service's setting learn_steps", min=64)] = 512,
    only: Annotated[str, typer.Option(help="comma-separated lives of the scenario; default: all")] = "",
    out: Annotated[Path, typer.Option(help="where to write the page of curves")] = Path("out/learning.html"),
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """The same days lived several times over HTTP, with and without learning, undisturbed and disturbed.

    Each life is kept beside the page once it is lived: cut off, the same command goes on with the next one.
    """
    from upwell.demo import scenarios
    from upwell.demo.pages import write_page
    from upwell.experiment import metrics, runner
    from upwell.world import world
    from upwell.world.arm import RAW

    wanted = [one for one in only.split(",") if one]
    config = sized_world(None, None, users, contents)
    kept = out.with_suffix("") / f"{scenario}-{days}-{users}-{contents}-{burn_in}-{steps}-{seed}"
    with TemporaryDirectory(prefix="upwell-learning-") as folder:
        every = scenarios.scenario(scenario, days, steps, Path(folder))
        lives = {name: life for name, life in every.items() if not wanted or name in wanted}
        title = f"{scenario}: a platform falls ill, then ticks of {len(lives)} lives"
        with progress(title, burn_in + days + TICKS * days * len(lives)) as step:

            def begin() -> scenarios.Morning:
                state = world.burnt_in(config, seed, burn_in, step)
                raw = runner.lived(config, RAW, state, days, step)
                return scenarios.Morning(state, metrics.expected(raw))

            result = scenarios.run_all(scenario, lives, config, begin, days, lambda figures: step(), kept)
    write_page(scenario, result, out)
    result["report"] = str(out)
    emit(result, json, lambda: show(result))


def show(result: dict[str, Any]) -> None:
    """For people."""
    rows = [
        [name, f"{mean:.4f}", f"{result['decisions'][name]:,}", f"{result['degraded'][name]:,}",
         f"{result['p99_ms'][name]:.0f}", str(len(result["versions"][name]))]
        for name, mean in result["mean_objective"].items()
    ]  # fmt: skip
    table("lives", ["life", "objective", "slates", "in the ranker's order", "p99, ms", "versions"], rows)
    for name in ("recovered", "lost_to", "won", "bad_version_largest_share", "bad_version_ended_as"):
        if name in result:
            stdout.print(f"{name.replace('_', ' ')}: {result[name]}", markup=False)
    stdout.print(f"page: {result['report']}", markup=False)
