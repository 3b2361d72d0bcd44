"""What a goal's weights do: the same arm on the same platforms under goals all over the simplex, nothing retrained.

Along each of three lines one weight's share goes from none to all while the other two split the rest evenly. Every
goal on every seed is one JSON file, from the same burnt-in platform: raw ranking knows no goal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from upwell.arms.registry import label, members
from upwell.experiment import page
from upwell.experiment.runner import Plan, lived
from upwell.experiment.stats import interval
from upwell.experiment.tuning import Trial, load, path_of, save
from upwell.goals.weights import NAMES
from upwell.world import world
from upwell.world.state import WorldState

METRICS = {
    "satisfaction_mean": "true satisfaction",
    "net_gmv_per_dau": "GMV per active user less heating, yuan",
    "cold_start_success": "cold-start success",
    "interest_diversity": "breadth of interest",
    "d7_retention": "users who return after 7 days",
    "new_content_ctr": "click rate of new content",
    "ctr": "click rate",
    "heated_share": "heated share of impressions",
}
"""Those that are drawn."""
COLOUR = dict(zip(NAMES, ("#2563eb", "#d97706", "#059669"), strict=True))

Goal = tuple[float, float, float]


def goal_at(weight: str, share: float) -> Goal:
    """The weight has this share, the other two split the rest."""
    rest = (1.0 - share) / 2.0
    first, second, third = (round(share if name == weight else rest, 6) for name in NAMES)
    return first, second, third


def goals(points: int) -> list[Goal]:
    """All goals of the three lines, each once: ``points`` on every line, both ends among them."""
    shares = [i / (points - 1) for i in range(points)]
    return list(dict.fromkeys(goal_at(weight, share) for weight in NAMES for share in shares))


def values_of(goal: Goal) -> dict[str, float]:
    return {f"goal.{name}": value for name, value in zip(NAMES, goal, strict=True)}


def file_of(plan: Plan, out: Path, goal: Goal, seed: int) -> Path:
    return path_of(out, label(plan.arms[0]), "-".join(f"{value:.3f}" for value in goal), seed)


def days_left(plan: Plan, points: int, out: Path) -> int:
    """Simulated days still to do, for the progress bar. Raises BadRequest where ``out`` holds another study."""
    days = 0
    for seed in plan.seeds:
        found = [load(file_of(plan, out, goal, seed), plan.stamp(), values_of(goal)) for goal in goals(points)]
        days += plan.days * found.count(None) + plan.burn_in * (None in found)
    return days


def run(plan: Plan, points: int, out: Path, step: Callable[[], None]) -> dict[str, Any]:
    """Run what is missing in ``out`` of the plan's one arm, and say what it tells.

    Returns:
        "goals": of each its "weights" and, by metric, mean and 95% interval over seeds; "lines": by weight, the
        places in "goals" of its line from none to all; "effects": by weight and metric, what going from none to all
        of it changes, with its paired interval.
    """
    (arm,) = members(plan.arms[0])
    every = goals(points)
    found = np.zeros((len(every), len(plan.seeds), len(METRICS)))
    for s, seed in enumerate(plan.seeds):
        state: WorldState | None = None
        for g, goal in enumerate(every):
            path, values = file_of(plan, out, goal, seed), values_of(goal)
            done = load(path, plan.stamp(), values)
            if done is None:
                state = world.burnt_in(plan.config, seed, plan.burn_in, step) if state is None else state
                measured = lived(plan.config.override(values), arm, state, plan.days, step)
                done = Trial(plan.stamp(), values, arm.name, measured)
                save(path, done)
            found[g, s] = [done.metrics[name] for name in METRICS]
    return told(every, points, found) | {"arm": plan.arms[0], "seeds": list(plan.seeds)}


def told(every: Sequence[Goal], points: int, found: np.ndarray) -> dict[str, Any]:
    """The result of metrics ``[goals, seeds, metrics]``."""

    def each(values: np.ndarray) -> dict[str, dict[str, float]]:  # [seeds, metrics]
        return {name: interval(values[:, m])._asdict() for m, name in enumerate(METRICS)}

    shares = [i / (points - 1) for i in range(points)]
    lines = {weight: [every.index(goal_at(weight, share)) for share in shares] for weight in NAMES}
    return {
        "goals": [{"weights": goal, "metrics": each(found[g])} for g, goal in enumerate(every)],
        "lines": lines,
        "shares": shares,
        "effects": {weight: each(found[line[-1]] - found[line[0]]) for weight, line in lines.items()},
    }


def rows(result: dict[str, Any]) -> list[list[str]]:
    """A row a metric: what going from none to all of each weight changes."""
    effects = result["effects"]
    return [[said, *(change(effects[weight][name]) for weight in NAMES)] for name, said in METRICS.items()]


def change(effect: dict[str, float]) -> str:
    return f"{effect['mean']:+.4f} ({effect['low']:+.4f} … {effect['high']:+.4f})"


def head() -> list[str]:
    return ["from none to all of", *NAMES]


def write_page(name: str, result: dict[str, Any], path: Path) -> None:
    """Write the page; ``name``: the world's."""
    seeds = len(result["seeds"])
    parts = [
        f"<h1>What the weights do: {page.text(result['arm'])} in {page.text(name)}</h1>",
        page.paragraph(
            f"One weight's share of the goal goes from none to all while the other two split the rest; {seeds} "
            f"seed{'s' * (seeds > 1)}, the same platforms everywhere, nothing retrained."
        ),
        page.section("Metrics over the simplex", "Bars: 95% intervals over seeds of the level, which the lines share.",
                     curves(result)),
        page.section("From none to all of a weight", "Paired over seeds, with 95% intervals.",
                     page.table(head(), rows(result))),
    ]  # fmt: skip
    page.write(f"{name}: what the weights do", parts, path)


def curves(result: dict[str, Any]) -> go.Figure:
    figure = make_subplots(rows=4, cols=2, subplot_titles=list(METRICS.values()), vertical_spacing=0.08)
    for m, name in enumerate(METRICS):
        where: dict[str, Any] = {"row": m // 2 + 1, "col": m % 2 + 1}
        for weight in NAMES:
            values = [result["goals"][place]["metrics"][name] for place in result["lines"][weight]]
            error = [v["high"] - v["mean"] for v in values] if len(result["seeds"]) > 1 else None
            figure.add_scatter(
                x=[100 * share for share in result["shares"]], y=[v["mean"] for v in values], name=weight,
                error_y={"array": error, "thickness": 1} if error else None, line_color=COLOUR[weight],
                legendgroup=weight, showlegend=m == 0, **where,
            )  # fmt: skip
        figure.update_xaxes(title_text="share of the weight, %" if m >= len(METRICS) - 2 else "", **where)
    return page.layout(figure, 1_200)
