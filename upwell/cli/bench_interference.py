"""``upwell bench interference``: how far each design of an experiment is from the truth, where the truth is known."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from upwell.cli.common import Json, Overrides, WorldFile, emit, progress, sized_world, table
from upwell.errors import BadRequest


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: upwell bench interference --arms raw,marl --json")(interference)


def interference(
    arms: Annotated[str, typer.Option(help="the control and the treated, by name")] = "raw,marl",
    seeds: Annotated[int, typer.Option(help="platforms", min=2)] = 4,
    days: Annotated[int, typer.Option(help="that each is looked on for", min=8)] = 10,
    burn_in: Annotated[int, typer.Option(help="days of raw ranking before", min=1)] = 28,
    users: Annotated[int, typer.Option(help="users of a platform", min=100)] = 2_000,
    contents: Annotated[int, typer.Option(help="live contents of a platform", min=100)] = 5_000,
    designs: Annotated[
        str, typer.Option(help="those that are looked at")
    ] = "user_split,budget_split,co_diverted,switchback",
    world: WorldFile = None,
    set: Overrides = None,
    json: Json = False,
) -> None:
    """A simulated platform under either arm alone, and as a user split, a budget split, co-diverted and a switchback
    see the two."""
    from upwell.arms.registry import members
    from upwell.experiment import interference as study

    named = [members(name) for name in arms.split(",")]
    if len(named) != 2 or any(len(family) > 1 for family in named):
        raise BadRequest(f"--arms {arms}: give two arms that are no families, such as raw,marl")
    config = sized_world(world, set, users, contents)
    pair = named[0][0], named[1][0]
    asked = designs.split(",")
    splits = [split for split in study.DESIGNS if split.design in asked]
    if len(splits) != len(asked):
        known = ", ".join(split.design for split in study.DESIGNS)
        raise BadRequest(f"--designs {designs}: some of {known}, each once")
    total = seeds * (burn_in + days * (2 + len(splits)))
    with progress("days of platforms", total) as step:
        result = study.study(config, pair, splits, range(seeds), burn_in, days, step)
    emit(result, json, lambda: show(result))


def show(result: dict[str, Any]) -> None:
    """For people."""
    rows = list[list[str]]()
    for name, true in result["true"].items():
        row = [name.replace("_", " "), f"{true['mean']:+.4f} ({true['low']:+.4f} to {true['high']:+.4f})"]
        for found in result["designs"].values():
            # Of an effect that may be none, a share tells nothing.
            bias = found[name]["bias"] if name in found and true["low"] * true["high"] > 0.0 else None
            row.append("–" if bias is None else f"{bias['mean']:+.0%} ({bias['low']:+.0%} to {bias['high']:+.0%})")
        rows.append(row)
    designs = [design.replace("_", " ") for design in result["designs"]]
    table(f"{result['arms'][1]} less {result['arms'][0]}", ["metric", "true effect", *designs], rows)
