"""The page and the Markdown table of a sensitivity study."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from upwell import files
from upwell.experiment import page
from upwell.experiment.markdown import lines_of
from upwell.experiment.sensitivity import FIGURES

SHOWN = 12
"""Parameters shown in each plot: those that move it most."""
COLOUR = {"low": "#2563eb", "high": "#d97706"}
DECIMALS = {"objective": 3, "interest_tags": 2}


def figure_of(name: str, value: float) -> str:
    """A figure for people: shares as per cents."""
    if not math.isfinite(value):
        return "?"
    return f"{value:.{DECIMALS[name]}f}" if name in DECIMALS else f"{100 * value:.1f}%"


def swing(parameter: dict[str, Any], name: str) -> float:
    """How far the figure lies apart at the two values."""
    told = parameter["figures"][name]
    apart = abs(told["high"] - told["low"])
    return apart if math.isfinite(apart) else -1.0


def rows(result: dict[str, Any]) -> list[list[str]]:
    """A row a parameter, after the world as it is and the noise; of each figure the values at low and high."""
    listed = [
        ["as it is", "", *(figure_of(name, result["base"][name]) for name in FIGURES)],
        ["noise of a change, ±", "", *(figure_of(name, result["noise"][name]) for name in FIGURES)],
    ]
    for parameter in result["parameters"]:
        told = parameter["figures"]
        cells = [f"{figure_of(n, told[n]['low'])} … {figure_of(n, told[n]['high'])}" for n in FIGURES]
        listed.append([parameter["key"], f"{parameter['low']:.4g} … {parameter['high']:.4g}", *cells])
    return listed


def head() -> list[str]:
    return ["parameter", "from … to", *FIGURES.values()]


def markdown(result: dict[str, Any]) -> str:
    """The table, in Markdown."""
    return lines_of([head(), *rows(result)]) + "\n"


def write_page(name: str, result: dict[str, Any], path: Path) -> None:
    """Write the page, and the table beside it as Markdown; ``name``: the world's."""
    seeds = len(result["seeds"])
    parts = [
        f"<h1>Sensitivity: {page.text(name)}</h1>",
        page.paragraph(
            f"{result['users']:,} users, {result['contents']:,} contents, {result['days']} days after "
            f"{result['burn_in']} days of raw ranking, {seeds} seed{'s' * (seeds > 1)}. One assumed parameter at a "
            "time is changed, nothing is refitted, and the seeds are the same everywhere."
        ),
        page.section(
            "What moves each figure most",
            f"The figure with the parameter lowered and raised; the {SHOWN} that move it most. Grey: within the noise "
            "of a change (95%), from the spread over seeds.",
            tornado(result),
        ),
        page.section("All parameters", "The figure with the parameter at its lower … higher value.",
                     page.table(head(), rows(result))),
        page.section("Elasticities", "Relative change of the figure over relative change of the parameter.",
                     page.table(["parameter", *FIGURES.values()], elasticities(result))),
    ]  # fmt: skip
    page.write(f"{name}: sensitivity", parts, path)
    files.put(path.with_name("table.md"), markdown(result))


def elasticities(result: dict[str, Any]) -> list[list[str]]:
    told = [(p["key"], [p["figures"][name]["elasticity"] for name in FIGURES]) for p in result["parameters"]]
    return [[key, *(f"{v:+.2f}" if math.isfinite(v) else "?" for v in values)] for key, values in told]


def tornado(result: dict[str, Any]) -> go.Figure:
    """Bars from the figure as it is to what it becomes."""
    plot = make_subplots(rows=3, cols=2, subplot_titles=list(FIGURES.values()), horizontal_spacing=0.2)
    for i, name in enumerate(FIGURES):
        where: dict[str, Any] = {"row": i // 2 + 1, "col": i % 2 + 1}
        most = sorted(result["parameters"], key=lambda p: swing(p, name))[-SHOWN:]
        base, noise = result["base"][name], result["noise"][name]
        if math.isfinite(noise) and math.isfinite(base):
            plot.add_vrect(x0=base - noise, x1=base + noise, fillcolor="#9ca3af", opacity=0.25, line_width=0, **where)
        for side, colour in COLOUR.items():
            plot.add_bar(
                y=[page.text(p["key"]) for p in most], x=[p["figures"][name][side] - base for p in most], base=base,
                orientation="h", name={"low": "lowered", "high": "raised"}[side], marker_color=colour,
                legendgroup=side, showlegend=i == 0, customdata=[p[side] for p in most],
                hovertemplate="%{y} = %{customdata:.4g}: %{x:.4g}", **where,
            )  # fmt: skip
    return page.layout(plot, 1_100, barmode="overlay")
