"""The page of a scenario: the objective day by day, and what became of each version of the policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from upwell.experiment import page


def write_page(name: str, found: dict[str, Any], path: Path) -> None:
    """Write the page. ``found``: what ``scenarios.run_all`` found."""
    parts = [
        f"<h1>Learning: {page.text(name)}</h1>",
        page.section("Objective", "Of each day, with money as it was to be expected.", objective(found["objective"])),
        *(f"<h2>Versions: {page.text(life)}</h2>{versions(of)}" for life, of in found["versions"].items() if of),
    ]
    page.write(f"learning {name}", parts, path)


def objective(curves: dict[str, list[float]]) -> go.Figure:
    plot = go.Figure()
    for i, (life, curve) in enumerate(curves.items()):
        plot.add_scatter(x=list(range(1, len(curve) + 1)), y=curve, name=life, line_color=page.COLOURS[i])
    plot.update_xaxes(title="day")
    return page.layout(plot)


def versions(of: list[dict[str, Any]]) -> str:
    rows = [
        f"<tr><td>{page.text(one['id'])}</td><td>{page.when(event['at_ms'])}</td><td>{page.text(event['what'])}</td>"
        f"<td>{event['share']:.0%}</td><td>{page.text(event['why'])}</td></tr>"
        for one in of
        for event in one["history"]
    ]
    head = "<tr><th>version</th><th>when</th><th>what</th><th>users</th><th>why</th></tr>"
    return f"<table>{head}{''.join(rows)}</table>"
