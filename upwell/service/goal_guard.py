"""The guard: what a goal's weights do to real users, against what was predicted and what must hold.

Slates are counted by the version of the weights that they were decided under (``Memory``), of regulated users and of
the holdout, whom no weights reach. A relative change is that of regulated users against the holdout, now against
before: hours, days and what else happens to both fall out. Intervals are always valid, so that a look at every tick is
no more likely to find what is not there than one look is.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from upwell.goals.goal import Goal, Proposal
from upwell.regulator.evidence import Interval, always_valid
from upwell.service.audit import GUARD
from upwell.service.course import Course
from upwell.service.errors import Refused
from upwell.service.goals import Goals, Held
from upwell.service.memory import WEIGHED
from upwell.state.port import Store

log = logging.getLogger(__name__)

ALPHA = 0.05
"""Chance that a goal which breaks nothing is rolled back, however long it is watched."""
ENOUGH = 30.0
"""Events on each side, before which nothing is said."""
PLANNED = 300.0
"""Events for which intervals are shortest."""


class Counted(NamedTuple):
    """How a metric is counted: a sum, its sum of squares, and what it is a rate of ("": users, whose sides stay)."""

    sum: str
    squares: str
    of: str = ""
    controlled: bool = True  # the holdout has it too


WATCHED = {
    "ctr": Counted("clicks", "clicks2", "impressions"),
    "heated_share": Counted("heated", "heated", "impressions", controlled=False),
    "gmv_per_day": Counted("yuan", "yuan2"),
    "gmv_per_dau": Counted("yuan", "yuan2"),
    "watch_minutes_per_dau": Counted("seconds", "seconds2"),
    "impressions_per_dau": Counted("impressions", "slates"),
}
"""Metrics that can be counted while users come. Those a day and an active user, which the sides of the holdout cannot
tell the number of, as changes alone."""


class Claim(NamedTuple):
    """What must not be: a change or level of a metric below ``low`` or above ``high``."""

    metric: str
    relative: bool
    low: float = -np.inf
    high: float = np.inf


class Seen(NamedTuple):
    """What was seen of a claim; ``broken``: for certain."""

    claim: Claim
    actual: Interval
    broken: bool


def claims_of(goal: Goal, proposal: Proposal) -> tuple[list[Claim], dict[str, str]]:
    """What is watched of a goal, and which of its metrics cannot be, with why.

    A bound must hold. An aim must not move the other way where it was predicted to move as asked.
    """
    claims, unwatched = list[Claim](), dict[str, str]()
    for bound in goal.bounds:
        why = cannot(bound.metric, bound.relative)
        if why:
            unwatched[bound.metric] = why
        else:
            low, high = (end if end is not None else none for end, none in ((bound.low, -np.inf), (bound.high, np.inf)))
            claims.append(Claim(bound.metric, bound.relative, low, high))
    for aim in goal.aims:
        effect, why = proposal.predicted.get(aim.metric), cannot(aim.metric, True)
        if why:
            unwatched.setdefault(aim.metric, why)
        elif effect is not None and (effect.low > 0.0 if aim.direction == "up" else effect.high < 0.0):
            claims.append(Claim(aim.metric, True, *((0.0, np.inf) if aim.direction == "up" else (-np.inf, 0.0))))
    return claims, unwatched


def cannot(metric: str, relative: bool) -> str:
    """Why a metric cannot be watched while users come; "" where it can."""
    how = WATCHED.get(metric)
    if how is None:
        return "it takes days, or what the service does not count, to tell"
    return "" if relative or how.of else "its level takes a whole day to tell; a relative bound can be watched"


def seen(claim: Claim, before: Mapping[str, int], since: Mapping[str, int], alpha: float) -> Seen:
    """A claim against what was counted, at the level ``alpha``."""
    how = WATCHED[claim.metric]
    if claim.relative:
        sides = (("free", "held") if how.controlled else ("",)) * 2
        tallies = [since, since, before, before] if how.controlled else [since, before]
        signs = [1, -1, -1, 1] if how.controlled else [1, -1]
        each = [counted(tally, side, how) for tally, side in zip(tallies, sides, strict=True)]
        logs = [(sign * np.log(mean), error2) for sign, (mean, error2) in zip(signs, each, strict=True) if mean > 0.0]
    else:
        mean, error2 = counted(since, "", how)
        logs = [(np.log(mean), error2)] if mean > 0.0 else []
        each = [(mean, error2)]
    if len(logs) < len(each) or max(error2 for _, error2 in logs) > 1.0 / ENOUGH:
        actual = Interval(0.0, -np.inf, np.inf)
    else:
        error2 = sum(error2 for _, error2 in logs)
        # As if of so many observations with deviation 1: an event moves a logarithm of a sum by its share of it.
        found = always_valid(sum(value for value, _ in logs), 1.0, 1.0 / error2, alpha, PLANNED)
        actual = Interval(*(float(np.exp(value) - claim.relative) for value in found))
    return Seen(claim, actual, bool(actual.high < claim.low or actual.low > claim.high))


def counted(tally: Mapping[str, int], side: str, how: Counted) -> tuple[float, float]:
    """A metric of a side ("": of all), and the squared error of its logarithm."""

    def of(name: str) -> int:
        return tally.get(f"{side}_{name}", 0) if side else tally.get(f"free_{name}", 0) + tally.get(f"held_{name}", 0)

    whole, unit = of(how.sum), of(how.of) if how.of else 1
    if whole <= 0 or unit <= 0:
        return 0.0, np.inf
    # Of slates each as large as the mean: what hangs together is the slate.
    squares = whole**2 / max(of("slates"), 1) if how.squares == "slates" else of(how.squares)
    return whole / unit, max(squares, 1) / whole**2


def tallies(store: Store, goals: Goals, held: Held) -> tuple[Counter[str], Counter[str]]:
    """What was counted before a goal came in force, and under its weights. Raises StoreDown."""
    own = [one.version for one in goals.versions if one.goal_id == held.goal.id and one.number >= begun(held)]
    before, *since = store.counters("meta", [f"{WEIGHED}{version}" for version in (held.before, *own)])
    return Counter(before), sum((Counter(one) for one in since), Counter[str]())


def begun(held: Held) -> int:
    """The number of the version that held before a goal came in force: what it had in an earlier life is left out."""
    return int(held.before.partition(":")[0])


class Looked(NamedTuple):
    """What is seen of the goal in force, and what of it is not watched, with why."""

    held: Held
    seen: list[Seen]
    unwatched: dict[str, str]


def look(store: Store, goals: Goals) -> Looked | None:
    """A look at the goal in force; None without one. Raises StoreDown."""
    held = goals.of(goals.force[-1]) if goals.force else None
    if held is None or held.proposal is None:
        return None
    claims, unwatched = claims_of(held.goal, held.proposal)
    before, since = tallies(store, goals, held)
    if not since["held_slates"] or not before["held_slates"]:
        unwatched |= {
            one.metric: "there is no holdout to compare with yet"
            for one in claims
            if one.relative and WATCHED[one.metric].controlled
        }
    return Looked(held, [seen(claim, before, since, ALPHA / len(claims)) for claim in claims], unwatched)


def watch(store: Store, course: Course, now_ms: int) -> None:
    """Roll back the goal in force where it breaks what must hold, for certain. Raises StoreDown."""
    found = look(store, course.goals(now_ms))
    broken = next((one for one in found.seen if one.broken), None) if found is not None else None
    if found is None or broken is None:
        return
    held, why = found.held, told(broken)
    about = {"seen": [line(one, held.proposal) for one in found.seen]}
    log.warning("goal %s is rolled back: %s", held.goal.id, why)
    with suppress(Refused):  # others may have lifted it by now
        course.change(lambda goals: goals.roll_back(held.goal.id, why, GUARD, now_ms, about), now_ms)


def told(one: Seen) -> str:
    """What is broken, in words."""
    claim, form = one.claim, "+.1%" if one.claim.relative else ".4g"
    mean, low, high = (format(value, form) for value in one.actual)
    limit = f"at least {claim.low:{form}}" if one.actual.high < claim.low else f"at most {claim.high:{form}}"
    return f"{claim.metric} is {mean} ({low} to {high}), and was to be {limit}"


def line(one: Seen, proposal: Proposal | None) -> dict[str, Any]:
    """For answers and the audit log: what must hold, what is seen, and what was predicted of it (a relative change)."""
    effect = proposal.predicted.get(one.claim.metric) if proposal is not None else None
    predicted = None
    if effect is not None and effect.before:
        predicted = {name: getattr(effect, name) / abs(effect.before) for name in ("change", "low", "high")}
    limits = {name: value for name, value in (("low", one.claim.low), ("high", one.claim.high)) if np.isfinite(value)}
    actual = one.actual._asdict() if np.isfinite(one.actual.high) else None  # None: too little is known yet
    return {
        "metric": one.claim.metric, "relative": one.claim.relative, "must": limits, "actual": actual,
        "predicted": predicted, "broken": one.broken,
    }  # fmt: skip
