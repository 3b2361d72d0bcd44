"""A goal's life, live: asked for in words, proposed, approved, in force, lifted; beside the same days without it.

The real service decides for the simulated platform's users over HTTP, its proposer beside it. While a proposal is
looked for the platform's clock stands still. Both lives begin alike and have the same chances; the weights differ.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from upwell.demo import run
from upwell.demo.bootstrap import DAY_MS, time_ms
from upwell.demo.kept import once
from upwell.demo.live import Platform
from upwell.demo.run import Live
from upwell.errors import UpwellError
from upwell.experiment import metrics, page, proof
from upwell.experiment.stats import interval
from upwell.world import world
from upwell.world.config import WorldConfig, to_toml
from upwell.world.state import WorldState

ID = "story"
WATCHED = {
    "gmv_per_day": "GMV a day, yuan",
    "d1_retention": "users who return the next day",
    "satisfaction_mean": "true satisfaction",
    "interest_diversity": "breadth of interest",
    "ctr": "click rate",
    "heated_share": "heated share of impressions",
}
"""Metrics that are told of and drawn."""
LOOK_S, PATIENCE_S = 0.5, 3_600.0


class Story(NamedTuple):
    """What is asked for, on the morning of which day, and on the morning of which it is lifted, from 0."""

    text: str
    begins: int
    ends: int
    days: int


class Told(NamedTuple):
    """One platform's two lives: metrics by day, and what became of the goal."""

    without: list[dict[str, float]]
    under: list[dict[str, float]]
    goal: dict[str, Any]


class Life(msgspec.Struct):
    """A life's metrics by day, and what became of its goal; kept."""

    days: list[dict[str, float]]
    degraded: int
    goal: dict[str, Any] = {}


def lived(config: WorldConfig, seed: int, burn_in: int, story: Story, kept: Path, step: Callable[[], None]) -> Told:
    """Both lives of a platform; those that ``kept`` holds are not lived again. Raises UpwellError where nothing is
    proposed."""
    kept.mkdir(parents=True, exist_ok=True)
    world_file = kept / f"world-{seed}.toml"
    world_file.write_text(to_toml(config), "utf-8")
    begins: WorldState | None = None

    def one(goal: dict[str, Any], morning: run.Morning, **given: object) -> Life:
        nonlocal begins
        begins = begins if begins is not None else world.burnt_in(config, seed, burn_in, step)
        found = run.live(config, begins, story.days, lambda figures: step(), float("inf"), morning, **given)
        days = [proof.expected(metrics.daily(config, report)) for report in found.reports]
        return Life(days, found.figures.degraded, goal)

    goal: dict[str, Any] = {}
    without = once(kept / f"without-{seed}.json", Life, lambda: one({}, lambda day, state, live: state))
    under = once(kept / f"under-{seed}.json", Life, lambda: one(goal, mornings(story, goal), goals_world=world_file))
    return Told(without.days, under.days, under.goal | {"degraded": without.degraded + under.degraded})


def mornings(story: Story, goal: dict[str, Any]) -> run.Morning:
    """What an operator does on which morning; what came of it is put into ``goal``."""

    def morning(day: int, state: WorldState, live: Live) -> WorldState:
        now_ms = time_ms(24.0 * float(state.day))
        if day == story.begins:
            goal.update(asked(live.platform, story, now_ms))
        elif day == story.ends and held(live.platform, now_ms)["state"] == "live":
            live.platform.operate("DELETE", f"/v1/goals/{ID}?why=it+is+over", None, now_ms)
        if day == story.days:
            goal["history"] = held(live.platform, now_ms)["history"]
            goal["audit"] = live.platform.operate("GET", "/v1/audit", None, now_ms)["entries"]
        return state

    return morning


def asked(platform: Platform, story: Story, now_ms: int) -> dict[str, Any]:
    """Ask, wait for the proposal, approve it, and see how soon it decides. Raises UpwellError."""
    until_ms = now_ms + (story.ends - story.begins + 1) * DAY_MS  # whatever period its words name
    body = {"id": ID, "text": story.text, "until_ms": until_ms}
    taken = platform.operate("PUT", "/v1/goals", body, now_ms)
    began_s = time.perf_counter()
    while (found := held(platform, now_ms))["state"] in ("asked", "proposing"):
        if time.perf_counter() - began_s > PATIENCE_S:
            raise UpwellError(f"no proposal after {PATIENCE_S:.0f} s: see the service's messages above")
        time.sleep(LOOK_S)
    if found["state"] != "proposed":
        raise UpwellError(f"the goal is {found['state']}: {found['history'][-1]['why']}")
    proposed_s = time.perf_counter() - began_s
    began_s = time.perf_counter()
    version = platform.operate("POST", f"/v1/goals/{ID}/approve", None, now_ms)["in_force"]["version"]
    while platform.probe(now_ms).weights_version != version:
        pass
    return {
        "unread": taken["unread"],
        "proposal": found["proposal"],
        "proposed_after_s": proposed_s,
        "approved_to_decision_s": time.perf_counter() - began_s,
    }


def held(platform: Platform, now_ms: int) -> dict[str, Any]:
    """The goal as the service tells it."""
    told = platform.operate("GET", "/v1/goals", None, now_ms)
    return next(one for one in told["goals"] if one["goal"]["id"] == ID)


# ---- what came of it


def summary(story: Story, every: Sequence[Told]) -> dict[str, Any]:
    """By metric and window, what the goal changed of what was without it: a share, with its 95% interval over
    platforms. The first day of a window belongs to what was before."""
    windows = {
        "before": (0, story.begins),
        "during": (story.begins + 1, story.ends),
        "after": (story.ends + 1, story.days),
    }
    changes: dict[str, dict[str, Any]] = {}
    for name in WATCHED:
        changes[name] = {}
        for window, (first, last) in windows.items():
            shares = [
                mean(told.under, name, first, last) / mean(told.without, name, first, last) - 1.0 for told in every
            ]
            changes[name][window] = interval(np.array(shares))._asdict()
    return {
        "text": story.text,
        "changes": changes,
        "goals": [told.goal for told in every],
        "curves": {
            life: {name: [[day[name] for day in getattr(told, life)] for told in every] for name in WATCHED}
            for life in ("without", "under")
        },
    }


def mean(days: Sequence[dict[str, float]], name: str, first: int, last: int) -> float:
    return float(np.mean([day[name] for day in days[first:last]]))


def write_page(story: Story, found: dict[str, Any], path: Path) -> None:
    """The page of a story."""
    proposal = found["goals"][0]["proposal"]
    weights = ", ".join(f"{name} {value:.2f}" for name, value in proposal["weights"].items())
    rows = [
        [said, *(change(found["changes"][name][window]) for window in ("before", "during", "after"))]
        for name, said in WATCHED.items()
    ]
    history = [[event["what"], event["who"], event["why"]] for event in found["goals"][0]["history"]]
    parts = [
        f"<h1>{page.text(story.text)}</h1>",
        page.paragraph(f"Weights in force from day {story.begins + 1} to day {story.ends}: {weights}."),
        page.section("Day by day", "Grey: without the goal; orange: with it.", curves(story, found["curves"])),
        page.section("What it changed", "Of what was without it, with 95% intervals over platforms.",
                     page.table(["", "before", "during", "after"], rows)),
        page.section("What became of it", "", page.table(["what", "who", "why"], history)),
    ]  # fmt: skip
    page.write("a goal, live", parts, path)


def change(of: dict[str, float]) -> str:
    low, high = of["low"], of["high"]
    return f"{of['mean']:+.1%}" + (f" ({low:+.1%} … {high:+.1%})" if np.isfinite(low) else "")


def curves(story: Story, of: dict[str, dict[str, list[list[float]]]]) -> go.Figure:
    figure = make_subplots(rows=3, cols=2, subplot_titles=list(WATCHED.values()), vertical_spacing=0.1)
    for m, name in enumerate(WATCHED):
        where: dict[str, Any] = {"row": m // 2 + 1, "col": m % 2 + 1}
        for life, colour in zip(("without", "under"), page.COLOURS, strict=False):
            days = np.mean(of[life][name], axis=0)
            figure.add_scatter(x=list(range(1, len(days) + 1)), y=days, name=life, line_color=colour,
                               legendgroup=life, showlegend=m == 0, **where)  # fmt: skip
        figure.add_vrect(x0=story.begins + 0.5, x1=story.ends + 0.5, opacity=0.08, line_width=0, **where)
    return page.layout(figure, 900)
