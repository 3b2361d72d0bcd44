"""``upwell train``: teach the three populations on a family of simulated platforms."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.live import Live
from rich.table import Table

from upwell.agents.dials import ROLES
from upwell.cli.common import Json, Overrides, Seed, emit, sized_world, stderr, stdout
from upwell.errors import BadRequest


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: upwell train --minutes 30 --out out/train; go on later with --resume")(train)


def train(
    algorithm: Annotated[str, typer.Option(help="mappo, maddpg or es")] = "mappo",
    minutes: Annotated[float, typer.Option(help="of training in all, looks at the policy not counted", min=0.1)] = 30.0,
    world: Annotated[
        list[Path] | None,
        typer.Option("--world", help="TOML world file, several for a policy for all; default: the reference platform"),
    ] = None,
    set: Overrides = None,
    users: Annotated[int, typer.Option(help="users of each platform", min=64)] = 4_000,
    contents: Annotated[int, typer.Option(help="live contents of each", min=100)] = 10_000,
    roles: Annotated[
        str, typer.Option(help="comma-separated: who learns; the others go on by the rules")
    ] = "user,content,system",
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="folder of the run: settings, world, curve, checkpoint, policy")] = Path(
        "out/train"
    ),
    resume: Annotated[bool, typer.Option(help="go on with the run in --out, with its own settings")] = False,
    json: Json = False,
) -> None:
    """Train on worlds and their relatives; the best policy on platforms held apart is kept in --out/policy.npz."""
    try:
        from upwell.learn import curve
        from upwell.learn import train as training
    except ModuleNotFoundError as error:
        raise BadRequest(
            f"training needs the extra 'learn' ({error.name} is missing): pip install 'upwell[learn]'"
        ) from None
    from upwell.world.config import load_world, to_toml

    if algorithm not in training.ALGORITHMS:
        raise BadRequest(f"unknown algorithm '{algorithm}': choose from {', '.join(training.ALGORITHMS)}")
    learning = tuple(roles.split(","))
    for role in learning:
        if role not in ROLES:
            raise BadRequest(f"unknown role '{role}': choose from {', '.join(ROLES)}")
    kept = out / "settings.json"
    if resume:
        if not kept.exists():
            raise BadRequest(f"{out}: no run to go on with; leave out --resume to begin one")
        settings = msgspec.json.decode(kept.read_bytes(), type=training.Settings)
        worlds = [load_world(path) for path in sorted((out / "worlds").glob("*.toml"))]
    elif kept.exists():
        raise BadRequest(f"{out}: holds a run already; go on with --resume, or give another --out")
    else:
        worlds = [sized_world(path, set, users, contents) for path in world or [None]]
        if any(each.sizes != worlds[0].sizes for each in worlds):
            raise BadRequest("--world: worlds trained on together need the same [sizes]")
        settings = training.Settings(algorithm, seed, users, contents, roles=learning)
        (out / "worlds").mkdir(parents=True, exist_ok=True)
        for number, each in enumerate(worlds):
            (out / "worlds" / f"{number:02}.toml").write_text(to_toml(each), encoding="utf-8")
        kept.write_bytes(msgspec.json.encode(settings))
    names, points = " and ".join(each.name for each in worlds), training.points(out / "curve.jsonl")
    with Live(console=stderr, refresh_per_second=2, transient=json) as screen:
        for point in training.run(worlds, settings, out, minutes, lambda: screen.update(standing(points, minutes))):
            points.append(point)
            curve.write_page(f"{names}, {settings.algorithm}", points, out / "curve.html")
    result = summary(points, out)
    emit(result, json, lambda: show(result))


def standing(points: list[Any], minutes: float) -> Table | str:
    """What a person watches: the last looks at the policy."""
    if not points:
        return "burning platforms in, then training; the first look comes after ten episodes"
    view = Table(title=f"objective without noise, on platforms not trained on; {minutes:g} minutes in all")
    for name in ("minutes", "objective", *points[0].rivals, "satisfaction", "tags", "cold start"):
        view.add_column(name, justify="right")
    best = max(points, key=lambda p: p.objective)
    for point in points[-12:]:
        m, mark = point.metrics, " *" if point is best else ""
        view.add_row(
            f"{point.seconds / 60:.1f}", f"{point.objective:.4f}{mark}",
            *(f"{value:.4f}" for value in point.rivals.values()),
            f"{m['satisfaction_mean']:.3f}", f"{m['interest_tags']:.2f}", f"{m['cold_start_success']:.1%}",
        )  # fmt: skip
    return view


def summary(points: list[Any], out: Path) -> dict[str, Any]:
    """The command's result."""
    import numpy as np

    if not points:
        raise BadRequest(f"{out}: the time was too short for one look at the policy; give more --minutes")
    last, half = points[-1], points[len(points) // 2 :]
    best = max(points, key=lambda p: p.objective)
    of_half = [point.metrics["satisfaction_mean"] for point in half]
    return {
        "policy": str(out / "policy.npz"),
        "objective": best.objective,
        "rivals": best.rivals,
        "seconds_to_beat": {name: beaten(points, name) for name in best.rivals},
        "iteration": best.iteration,
        "iterations": last.iteration,
        "seconds": last.seconds,
        "env_steps_per_second": last.requests / last.seconds,
        "satisfaction_mean": float(np.mean(of_half)),
        "satisfaction_std": float(np.std(of_half)),
        "curve": msgspec.to_builtins(points),
        "report": str(out / "curve.html"),
    }


def beaten(points: list[Any], rival: str) -> float | None:
    """Seconds of training until a look found the policy better than this, None while none did."""
    return next((point.seconds for point in points if point.objective > point.rivals[rival]), None)


def show(result: dict[str, Any]) -> None:
    others = ", ".join(f"{name} {value:.4f}" for name, value in result["rivals"].items())
    stdout.print(f"best objective {result['objective']:.4f} at iteration {result['iteration']} (others: {others})")
    stdout.print(f"{result['iterations']} iterations, {result['env_steps_per_second']:,.0f} requests/s")
    stdout.print(f"policy: {result['policy']}\ncurve: {result['report']}")
