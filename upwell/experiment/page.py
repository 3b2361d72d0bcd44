"""Self-contained HTML pages: text, tables and plots that need no network."""

from __future__ import annotations

import html
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from upwell import files

COLOURS = ("#6b7280", "#d97706", "#2563eb", "#059669", "#7c3aed", "#db2777", "#0891b2", "#b91c1c")
STYLE = """
body{font:16px/1.5 system-ui,"Noto Sans CJK SC",sans-serif;margin:0 auto;max-width:1100px;padding:2rem 1rem;
color:#111827;background:#fff}
h1{margin:0}h2{margin:2.5rem 0 .25rem}p{color:#4b5563;margin:.25rem 0 1rem;max-width:80ch}
.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;margin:.5rem 0}
td,th{padding:.35rem .8rem;text-align:right;border-bottom:1px solid #e5e7eb;white-space:nowrap}
td:first-child,th:first-child{text-align:left}
.differs{font-weight:600}small{color:#6b7280}
.verdict,.warning{border-left:4px solid #2563eb;background:#eff6ff;padding:.75rem 1rem;margin:1rem 0}
.warning{border-color:#b91c1c;background:#fef2f2}
.verdict p,.warning p{color:#111827;margin:.25rem 0;max-width:none}
"""


def text(value: str) -> str:
    """As HTML: whatever it says is shown, never run."""
    return html.escape(value)


def paragraph(value: str, lang: str = "") -> str:
    return f"<p{f' lang={lang!r}' if lang else ''}>{text(value)}</p>"


def when(at_ms: int) -> str:
    """A time of Unix ms, in UTC; nothing for 0."""
    return datetime.fromtimestamp(at_ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M") if at_ms else ""


def box(kind: str, lines: Sequence[str]) -> str:
    return f"<div class='{kind}'>{''.join(paragraph(line) for line in lines)}</div>" if lines else ""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells that are plain text."""
    lines = ["".join(f"<th>{text(cell)}</th>" for cell in head)]
    lines += ["".join(f"<td>{text(cell)}</td>" for cell in row) for row in rows]
    return "<div class='wide'><table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table></div>"


def section(title: str, caption: str, *content: str | go.Figure) -> str:
    parts = [f"<h2>{text(title)}</h2>", paragraph(caption)]
    for item in content:
        parts.append(
            item
            if isinstance(item, str)
            else item.to_html(
                full_html=False, include_plotlyjs=False, config={"displayModeBar": False, "responsive": True}
            )
        )
    return "".join(parts)


def layout(figure: go.Figure, height: int = 420, **more: Any) -> go.Figure:
    """The pages' look."""
    return figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": 60, "r": 20, "t": 60, "b": 50},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0 + 36.0 / height, "x": 0},
        font={"family": "system-ui, sans-serif", "size": 13},
        **more,
    )


def band(
    figure: go.Figure, x: Sequence[float], low: Any, high: Any, colour: str, strength: float, **where: Any
) -> None:
    """A filled band between two curves, under whatever is drawn next."""
    figure.add_scatter(
        x=[*x, *x[::-1]],
        y=[*low, *high[::-1]],
        mode="lines",
        fill="toself",
        fillcolor=colour,
        opacity=strength,
        line_width=0,
        hoverinfo="skip",
        showlegend=False,
        **where,
    )


def write(title: str, parts: Sequence[str], path: Path) -> None:
    """Write the page, whole or not at all."""
    page = (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
        f"<title>Upwell: {text(title)}</title><style>{STYLE}</style><script>{get_plotlyjs()}</script></head>"
        f"<body>{''.join(parts)}</body></html>"
    )
    files.put(path, page)
