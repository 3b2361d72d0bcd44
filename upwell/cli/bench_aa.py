"""``upwell bench aa``: how far the statistics of live experiments can be trusted."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from upwell.cli.common import Json, Seed, emit, progress, table


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: upwell bench aa --tests 1000 --json")(aa)


def aa(
    tests: Annotated[int, typer.Option(help="simulated experiments", min=2)] = 1_000,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """A/A tests on made-up users: false positives with and without peeking, alarms of mismatch, coverage, CUPED."""
    from upwell.bench import aa as bench

    with progress("tests", tests) as step:
        result = bench.run(tests, seed, step)
    emit(result, json, lambda: show(result))


def show(result: dict[str, Any]) -> None:
    """For people."""
    rows = [
        [name.replace("_", " "), f"{one['mean']:.1%}", f"{one['low']:.1%} to {one['high']:.1%}"]
        for name, one in result.items()
        if name != "tests"
    ]
    table(f"{result['tests']:,} A/A tests", ["figure", "value", "95% interval"], rows)
