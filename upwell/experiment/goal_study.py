"""Whether goals in words move the platform: weights proposed for many goals, and metrics as curves over the weights.

All goals ask about the same platforms and mostly the same candidates, each lived once.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from upwell.errors import BadRequest
from upwell.experiment import page, steering
from upwell.experiment.proof import Candidate, Platforms, measured, meets, told
from upwell.experiment.proposing import named, parted, propose, settling
from upwell.experiment.runner import Plan
from upwell.experiment.search import weights_of
from upwell.experiment.stats import interval
from upwell.goals.goal import Goal, Proposal
from upwell.goals.reading import read

POINTS = 6
"""Goals on each line from none to all of a weight: fifths, which are on the search's grid too."""
SHOULD_RISE = (
    ("user_satisfaction", "satisfaction_mean"),
    ("platform_revenue", "net_gmv_per_dau"),
    ("long_term", "interest_diversity"),
    ("long_term", "cold_start_success"),
)
"""What each weight stands for."""


class Wanted(msgspec.Struct, frozen=True):
    """A goal of a file."""

    text: str


class File(msgspec.Struct, frozen=True):
    goal: list[Wanted]


def goals_of(path: Path) -> list[Goal]:
    """Goals of a TOML file with a list ``[[goal]]`` of texts. Raises BadRequest."""
    try:
        file = msgspec.toml.decode(path.read_bytes(), type=File)
    except FileNotFoundError:
        raise BadRequest(f"{path}: no such file of goals; it is a list of [[goal]] with a text each") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"{path}: not a list of [[goal]] with a text each: {error}") from None
    goals = [Goal(id=f"goal-{i + 1}", text=one.text, created_at=0) for i, one in enumerate(file.goal)]
    return [msgspec.structs.replace(g, aims=r.aims, bounds=r.bounds) for g, r in ((g, read(g.text)) for g in goals)]


def days_about(plan: Plan, goals: int) -> int:
    """Simulated days that a study takes, for the progress bar: each goal asks about some two candidates of its own."""
    choosing, proving = (len(seeds) for seeds in parted(plan.seeds))
    candidates = 10 + 2 * goals + len(steering.goals(POINTS))
    return plan.days * (candidates * choosing + (1 + goals // 2) * proving) + settling(plan)


def run(goals: Sequence[Goal], platforms: Platforms, now: Candidate) -> dict[str, Any]:
    """Propose for each goal by the search, and live the lines from none to all of each weight.

    Returns:
        "share_met": of the goals, those answered where it is proven (``proof.meets``); "goals": of each its text, what
        was proposed, and what the aims and bounds come to; "curves": as ``steering.told``; "rises": see ``rise``.
    """
    rows = [row(goal, propose(goal, platforms, now, 0) if goal.aims else None) for goal in goals]
    found = lines(platforms)
    curves = steering.told(steering.goals(POINTS), POINTS, found)
    return {
        "share_met": sum(one["meets"] for one in rows) / len(rows),
        "goals": rows,
        "curves": curves | {"arm": platforms.arm.name, "seeds": list(parted(list(platforms.states))[0])},
        "rises": [rise(weight, metric, found) for weight, metric in SHOULD_RISE],
    }


def row(goal: Goal, proposal: Proposal | None) -> dict[str, Any]:
    """A goal and what came of it; of one in which nothing was understood: that."""
    result: dict[str, Any] = {"text": goal.text, "meets": False, "weights": None, "source": "", "effects": {}}
    if proposal is None:
        return result | {"failures": ["nothing that is to move was understood"]}
    names = dict.fromkeys(one.metric for one in (*goal.aims, *goal.bounds))
    effects = {name: proposal.predicted[name] for name in names if name in proposal.predicted}
    failures = meets(goal, proposal.predicted)[2] if effects else proposal.rejected
    return result | {
        "meets": proposal.meets,
        "weights": named(Candidate(proposal.weights, proposal.program)),
        "source": proposal.source,
        "effects": {name: told(effect) for name, effect in effects.items()},
        "failures": [f"{one.what}: {one.why}" for one in failures],
        "considered": len(proposal.considered),
    }


def lines(platforms: Platforms) -> np.ndarray:
    """``steering.METRICS`` of its goals on the platforms to choose on, ``[goals, seeds, metrics]``."""
    candidates = [Candidate(weights_of(np.array(goal))) for goal in steering.goals(POINTS)]
    seeds = parted(list(platforms.states))[0]
    return np.array([
        [[measured(platforms, one, seed)[name] for name in steering.METRICS] for seed in seeds] for one in candidates
    ])  # fmt: skip


def rise(weight: str, metric: str, found: np.ndarray) -> dict[str, Any]:
    """Whether a metric rises with a weight's share: "change" from none to all of it, with its paired interval.

    "monotone": no step along the line falls with its interval clear of zero, and the whole line rises so.
    """
    every, m = steering.goals(POINTS), list(steering.METRICS).index(metric)
    places = [every.index(steering.goal_at(weight, i / (POINTS - 1))) for i in range(POINTS)]
    line = found[places, :, m]  # [points, seeds]
    change = interval(line[-1] - line[0])
    falls = sum(interval(then - first).high < 0.0 for first, then in pairwise(line))
    return {
        "weight": weight,
        "metric": metric,
        "levels": line.mean(1).tolist(),
        "change": change._asdict(),
        "falls": int(falls),
        "monotone": bool(change.low > 0.0 and not falls),
    }


def write_page(name: str, result: dict[str, Any], path: Path) -> None:
    """Write the page; ``name``: the world's."""
    goals = [
        [one["text"], one["weights"] or "", "yes" if one["meets"] else "no",
         "; ".join(f"{metric} {effect}" for metric, effect in one["effects"].items()), "; ".join(one["failures"])]
        for one in result["goals"]
    ]  # fmt: skip
    rises = [
        [f"{one['metric']} with {one['weight']}", " → ".join(f"{level:.4g}" for level in one["levels"]),
         steering.change(one["change"]), str(one["falls"]), "yes" if one["monotone"] else "no"]
        for one in result["rises"]
    ]  # fmt: skip
    parts = [
        f"<h1>Goals in words: {page.text(name)}</h1>",
        page.paragraph(
            f"{result['share_met']:.0%} of {len(goals)} goals are answered: every metric that is to move does so with "
            "its 95% interval clear of zero, and no bound is broken, on platforms that the weights were not chosen on."
        ),
        page.section("Goals", "Weights: users / revenue / long term.",
                     page.table(["goal", "weights", "answered", "effects", "what fails"], goals)),
        page.section("Where metrics should rise with a weight", "From none to all of it; the others split the rest.",
                     page.table(["metric", "levels", "change", "falls", "monotone"], rises)),
        page.section("Metrics over the simplex", "Bars: 95% intervals over platforms of the level, which the lines "
                     "share.", steering.curves(result["curves"])),
    ]  # fmt: skip
    page.write(f"{name}: goals in words", parts, path)
