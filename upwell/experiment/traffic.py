"""Where the heated traffic of a run went, by what it was spent on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from upwell.experiment.metrics import Report
from upwell.world.state import ORGANIC_TODAY, OUTSIDE, OUTSIDE_VALID, TODAY

AGES = ("0", "1", "2", "3", "4–7", "8+")
"""Days of life."""
AGE_EDGES = (1, 2, 3, 4, 8)
TENTHS = 10

Groups = dict[str, dict[str, list[float]]]


def added(reports: Sequence[Report], column: int) -> Iterator[np.ndarray]:
    """What each day added to a running count of ``stats``, f32 ``[M]``; a new content in a place starts at 0.

    The count must be 0 when the first day starts, as those of heating are after raw ranking.
    """
    before: Report | None = None
    for report in reports:
        same = before is not None and report["generation"] == before["generation"]
        yield report["stats"][:, column] - (np.where(same, before["stats"][:, column], 0.0) if before else 0.0)
        before = report


def tenth(values: np.ndarray) -> np.ndarray:
    """In which tenth of the contents each stands, 0 the lowest; equal values share the lowest of their places."""
    below = np.searchsorted(np.sort(values), values, side="left")
    return below * TENTHS // len(values)


def groups(reports: Sequence[Report]) -> Groups:
    """Shares of heated and of all impressions by age, by tenth of true quality and by tenth of creators' followers.

    Returns:
        {"age", "quality", "followers"} → {"heated", "all"} → shares that add up to 1, or to 0 with nothing heated.
    """
    sums = {name: np.zeros((2, len(AGES) if name == "age" else TENTHS)) for name in ("age", "quality", "followers")}
    for report in reports:
        heated = report["stats"][:, TODAY] - report["stats"][:, ORGANIC_TODAY]
        group = {
            "age": np.searchsorted(AGE_EDGES, report["age_days"], side="right"),
            "quality": tenth(report["log_quality"]),
            "followers": tenth(report["followers"]),
        }
        for name, index in group.items():
            for row, weight in enumerate((heated, report["today"])):
                sums[name][row] += np.bincount(index, weight, sums[name].shape[1])
    return {
        name: {
            what: [round(float(v), 5) for v in values / max(values.sum(), 1.0)]
            for what, values in zip(("heated", "all"), both, strict=True)
        }
        for name, both in sums.items()
    }


def outside(reports: Sequence[Report]) -> dict[str, float]:
    """How much of the heated and explored traffic met users outside the contents' tags, and how it was received."""
    met = float(sum(day.sum() for day in added(reports, OUTSIDE)))
    valid = float(sum(day.sum() for day in added(reports, OUTSIDE_VALID)))
    pushed = float(sum(float(r["heated"]) + float(r["explored"]) for r in reports))
    every = float(sum(float(r["impressions"]) for r in reports))
    return {
        "share": met / max(pushed, 1.0),
        "valid_rate": valid / max(met, 1.0),
        "valid_rate_everywhere": float(sum(float(r["valid"]) for r in reports)) / max(every, 1.0),
    }
