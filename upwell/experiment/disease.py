"""What feedback does: the same young platform under a ranker that learns from what it showed, and one that does not.

Both start healthy, from the same seed. What they have in common is the world's doing; what differs, the feedback's.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from upwell.arms.raw import raw
from upwell.experiment import metrics, page
from upwell.experiment.stats import interval
from upwell.world import world
from upwell.world.config import WorldConfig

SHOWN = {"interest_tags": "tags a user engages in 7 days", "top100_share": "exposure of the top 100 contents"}
KEPT = (*SHOWN, "exposure_gini", "ctr", "d7_retention", "satisfaction_mean")
LATE = 7
"""Days at the end that are compared."""
COLOUR = {"feedback": "#b91c1c", "no_feedback": "#059669"}
SAID = {"feedback": "the ranker learns from what it showed", "no_feedback": "the ranker does not learn"}


def run(config: WorldConfig, seeds: int, days: int, step: Callable[[], None]) -> dict[str, Any]:
    """Live ``days`` from a healthy start with and without feedback.

    Returns:
        {"feedback", "no_feedback"} → {"daily": metric → mean over seeds, one a day; "by_seed": metric →
        ``[seeds, days]``; "lorenz_first", "lorenz_last": cumulative exposure of the poorest 0, 1, … 100%}; and
        "difference" → metric → what feedback changed, mean of the last days, with its 95% interval over seeds.
    """
    result: dict[str, Any] = {}
    for name, feedback in (("feedback", config.ranker.feedback or 1.0), ("no_feedback", 0.0)):
        changed = config.override({"ranker.feedback": feedback})
        curves: list[dict[str, list[float]]] = []
        lorenz: list[list[list[float]]] = []
        for seed in range(seeds):
            state, today = world.reset(changed, seed), []
            rows: list[dict[str, float]] = []
            for _ in range(days):
                state, report = world.run_day(changed, raw, state)
                rows.append(metrics.daily(changed, world.to_host(report)))
                today.append(np.asarray(report["today"]))
                step()
            curves.append({key: [row[key] for row in rows] for key in KEPT})
            lorenz.append([metrics.lorenz(today[0]), metrics.lorenz(today[-1])])
        by_seed = {key: [curve[key] for curve in curves] for key in KEPT}
        first, last = np.mean(lorenz, axis=0)
        result[name] = {
            "daily": {key: np.mean(values, axis=0).tolist() for key, values in by_seed.items()},
            "by_seed": by_seed,
            "lorenz_first": first.tolist(),
            "lorenz_last": last.tolist(),
        }
    result["difference"] = {
        key: interval(late(result["feedback"], key) - late(result["no_feedback"], key))._asdict() for key in KEPT
    }
    return result


def late(lived: dict[str, Any], key: str) -> np.ndarray:
    """Mean of the last days ``[seeds]``."""
    return np.array(lived["by_seed"][key])[:, -LATE:].mean(1)


def effect(name: str, difference: dict[str, float]) -> str:
    """What feedback did to a metric, as far as the seeds tell."""
    low, high = difference["low"], difference["high"]
    said = f"Feedback changes {name} by {difference['mean']:+.3g}, last {LATE} days"
    if not np.isfinite(low):
        return f"{said} (one seed: no interval)."
    told = "" if low > 0.0 or high < 0.0 else ": not to be told from no effect"
    return f"{said} (95% interval {low:+.3g} to {high:+.3g}){told}."


def write_page(config: WorldConfig, result: dict[str, Any], path: Path) -> None:
    """Both curves and the exposure before and after, on one self-contained page."""
    ill = result["feedback"]["daily"]
    days, seeds = len(ill["interest_tags"]), len(result["feedback"]["by_seed"]["interest_tags"])
    said = [
        f"{SAID[name][0].upper()}{SAID[name][1:]}: tags engaged in 7 days go from "
        f"{max(result[name]['daily']['interest_tags'][:8]):.1f} (first week's highest) to "
        f"{result[name]['daily']['interest_tags'][-1]:.1f}, the top 100's share of exposure from "
        f"{result[name]['daily']['top100_share'][0]:.0%} to {result[name]['daily']['top100_share'][-1]:.0%}."
        for name in SAID
    ]
    said += [effect(name, result["difference"][key]) for key, name in SHOWN.items()]
    parts = [
        f"<h1>{page.text(config.name)}: what the ranker's feedback does</h1>",
        page.paragraph(
            f"{config.sizes.users:,} users, {config.sizes.contents:,} contents, {days} days from a healthy start, "
            f"{seeds} seed{'s' * (seeds > 1)}, raw ranking; the one difference is ranker.feedback."
        ),
        page.box("verdict", said),
        page.section(
            "Day by day",
            f"The ranker begins to learn on day {int(config.ranker.learns_from_day) + 1}. Thin lines: seeds.",
            curves(config, result),
        ),
        page.section(
            "Who gets the exposure",
            "Lorenz curves of a day's impressions: the nearer to the corner, the more the few have.",
            lorenz(result),
        ),
    ]
    page.write(f"{config.name}: the disease", parts, path)


def curves(config: WorldConfig, result: dict[str, Any]) -> go.Figure:
    figure = make_subplots(rows=1, cols=2, subplot_titles=list(SHOWN.values()))
    for i, key in enumerate(SHOWN):
        where: dict[str, Any] = {"row": 1, "col": i + 1}
        for name, label in SAID.items():
            mean = result[name]["daily"][key]
            days = list(range(1, len(mean) + 1))
            seeds = result[name]["by_seed"][key]
            for values in seeds if len(seeds) > 1 else []:
                figure.add_scatter(
                    x=days, y=values, line={"color": COLOUR[name], "width": 1}, opacity=0.3, hoverinfo="skip",
                    showlegend=False, **where,
                )  # fmt: skip
            figure.add_scatter(
                x=days, y=mean, name=label, line_color=COLOUR[name], legendgroup=name, showlegend=i == 0, **where
            )
        figure.add_vline(x=float(config.ranker.learns_from_day) + 0.5, line_dash="dot", line_color="#9ca3af", **where)
        figure.update_xaxes(title_text="day", **where)
        figure.update_yaxes(rangemode="tozero", **where)
    return page.layout(figure)


def lorenz(result: dict[str, Any]) -> go.Figure:
    figure, x = go.Figure(), list(range(101))
    for name, label in SAID.items():
        for when, dash in (("first", "dot"), ("last", "solid")):
            figure.add_scatter(
                x=x, y=100 * np.array(result[name][f"lorenz_{when}"]), name=f"{label}, {when} day",
                line={"color": COLOUR[name], "dash": dash},
            )  # fmt: skip
    return page.layout(figure, xaxis_title="contents with least exposure, %", yaxis_title="% of the day's impressions")
