"""``upwell bench trust``: who cheats is found out, at what price, and whether cheating pays."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from upwell.cli.common import Json, Overrides, Seed, WorldFile, build_world, emit, progress, table
from upwell.errors import BadRequest

PARTS = ("detection", "money", "incentive", "cost", "live", "fit")


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: upwell bench trust --json")(trust)


def trust(
    part: Annotated[
        str,
        typer.Argument(
            help="detection (who is found out), money (coins saved, and what trust costs), incentive (does cheating "
            "pay), cost (time and memory), live (a farm against the running service), or fit (the heads anew)"
        ),
    ] = "detection",
    seeds: Annotated[int, typer.Option(help="platforms each figure is measured on", min=2)] = 8,
    days: Annotated[int, typer.Option(help="that each is watched for", min=8)] = 20,
    arm: Annotated[str, typer.Option(help="who regulates them")] = "rules",
    adapt: Annotated[
        int, typer.Option(help="generations for which adaptive cheats are optimised against the detector first", min=0)
    ] = 8,
    seconds: Annotated[float, typer.Option(help="of live: how long each life lasts", min=5.0)] = 120.0,
    rate: Annotated[int, typer.Option(help="of live: fake events a minute", min=100)] = 10_000,
    world: WorldFile = None,
    set: Overrides = None,
    out: Annotated[Path, typer.Option(help="of fit: where to write the heads")] = Path("trust.json"),
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Platforms with bought clicks, clickbait, farms, rings, slow drips and adaptive cheats, and with honest contents
    that look like them."""
    if part not in PARTS:
        raise BadRequest(f"{part}: give one of {', '.join(PARTS)}")
    if part == "live":
        from upwell.bench import trust_live

        with progress("lives", len(trust_live.LIVES)) as step:
            result = trust_live.run(seconds, rate, seed, step)
        emit(result, json, lambda: show(result))
        return
    if part == "cost":
        from upwell.bench.trust_cost import cost

        result = cost(1_000_000, 100_000, 100_000, 4_096, 50, seed)
        emit(result, json, lambda: show(result))
        return
    result = on_platforms(part, seeds, days, arm, adapt, world, set, out)
    emit(result, json, lambda: show(result))


def on_platforms(
    part: str, seeds: int, days: int, arm: str, adapt: int, world: Path | None, set: list[str] | None, out: Path
) -> dict[str, Any]:
    """The parts that live platforms."""
    try:
        from upwell.bench import trust as bench
    except ModuleNotFoundError as error:
        raise BadRequest(f"bench trust needs {error.name}: pip install 'upwell[learn]'") from None
    from upwell.arms.registry import members
    from upwell.bench import trust_stakes as stakes
    from upwell.learn import cheats
    from upwell.learn import trust as fitting
    from upwell.regulator.trust import judge
    from upwell.world.config import SCENARIOS

    config = build_world(world or SCENARIOS / "trust.toml", set, None, None)
    if not config.sizes.visits:
        raise BadRequest("this world has no direct visits (sizes.visits is 0): nobody is judged there")
    (played,), heads = members(arm), judge.shipped()
    if part == "fit":
        with progress("days of platforms", 4 * seeds * days) as step:
            fitted = fitting.fit(config, played, heads, seeds, days, 4, step)
        fitting.write(fitted, out)
        return {"heads": str(out)}
    history: list[dict[str, float]] = []
    if adapt and part != "money":
        with progress("days of platforms on which cheats adapt", 2 * adapt * days) as step:
            config, history = cheats.adapted(config, played, heads, adapt, days, 2_000, step)
    if part == "detection":
        with progress("days of platforms", 3 * seeds * days) as step:
            result = bench.detection(config, played, heads, seeds, days, step)
    elif part == "money":
        with progress("days of platforms", 4 * seeds * days) as step:
            result = stakes.money(config, played, heads, range(1, 1 + seeds), days, step)
    else:
        budgets = (0.3, 1.0, 3.0, 10.0)
        with progress("days of platforms", (1 + len(budgets)) * seeds * days) as step:
            result = stakes.incentive(config, played, heads, budgets, range(1, 1 + seeds), days, step)
    return result | {"adapted": history}


def show(result: dict[str, Any]) -> None:
    """For people."""
    flat = dict[str, Any]()

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict) and set(value) != {"mean", "low", "high"}:
            for key, inner in value.items():
                walk(f"{prefix}{key} ", inner)
        elif isinstance(value, dict):
            flat[prefix] = f"{value['mean']:.3f} ({value['low']:.3f} to {value['high']:.3f})"
        elif isinstance(value, float):
            flat[prefix] = f"{value:.3f}"
        elif not isinstance(value, list):
            flat[prefix] = str(value)

    walk("", result)
    table("trust", ["figure", "value"], [[name.strip(), value] for name, value in flat.items()])
