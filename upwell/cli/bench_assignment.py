"""``upwell bench assignment``: users to the arms of experiments."""

from __future__ import annotations

from typing import Annotated

import typer

from upwell.cli.bench_service import measured
from upwell.cli.common import Json, Seed


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: upwell bench assignment --ids 10000000 --json")(assignment)


def assignment(
    ids: Annotated[int, typer.Option(help="integer ids assigned, 0, 1, …", min=2_000, max=2**32)] = 10_000_000,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Assignments a second to experiments' arms, the time of one on a request, how even and independent they are."""
    from upwell.bench import assignment as bench

    measured("assignment", len(bench.chunks(ids)), json, lambda _, step: bench.run(ids, seed, step))
