"""The reference article's table beside ours, as ratios to raw ranking: its claims are neither checked nor aimed at.

Levels cannot be compared, since its platform is not ours; what an arm makes of the same raw ranking can.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple


class Row(NamedTuple):
    """A column of the article: its name there, our metric, and its values by arm."""

    said: str
    metric: str
    theirs: dict[str, float]
    over: str = "raw"  # the arm that others are divided by
    lower: bool = False  # whether less is better


ROWS = (
    Row("new-content CTR", "new_content_ctr", {"raw": 0.8, "itemcf": 0.8, "deepfm": 1.2, "meta": 2.1, "marl": 3.8}),
    Row("interest diversity", "interest_diversity", {"raw": 31, "itemcf": 31, "deepfm": 38, "meta": 45, "marl": 62}),
    Row("cold-start success", "cold_start_success", {"raw": 12, "itemcf": 12, "deepfm": 21, "meta": 34, "marl": 67}),
    Row("D1 retention", "d1_retention", {"raw": 58, "deepfm": 61, "marl": 67}),
    Row("GMV", "gmv_per_day", {"raw": 284, "deepfm": 298, "marl": 349}),
    Row("watch time", "watch_minutes_per_dau", {"raw": 24, "deepfm": 27, "marl": 34}),
    # Raw ranking heats nothing here, there it does.
    Row("heating cost", "heating_yuan_per_day", {"deepfm": 1.2, "marl": 0.3}, over="deepfm", lower=True),
)
ARMS = ("itemcf", "deepfm", "meta", "marl")


def compared(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Ratios, ours and theirs, of every cell that both have: of means over seeds."""
    found: list[dict[str, Any]] = []
    for row in ROWS:
        for arm in ARMS:
            if arm == row.over or arm not in row.theirs or not {arm, row.over} <= set(result["arms"]):
                continue
            ours, base = (result["arms"][name][row.metric]["mean"] for name in (arm, row.over))
            ratio = ours / base if base else math.nan
            found.append({
                "metric": row.said, "over": row.over, "arm": arm, "ours": ratio,
                "theirs": row.theirs[arm] / row.theirs[row.over], "lower_is_better": row.lower,
            })  # fmt: skip
    return found


HEAD = ("over raw's", *(f"{arm}, {whose}" for arm in ARMS for whose in ("theirs", "ours")))


def rows(result: dict[str, Any]) -> list[list[str]]:
    """A row a metric, theirs and ours of each arm; empty where no arm of the article's was run."""
    cells = {(c["metric"], c["arm"]): (f"{c['theirs']:.2f}", f"{c['ours']:.2f}") for c in compared(result)}
    listed: list[list[str]] = []
    for row in ROWS:
        name = row.said if row.over == "raw" else f"{row.said} (over {row.over}'s)"
        values = [cells.get((row.said, arm), ("–", "–")) for arm in ARMS]
        listed.append([name, *(cell for pair in values for cell in pair)])
    return listed if cells else []
