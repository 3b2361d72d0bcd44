"""The plots of an experiment's report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from upwell.experiment.page import COLOURS, band, layout
from upwell.experiment.runner import Plan, Run
from upwell.experiment.stats import interval
from upwell.experiment.story import Life
from upwell.experiment.traffic import AGES, TENTHS

CURVES = {
    "interest_tags": "tags a user engages in 7 days",
    "top100_share": "exposure of the top 100",
    "new_content_ctr": "click rate of new content",
    "cold_start_success": "cold-start success",
    "satisfaction_mean": "true satisfaction",
    "gmv_per_dau": "GMV per active user, yuan",
}


def colour(plan: Plan, arm: str) -> str:
    return COLOURS[plan.arms.index(arm) % len(COLOURS)]


def of(runs: Sequence[Run], arm: str) -> list[Run]:
    return [run for run in runs if run.arm == arm]


def stacked(runs: Sequence[Run], arm: str, name: str) -> np.ndarray:
    """Daily values ``[seeds, days]``."""
    return np.array([run.daily[name] for run in of(runs, arm)])


def curves(plan: Plan, runs: Sequence[Run]) -> go.Figure:
    figure = make_subplots(rows=2, cols=3, subplot_titles=list(CURVES.values()), vertical_spacing=0.14)
    for i, name in enumerate(CURVES):
        where = {"row": i // 3 + 1, "col": i % 3 + 1}
        for arm in plan.arms:
            values = stacked(runs, arm, name)
            days = list(range(1, values.shape[1] + 1))
            mean, low, high = np.array([interval(day) for day in values.T]).T
            if len(values) > 1:
                band(figure, days, np.maximum(low, 0.0), high, colour(plan, arm), 0.15, **where)  # none is negative
            figure.add_scatter(
                x=days, y=mean, name=arm, mode="lines", line_color=colour(plan, arm), legendgroup=arm,
                showlegend=i == 0, **where,
            )  # fmt: skip
    return layout(figure, 640)


def lorenz(plan: Plan, runs: Sequence[Run]) -> go.Figure:
    figure, x = go.Figure(), list(range(101))
    for arm in plan.arms:
        mean = np.mean([run.lorenz_after for run in of(runs, arm)], axis=0)
        figure.add_scatter(x=x, y=100 * mean, name=f"{arm}, last day", line_color=colour(plan, arm))
    first = np.mean([run.lorenz_before for run in of(runs, "raw")], axis=0)
    figure.add_scatter(x=x, y=100 * first, name="raw, first day", line={"color": "#111827", "dash": "dot"})
    return layout(figure, xaxis_title="contents with least exposure, %", yaxis_title="% of the day's impressions")


def tags(plan: Plan, runs: Sequence[Run]) -> go.Figure:
    figure = go.Figure()
    for arm in plan.arms:
        mean = np.mean([run.tags for run in of(runs, arm)], axis=0)
        figure.add_scatter(
            x=list(range(len(mean))), y=100 * mean, name=arm, line={"color": colour(plan, arm), "shape": "hvh"}
        )
    return layout(figure, xaxis_title="distinct tags in the last 7 days", yaxis_title="% of active users")


def lives(plan: Plan, runs: Sequence[Run]) -> go.Figure:
    figure = make_subplots(rows=1, cols=len(plan.arms), subplot_titles=list(plan.arms), shared_yaxes=True)
    for i, arm in enumerate(plan.arms):
        where: dict[str, Any] = {"row": 1, "col": i + 1}
        level = {q: np.mean([run.life[q] for run in of(runs, arm)], axis=0) + 1 for q in of(runs, arm)[0].life}
        days = list(range(1, len(level["50"]) + 1))
        band(figure, days, level["10"], level["90"], colour(plan, arm), 0.15, **where)
        band(figure, days, level["25"], level["75"], colour(plan, arm), 0.3, **where)
        for q, dash in (("50", "solid"), ("99", "dot")):
            figure.add_scatter(
                x=days, y=level[q], mode="lines", line={"color": colour(plan, arm), "dash": dash}, showlegend=False,
                **where,
            )  # fmt: skip
        figure.update_xaxes(title_text="day of life", **where)
    figure.update_yaxes(type="log")
    return layout(figure, yaxis_title="impressions so far + 1")


def heated(plan: Plan, runs: Sequence[Run]) -> go.Figure:
    figure = go.Figure()
    for arm in plan.arms:
        mean = stacked(runs, arm, "heated_share").mean(0)
        figure.add_scatter(x=list(range(1, len(mean) + 1)), y=100 * mean, name=arm, line_color=colour(plan, arm))
    cap = 100 * float(plan.config.heating.cap)
    figure.add_hline(y=cap, line_dash="dot", annotation_text="cap in any hour")
    return layout(figure, 320, xaxis_title="day", yaxis_title="% of impressions").update_yaxes(range=[0, 1.15 * cap])


def traffic(plan: Plan, runs: Sequence[Run]) -> go.Figure:
    """Heated impressions of each arm that heats, by what they went to; all of raw's impressions as the yardstick."""
    order = [f"{i + 1}" for i in range(TENTHS)]
    panels = {
        "age": ("age of the content, days", list(AGES)),
        "quality": ("true quality, tenths from low to high (the world's truth)", order),
        "followers": ("the creator's followers, tenths from few to many", order),
    }
    titles = [title for title, _ in panels.values()]
    figure = make_subplots(rows=len(panels), cols=1, subplot_titles=titles, vertical_spacing=0.11)

    def mean(arm: str, name: str, what: str) -> np.ndarray:
        return 100 * np.mean([run.traffic[name][what] for run in of(runs, arm)], axis=0)

    for i, (name, (_, labels)) in enumerate(panels.items()):
        where: dict[str, Any] = {"row": i + 1, "col": 1}
        for arm in plan.arms:
            if mean(arm, name, "heated").any():
                figure.add_bar(
                    x=labels, y=mean(arm, name, "heated"), name=f"{arm}, heated", marker_color=colour(plan, arm),
                    legendgroup=arm, showlegend=i == 0, **where,
                )  # fmt: skip
        figure.add_scatter(
            x=labels, y=mean("raw", name, "all"), name="raw, all impressions", mode="lines+markers",
            line={"color": "#111827", "dash": "dot"}, legendgroup="all", showlegend=i == 0, **where,
        )  # fmt: skip
        figure.update_xaxes(type="category", **where)
        figure.update_yaxes(title_text="% of impressions", **where)
    return layout(figure, 820)


def story(life: Life, arm: str) -> go.Figure:
    """A content day by day under the arm, and under raw ranking; below, its clicks."""
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.7, 0.3], vertical_spacing=0.06)
    days = list(range(1, len(life.organic) + 1))
    inside = [heated - outside for heated, outside in zip(life.heated, life.outside, strict=True)]
    # Explored impressions are organic in the content's record; those outside its tags stand with what is outside.
    bars = {
        f"{arm}: organic": ([o + min(i, 0) for o, i in zip(life.organic, inside, strict=True)], "#2563eb"),
        "heated, its own tags": ([max(i, 0) for i in inside], "#fbbf24"),
        "heated or explored, outside its tags": (life.outside, "#dc2626"),
    }
    for name, (values, shade) in bars.items():
        figure.add_bar(x=days, y=values, name=name, marker_color=shade, row=1, col=1)
    figure.add_scatter(
        x=days, y=life.raw, name="the same content under raw", mode="lines+markers",
        line={"color": "#111827", "dash": "dot"}, row=1, col=1,
    )  # fmt: skip
    figure.add_bar(x=days, y=life.clicks, name="clicks", marker_color="#059669", row=2, col=1)
    figure.update_yaxes(title_text="impressions", row=1, col=1)
    figure.update_yaxes(title_text="clicks", row=2, col=1)
    figure.update_xaxes(title_text="day of life", row=2, col=1)
    return layout(figure, 560, barmode="stack", legend_traceorder="normal")
