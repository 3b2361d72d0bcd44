"""``upwell bench encoder``: memory, speed and recall of the behaviour encoder, beside what it is held against."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from upwell.cli.common import Json, emit, progress, table
from upwell.errors import BadRequest


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: upwell bench encoder --json")(encoder)


def encoder(
    data: Annotated[
        str, typer.Option(help="recall on these, by commas: ml-100k, world; empty: none")
    ] = "ml-100k,world",
    seeds: Annotated[int, typer.Option(help="training seeds of each model", min=1)] = 3,
    steps: Annotated[int | None, typer.Option(help="training steps; default: each recipe's own", min=1)] = None,
    seconds: Annotated[float, typer.Option(help="length of each timing, seconds", min=0.2, max=60)] = 5.0,
    events: Annotated[int, typer.Option(help="length of the histories whose memory is measured", min=61)] = 1_000,
    tune: Annotated[
        bool, typer.Option(help="train each model by each recipe tried and report their validation")
    ] = False,
    out: Annotated[Path, typer.Option(help="folder of the trainings; those found there go on")] = Path("out/encoder"),
    cache: Annotated[Path, typer.Option(help="folder that MovieLens-100K is fetched into")] = Path("~/.cache/upwell"),
    json: Json = False,
) -> None:
    """Memory against a plain Transformer, time of an event, and recall@20 of the next engagement by model."""
    for package in ("equinox", "optax"):
        if find_spec(package) is None:
            raise BadRequest(f"`upwell bench encoder` needs {package}: pip install 'upwell[learn]'")
    from upwell.bench import encoder as bench

    names = [word for word in data.split(",") if word]
    if unknown := set(names) - set(bench.STEPS):
        raise BadRequest(f"--data {', '.join(sorted(unknown))}: one of {', '.join(bench.STEPS)}")
    plan = bench.Plan(tuple(names), seeds, steps, seconds, events, out, cache.expanduser())
    with progress("encoder", bench.steps_of(plan, tune)) as step:
        result = bench.tried(plan, step) if tune else bench.run(plan, step)
    emit(result, json, lambda: table("encoder", ["figure", "value"], [[k, shown(v)] for k, v in flat("", result)]))


def flat(name: str, value: Any) -> list[tuple[str, Any]]:
    """A nested document as rows."""
    if not isinstance(value, dict):
        return [(name, value)]
    return [row for key, inner in value.items() for row in flat(f"{name}.{key}".lstrip("."), inner)]


def shown(value: Any) -> str:
    if isinstance(value, list):
        return " … ".join(shown(v) for v in value)
    return f"{value:,.4g}" if isinstance(value, float) else str(value)
