"""``upwell train``: teach the three populations on a family of simulated platforms."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.live import Live
from rich.table import Table

from upwell.cli.common import Json, Overrides, Seed, WorldFile, build_world, emit, stderr, stdout
from upwell.errors import BadRequest


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: upwell train --minutes 30 --out out/train; go on later with --resume")(train)


def train(
    algorithm: Annotated[str, typer.Option(help="mappo or maddpg")] = "mappo",
    minutes: Annotated[float, typer.Option(help="of training in all, looks at the policy not counted", min=0.1)] = 30.0,
    world: WorldFile = None,
    set: Overrides = None,
    users: Annotated[int, typer.Option(help="users of each platform", min=64)] = 1_000,
    contents: Annotated[int, typer.Option(help="live contents of each", min=100)] = 2_500,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="folder of the run: settings, world, curve, checkpoint, policy")] = Path(
        "out/train"
    ),
    resume: Annotated[bool, typer.Option(help="go on with the run in --out, with its own settings")] = False,
    json: Json = False,
) -> None:
    """Train on a world and its relatives; the best policy on platforms held apart is kept in --out/policy.npz."""
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
    kept = out / "settings.json"
    if resume:
        if not kept.exists():
            raise BadRequest(f"{out}: no run to go on with; leave out --resume to begin one")
        settings = msgspec.json.decode(kept.read_bytes(), type=training.Settings)
        config = load_world(out / "world.toml")
    elif kept.exists():
        raise BadRequest(f"{out}: holds a run already; go on with --resume, or give another --out")
    else:
        sizes = [f"sizes.creators={max(contents // 10, 1)}"]
        config = build_world(world, [*sizes, *(set or [])], users, contents)
        settings = training.Settings(algorithm, seed, users, contents)
        out.mkdir(parents=True, exist_ok=True)
        (out / "world.toml").write_text(to_toml(config), encoding="utf-8")
        kept.write_bytes(msgspec.json.encode(settings))
    points = training.points(out / "curve.jsonl")
    with Live(console=stderr, refresh_per_second=2, transient=json) as screen:
        for point in training.run(config, settings, out, minutes, lambda: screen.update(standing(points, minutes))):
            points.append(point)
            curve.write_page(f"{config.name}, {settings.algorithm}", points, out / "curve.html")
    result = summary(points, out)
    emit(result, json, lambda: show(result))


def standing(points: list[Any], minutes: float) -> Table | str:
    """What a person watches: the last looks at the policy."""
    if not points:
        return "burning platforms in, then training; the first look comes after twenty episodes"
    view = Table(title=f"objective without noise, on platforms not trained on; {minutes:g} minutes in all")
    for name in ("minutes", "objective", "rules", "satisfaction", "tags", "cold start"):
        view.add_column(name, justify="right")
    best = max(points, key=lambda p: p.objective)
    for point in points[-12:]:
        m = point.metrics
        view.add_row(
            f"{point.seconds / 60:.1f}", f"{point.objective:.4f}{' *' if point is best else ''}", f"{point.rules:.4f}",
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
        "rules": best.rules,
        "iteration": best.iteration,
        "iterations": last.iteration,
        "seconds": last.seconds,
        "env_steps_per_second": last.requests / last.seconds,
        "satisfaction_mean": float(np.mean(of_half)),
        "satisfaction_std": float(np.std(of_half)),
        "curve": msgspec.to_builtins(points),
        "report": str(out / "curve.html"),
    }


def show(result: dict[str, Any]) -> None:
    stdout.print(
        f"best objective {result['objective']:.4f} at iteration {result['iteration']} of {result['iterations']} "
        f"(rules: {result['rules']:.4f}); {result['env_steps_per_second']:,.0f} requests/s"
    )
    stdout.print(f"policy: {result['policy']}\ncurve: {result['report']}")
