"""The page of a training run: how good the policy was at each look, and how its learning went."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from upwell.experiment import page
from upwell.learn.train import Point

SHOWN = {
    "satisfaction_mean": "true satisfaction",
    "interest_tags": "tags a user engages in 7 days",
    "cold_start_success": "cold-start success",
    "net_gmv_per_dau": "GMV less heating per active user, yuan",
    "new_content_ctr": "click rate of new content",
    "heated_share": "heated share of impressions",
}


def write_page(title: str, points: Sequence[Point], path: Path) -> None:
    """Write the page."""
    parts = [
        f"<h1>Training: {page.text(title)}</h1>",
        page.section(
            "Objective", "On platforms that it is not trained on, without exploration noise; dashed: others there.",
            objective(points),
        ),
        page.section("What it is made of", "Means over the same platforms.", measured(points)),
        page.section(
            "Learning",
            "By role, as the algorithm reports it.",
            learning(points),
        ),
    ]  # fmt: skip
    page.write(f"training {title}", parts, path)


def objective(points: Sequence[Point]) -> go.Figure:
    x = [point.seconds / 60.0 for point in points]
    plot = go.Figure()
    plot.add_scatter(x=x, y=[p.objective for p in points], name="policy", line_color=page.COLOURS[4])
    for i, name in enumerate(points[0].rivals if points else ()):
        line = {"color": page.COLOURS[i], "dash": "dash"}
        plot.add_scatter(x=x, y=[p.rivals[name] for p in points], name=name, line=line)
    plot.update_xaxes(title="minutes of training")
    return page.layout(plot)


def measured(points: Sequence[Point]) -> go.Figure:
    plot = make_subplots(rows=2, cols=3, subplot_titles=list(SHOWN.values()))
    for i, name in enumerate(SHOWN):
        where: dict[str, Any] = {"row": i // 3 + 1, "col": i % 3 + 1}
        x, y = [p.seconds / 60.0 for p in points], [p.metrics[name] for p in points]
        plot.add_scatter(x=x, y=y, line_color=page.COLOURS[2], showlegend=False, **where)
    return page.layout(plot, 560)


def learning(points: Sequence[Point]) -> go.Figure:
    names = list(next(iter(points[0].learning.values()), {})) if points else []
    plot = make_subplots(rows=1, cols=max(len(names), 1), subplot_titles=[name.replace("_", " ") for name in names])
    for column, name in enumerate(names, start=1):
        for i, role in enumerate(points[0].learning):
            plot.add_scatter(
                x=[p.seconds / 60.0 for p in points], y=[p.learning[role][name] for p in points], name=role,
                legendgroup=role, showlegend=column == 1, line_color=page.COLOURS[i + 2], row=1, col=column,
            )  # fmt: skip
    return page.layout(plot)
