"""One self-contained HTML page of an experiment: numbers with intervals, and plots."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from upwell.experiment.runner import Plan, Run

COLOURS = ("#6b7280", "#2563eb", "#d97706", "#059669", "#7c3aed", "#db2777")
CURVES = ("interest_tags", "top100_share", "new_content_ctr", "cold_start_success", "satisfaction_mean", "gmv_per_dau")
STYLE = """
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:1100px;padding:2rem 1rem;color:#111827;background:#fff}
h1{margin:0}h2{margin:2.5rem 0 .25rem}p{color:#4b5563;margin:.25rem 0 1rem}
.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}
td,th{padding:.35rem .8rem;text-align:right;border-bottom:1px solid #e5e7eb}
td:first-child,th:first-child{text-align:left}
.differs{font-weight:600}small{color:#6b7280}
"""


def write_report(plan: Plan, runs: Sequence[Run], result: dict[str, Any], path: Path) -> None:
    """Write the page to ``path``; it needs no network."""
    figures = [
        (
            "Day by day",
            "Mean over seeds; the band is its 95% interval. All arms start from the same burnt-in platforms.",
            curves(plan, runs),
        ),
        (
            "Who gets the exposure",
            "Lorenz curves of a day's impressions: the nearer to the corner, the more the few have.",
            lorenz(plan, runs),
        ),
        ("Tags a user engages in a week", "Share of active users by number of tags, last day.", tags(plan, runs)),
        (
            "The life of new contents",
            "Impressions so far by age: median, and the band from the 10th to the 90th percentile.",
            lives(plan, runs),
        ),
        (
            "Heated share of impressions",
            "Over all impressions of a day; the cap is the dotted line.",
            heated(plan, runs),
        ),
    ]
    parts = [
        f"<h1>{html.escape(plan.config.name)}</h1>",
        f"<p>{result['users']:,} users, {result['contents']:,} contents, "
        f"{result['days']} days after {result['burn_in']} days of raw ranking, {len(result['seeds'])} seeds.</p>",
        "<h2>Results</h2><p>Mean ± half of the 95% interval over seeds. Bold: the paired difference from raw "
        "excludes 0.</p>",
        metric_table(plan, result),
        gap_table(result),
    ]
    for title, caption, figure in figures:
        parts.append(f"<h2>{html.escape(title)}</h2><p>{html.escape(caption)}</p>")
        parts.append(
            figure.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False, "responsive": True})
        )
    page = (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
        f"<title>Upwell: {html.escape(plan.config.name)}</title><style>{STYLE}</style>"
        f"<script>{get_plotlyjs()}</script></head>"
        f"<body>{''.join(parts)}</body></html>"
    )
    part = path.with_suffix(".part")
    part.write_text(page, encoding="utf-8")
    part.replace(path)


def metric_table(plan: Plan, result: dict[str, Any]) -> str:
    rows = [
        "<div class='wide'><table><tr><th>metric</th>"
        + "".join(f"<th>{html.escape(a)}</th>" for a in plan.arms)
        + "</tr>"
    ]
    for name in result["arms"]["raw"]:
        cells = [f"<td>{name}</td>"]
        for arm in plan.arms:
            value = result["arms"][arm][name]
            difference = result["versus_raw"].get(arm, {}).get(name)
            differs = bool(difference) and (difference["low"] > 0 or difference["high"] < 0)
            half = (value["high"] - value["low"]) / 2
            cells.append(
                f"<td class='{'differs' if differs else ''}'>{value['mean']:.4g} <small>± {half:.2g}</small></td>"
            )
        rows.append("<tr>" + "".join(cells) + "</tr>")
    return "".join(rows) + "</table></div>"


def gap_table(result: dict[str, Any]) -> str:
    if not result["oracle_gap_closed"]:
        return ""
    rows = "".join(
        f"<tr><td>{html.escape(arm)}</td><td>{gap['mean']:.3f}</td><td>{gap['low']:.3f} … {gap['high']:.3f}</td></tr>"
        for arm, gap in result["oracle_gap_closed"].items()
    )
    beaten = ", ".join(result["oracle_beaten"])
    note = f"<p>The oracle is beaten, so it is no upper bound here: {html.escape(beaten)}.</p>" if beaten else ""
    return (
        "<h2>Share of the gap from raw to oracle that is closed</h2>"
        f"<table><tr><th>arm</th><th>mean</th><th>95% interval</th></tr>{rows}</table>{note}"
    )


def colour(plan: Plan, arm: str) -> str:
    return COLOURS[plan.arms.index(arm) % len(COLOURS)]


def stacked(runs: Sequence[Run], arm: str, name: str) -> np.ndarray:
    """Daily values ``[seeds, days]``."""
    return np.array([run.daily[name] for run in runs if run.arm == arm])


def layout(figure: go.Figure, **more: Any) -> go.Figure:
    return figure.update_layout(
        template="plotly_white", height=420, margin={"l": 60, "r": 20, "t": 30, "b": 50}, **more
    )


def curves(plan: Plan, runs: Sequence[Run]) -> go.Figure:
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=2, cols=3, subplot_titles=CURVES)
    for i, name in enumerate(CURVES):
        where = {"row": i // 3 + 1, "col": i % 3 + 1}
        for arm in plan.arms:
            values = stacked(runs, arm, name)
            days = list(range(1, values.shape[1] + 1))
            mean = values.mean(0)
            half = 1.96 * values.std(0, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0 * mean
            band = {"x": days + days[::-1], "y": [*(mean + half), *(mean - half)[::-1]]}
            figure.add_scatter(
                **band,
                fill="toself",
                fillcolor=colour(plan, arm),
                opacity=0.15,
                line_width=0,
                hoverinfo="skip",
                showlegend=False,
                **where,
            )
            figure.add_scatter(
                x=days, y=mean, name=arm, line_color=colour(plan, arm), legendgroup=arm, showlegend=i == 0, **where
            )
    return layout(figure).update_layout(height=640)


def lorenz(plan: Plan, runs: Sequence[Run]) -> go.Figure:
    figure, x = go.Figure(), list(range(101))
    for arm in plan.arms:
        mean = np.mean([run.lorenz_after for run in runs if run.arm == arm], axis=0)
        figure.add_scatter(x=x, y=100 * mean, name=f"{arm}, last day", line_color=colour(plan, arm))
    first = np.mean([run.lorenz_before for run in runs if run.arm == "raw"], axis=0)
    figure.add_scatter(x=x, y=100 * first, name="raw, first day", line={"color": "#9ca3af", "dash": "dot"})
    return layout(figure, xaxis_title="poorest % of contents", yaxis_title="% of impressions")


def tags(plan: Plan, runs: Sequence[Run]) -> go.Figure:
    figure = go.Figure()
    for arm in plan.arms:
        mean = np.mean([run.tags for run in runs if run.arm == arm], axis=0)
        figure.add_bar(x=list(range(len(mean))), y=100 * mean, name=arm, marker_color=colour(plan, arm))
    return layout(figure, xaxis_title="tags", yaxis_title="% of active users")


def lives(plan: Plan, runs: Sequence[Run]) -> go.Figure:
    figure = go.Figure()
    for arm in plan.arms:
        level = {q: np.mean([run.life[q] for run in runs if run.arm == arm], axis=0) + 1 for q in ("10", "50", "90")}
        days = list(range(1, len(level["50"]) + 1))
        figure.add_scatter(
            x=days + days[::-1],
            y=[*level["90"], *level["10"][::-1]],
            fill="toself",
            fillcolor=colour(plan, arm),
            opacity=0.15,
            line_width=0,
            hoverinfo="skip",
            showlegend=False,
        )
        figure.add_scatter(x=days, y=level["50"], name=arm, line_color=colour(plan, arm))
    return layout(figure, xaxis_title="day of life", yaxis_title="impressions + 1", yaxis_type="log")


def heated(plan: Plan, runs: Sequence[Run]) -> go.Figure:
    figure = go.Figure()
    for arm in plan.arms:
        mean = stacked(runs, arm, "heated_share").mean(0)
        figure.add_scatter(x=list(range(1, len(mean) + 1)), y=100 * mean, name=arm, line_color=colour(plan, arm))
    figure.add_hline(y=100 * float(plan.config.heating.cap), line_dash="dot")
    return layout(figure, xaxis_title="day", yaxis_title="% of impressions")
