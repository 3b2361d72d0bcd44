"""The page of a live experiment, and its looks as a table: what ``GET /v1/experiments/{id}`` tells, for people."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import polars as pl
from plotly.subplots import make_subplots

from upwell import files
from upwell.experiment import live_rows, page
from upwell.experiment.live_rows import value

DAY_MS = 86_400_000


def write_page(told: dict[str, Any], path: Path, more: Sequence[str] = ()) -> None:
    """Write the page; ``told``: the service's answer, ``more``: sections after the effects."""
    plan = told["plan"]
    verdicts = [line for one in told["verdicts"].values() for line in (one["why"], one["why_zh"])]
    metrics = list(told["arms"][0]["metrics"])
    arms = [
        [arm["arm"], f"{arm['users']:,}", f"{arm['slates']:,}", *(value(arm["metrics"][name]) for name in metrics)]
        for arm in told["arms"]
    ]
    history = [[page.when(event["at_ms"]), event["what"], event["who"], event["why"]] for event in told["history"]]
    parts = [
        f"<h1>{page.text(told['name'])}</h1>",
        page.box("warning" if told["sample_ratio_p"] < 0.001 else "verdict", verdicts),
        page.section("Arms", f"Since {page.when(told['since_ms'])}; the first is the control.",
                     page.table(["arm", "users", "slates", *metrics], arms)),
        *(
            page.section(f"{arm} over the control",
                         "Lifts with 95% intervals that hold however often one looks. Explained: of their variance, by"
                         " what users did while the experiment warmed up.",
                         page.table(live_rows.LIFTS, live_rows.lifts(effects)))
            for arm, effects in told["effects"].items()
        ),
        *(
            page.section(f"{arm}: for whom",
                         "Effects on segments, each against the rest, with intervals for one look at the end. p: of no"
                         " difference between the two, by Holm over the table.",
                         page.table(live_rows.SEGMENTS, live_rows.segments(rows)))
            for arm, rows in told["segments"].items() if rows
        ),
        *more,
        page.section("Look by look", "Lift of each arm over the control as it was known then, in its present stage.",
                     curves(told)),
        page.section("Checks", "All hold at every look together. Assignment is broken where the first is below .001;"
                     " arms that are alike should differ by nothing (A/A), and other experiments' arms be spread over"
                     " this one's as its users are (overlap).",
                     page.table(live_rows.CHECKS, live_rows.checks(told))),
        page.section("What became of it", "", page.table(["when", "what", "who", "why"], history)),
        page.section("Configuration", "As it was asked for.",
                     f"<pre>{page.text(json.dumps(plan, indent=1, ensure_ascii=False))}</pre>"),
    ]  # fmt: skip
    page.write(f"experiment {told['name']}", parts, path)


def write_data(told: dict[str, Any], path: Path) -> None:
    """All looks as Parquet: a row an arm and metric, with its lift over the control where it has one."""
    rows = [
        {
            "experiment": told["name"], "at_ms": look["at_ms"], "stage": look["stage"], "arm": arm["arm"],
            "users": arm["users"], "slates": arm["slates"], "metric": metric, "value": level,
            **dict.fromkeys(("lift", "low", "high", "p", "variance_reduction")),
            **look["effects"].get(arm["arm"], {}).get(metric, {}),
        }
        for look in told["looks"]
        for arm in look["arms"]
        for metric, level in arm["metrics"].items()
    ]  # fmt: skip
    schema = {
        "experiment": pl.String, "at_ms": pl.Int64, "stage": pl.Int64, "arm": pl.String, "users": pl.Int64,
        "slates": pl.Int64, "metric": pl.String, "value": pl.Float64, "lift": pl.Float64, "low": pl.Float64,
        "high": pl.Float64, "p": pl.Float64, "variance_reduction": pl.Float64,
    }  # fmt: skip
    with files.whole(path) as part:
        pl.DataFrame(rows, schema=schema).write_parquet(part)


def curves(told: dict[str, Any]) -> go.Figure:
    """Lift by time of the metric and the guardrails, of the present stage."""
    plan = told["plan"]
    names = list(dict.fromkeys([plan.get("metric", "ctr"), *(one["metric"] for one in plan.get("guardrails", []))]))
    figure = make_subplots(rows=len(names), cols=1, subplot_titles=names, vertical_spacing=0.25 / len(names))
    seen = [look for look in told["looks"] if look["stage"] == told["stage"]]
    for row, name in enumerate(names, 1):
        for i, arm in enumerate(told["effects"], 1):
            colour = page.COLOURS[i % len(page.COLOURS)]
            known = [(look["at_ms"], look["effects"][arm][name]) for look in seen]
            known = [(at, of) for at, of in known if None not in (of["lift"], of["low"], of["high"])]
            days = [(at - told["since_ms"]) / DAY_MS for at, _ in known]
            ends = [[100.0 * of[end] for _, of in known] for end in ("low", "high", "lift")]
            page.band(figure, days, ends[0], ends[1], colour, 0.15, row=row, col=1)
            figure.add_scatter(x=days, y=ends[2], name=arm, line_color=colour, legendgroup=arm, showlegend=row == 1,
                               row=row, col=1)  # fmt: skip
        figure.update_yaxes(title_text="lift, %", row=row, col=1)
    figure.update_xaxes(title_text="days", row=len(names), col=1)
    return page.layout(figure, 120 + 260 * len(names))
