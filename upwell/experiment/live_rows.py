"""What the service tells of an experiment, as rows of text for a page or a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

LIFTS = ["metric", "lift", "from", "to", "explained"]
SEGMENTS = ["segment", "metric", "lift", "from", "to", "beyond the rest's", "p"]
CHECKS = ["check", "p"]
ENDS = ("lift", "low", "high")


def lifts(effects: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """A row a metric: an arm over the control."""
    explained = {metric: effect.get("variance_reduction") or 0.0 for metric, effect in effects.items()}
    return [
        [metric, *(percent(effect[end]) for end in ENDS), f"{explained[metric]:.0%}" if explained[metric] else ""]
        for metric, effect in effects.items()
    ]


def segments(found: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """A row a segment and metric; of the rest, what is its own."""
    out = list[list[str]]()
    for one in found:
        beyond = [percent(one["beyond_rest"]), f"{one['p']:.3g}"] if "p" in one else ["", ""]
        out.append([one["segment"], one["metric"], *(percent(one[end]) for end in ENDS), *beyond])
    return out


def checks(told: Mapping[str, Any]) -> list[list[str]]:
    """A row a check, with its p-value."""
    found = told["checks"]
    alike = [[f"A/A, {one['when']}: {one['arm']}, most of {one['metric']}", f"{one['p']:.3g}"] for one in found["aa"]]
    none = [["A/A: no arm was ever as the control (give warmup_s, or a second arm like the control)", ""]]
    others = [
        [
            f"overlap: {one['share']:.0%} of users are in {one['experiment']}, {one['arm']}, too",
            "" if one["p"] is None else f"{one['p']:.3g}",
        ]
        for one in found["overlap"]
    ]
    return [["users against planned shares", f"{told['sample_ratio_p']:.3g}"], *(alike or none), *others]


def percent(share: float | None) -> str:
    return "?" if share is None else f"{share:+.2%}"


def value(level: float | None) -> str:
    return "" if level is None else f"{level:.4g}"
