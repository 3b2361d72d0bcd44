"""What a replay adds to an experiment's page: each arm as the platform sees it, and live effects beside the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from upwell.experiment import page

HEAD = ["arm", "metric", "live lift", "from", "to", "true lift", "covered"]
ARTICLE = {
    "new_content_ctr": "click rate of new contents",
    "interest_diversity": "interests' diversity",
    "cold_start_success": "cold starts that succeed",
    "d1_retention": "return the next day",
    "heating_yuan_per_day": "heating, yuan a day",
    "gmv_per_dau": "GMV a user and day, yuan",
    "watch_minutes_per_dau": "minutes a user and day",
}
"""The columns of the reference comparison, by the metric's name."""
SHARED = ("cold_start_success", "heating_yuan_per_day")
"""Of these, what nobody can tell of an arm's users."""
Effects = Mapping[str, Mapping[str, Mapping[str, Any]]]
Figures = Mapping[str, Mapping[str, float]]


def sections(effects: Effects, seen: Figures, true: Figures) -> list[str]:
    """Sections of HTML.

    Args:
        effects: as ``demo.replay.compared`` gives them.
        seen, true: metrics of each arm's users in the experiment, and of each arm alone on the platform.
    """
    return [
        page.section(
            "Each arm alone",
            "The same platform from the same morning, under each arm alone: the truth, known of a simulated one.",
            page.table(["arm", *ARTICLE.values()], figures(true)),
        ),
        page.section(
            "The arms' users in the experiment",
            "As the platform sees them. What arms share (contents, creators, what the ranker knows) is in all of them;"
            " cold starts belong to no arm, and what the service's heating costs it does not see.",
            page.table(["arm", *(said for name, said in ARTICLE.items() if name not in SHARED)], figures(seen, SHARED)),
        ),
        page.section(
            "Live effects against the truth",
            "Lifts over the control as the service tells them from what it logged, with intervals that hold however"
            " often one looks, and as they are between the arms alone.",
            page.table(HEAD, rows_of(effects)),
        ),
    ]  # fmt: skip


def figures(of: Figures, without: Sequence[str] = ()) -> list[list[str]]:
    return [[arm, *(f"{found[name]:.4g}" for name in ARTICLE if name not in without)] for arm, found in of.items()]


def rows_of(effects: Effects) -> list[list[str]]:
    """A row an arm and metric; nothing where it is not known."""
    return [
        [arm, metric, *(share(of[end]) for end in ("lift", "low", "high", "true")), COVERED[of["covered"]]]
        for arm, metrics in effects.items()
        for metric, of in metrics.items()
    ]


COVERED = {True: "yes", False: "no", None: "?"}


def share(value: float | None) -> str:
    return "?" if value is None else f"{value:+.1%}"
