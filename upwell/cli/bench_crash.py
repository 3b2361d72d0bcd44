"""``upwell bench crash``: kill -9, again and again, under load."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from upwell.cli.common import Json, Seed, emit, progress, table


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: upwell bench crash --kills 50 --store redis --events kafka --json")(crash)


def crash(
    kills: Annotated[int, typer.Option(help="how often something is killed", min=1)] = 20,
    store: Annotated[str, typer.Option(help="sqlite or redis, started for this run")] = "sqlite",
    events: Annotated[str, typer.Option(help="embedded or kafka, started for this run")] = "embedded",
    workers: Annotated[int, typer.Option(help="server processes", min=1)] = 1,
    keep: Annotated[Path | None, typer.Option(help="folder for data and logs of the run, kept; must be empty")] = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Kill server, worker, Redis and broker under load: acknowledged events lost or doubled, the ledger, continuity."""
    from upwell.bench.crash import run

    with tempfile.TemporaryDirectory(prefix="upwell-crash-") as scratch, progress("kills", kills) as step:
        folder = keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        result = run(kills, store, events, workers, seed, folder, step)
    emit(result, json, lambda: table("crash", ["figure", "value"], [[k, str(v)] for k, v in result.items()]))
