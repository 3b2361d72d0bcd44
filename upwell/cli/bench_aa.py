"""``upwell bench aa``: how far the statistics of live experiments can be trusted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from upwell.cli.common import Json, Overrides, Seed, WorldFile, emit, progress, sized_world, table
from upwell.errors import BadRequest

BURN_IN = 28
"""Days of raw ranking before a platform's users are looked at."""
USERS = ("made-up", "world", "movielens")


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: upwell bench aa --tests 1000 --json")(aa)


def aa(
    tests: Annotated[int, typer.Option(help="simulated experiments", min=2)] = 1_000,
    of: Annotated[
        str,
        typer.Option("--users", help="made-up, world (a simulated platform's), or movielens (real ratings, fetched)"),
    ] = "made-up",
    cache: Annotated[Path, typer.Option(help="folder that MovieLens-100K is fetched into")] = Path("~/.cache/upwell"),
    platform_users: Annotated[int, typer.Option(help="of world: users of the platform", min=100)] = 4_000,
    world: WorldFile = None,
    set: Overrides = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """A/A tests: false positives with and without peeking, alarms of mismatch, coverage, CUPED."""
    from upwell.bench import aa as bench

    make = bench.made_up
    if of == "movielens":
        from upwell.bench.aa_users import of_movielens

        make = of_movielens(cache.expanduser())
    elif of == "world":
        from upwell.bench.aa_users import of_world

        config = sized_world(world, set, platform_users, 5 * platform_users // 2)
        with progress("days of the platform", BURN_IN + 2 * bench.DAYS) as step:
            make = of_world(config, seed, BURN_IN, step)
    elif of not in USERS:
        raise BadRequest(f"--users {of}: give one of {', '.join(USERS)}")
    with progress("tests", tests) as step:
        result = bench.run(tests, seed, step, make) | {"users": of}
    emit(result, json, lambda: show(result))


def show(result: dict[str, Any]) -> None:
    """For people."""
    rows = [
        [name.replace("_", " "), f"{one['mean']:.1%}", f"{one['low']:.1%} to {one['high']:.1%}"]
        for name, one in result.items()
        if name not in ("tests", "users")
    ]
    table(f"{result['tests']:,} A/A tests of users: {result['users']}", ["figure", "value", "95% interval"], rows)
