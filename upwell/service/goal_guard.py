"""The guard: what a goal's weights do to real users, against what was predicted and what must hold.

Slates are counted by the version of the weights that they were decided under (``Memory``), of regulated users and of
the holdout, whom no weights reach. A relative change is that of regulated users against the holdout, now against
before: hours, days and what else happens to both fall out. Chance is told by how groups of users differ, so that all
that one user does hangs together. Intervals are always valid, so that a look at every tick is no more likely to find
what is not there than one look is.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from upwell.goals.goal import Goal, Proposal
from upwell.service.audit import GUARD
from upwell.service.course import Course
from upwell.service.errors import Refused
from upwell.service.goals import Goals, Held
from upwell.service.memory import GROUPS, WEIGHED, by_group
from upwell.state.port import Store
from upwell.statistics.evidence import Interval, always_valid

log = logging.getLogger(__name__)

ALPHA = 0.05
"""Chance that a goal which breaks nothing is rolled back, however long it is watched."""
ENOUGH = 30.0
"""Events on each side, as if of so many users, before which nothing is said."""
PLANNED = 300.0
"""Events for which intervals are shortest."""


class Counted(NamedTuple):
    """How a metric is counted: a sum, and what it is a rate of ("": users, whose sides stay)."""

    sum: str
    of: str = ""
    controlled: bool = True  # the holdout has it too
    level: bool = False  # it is known at any hour, and not only how it changes
    weight: float = 1.0  # of one in the sum, in events


WATCHED = {
    "ctr": Counted("clicks", "impressions", level=True),
    "heated_share": Counted("heated", "impressions", controlled=False, level=True),
    "d1_retention": Counted("returned", "daily"),
    "gmv_per_day": Counted("fen", weight=0.01),
    "gmv_per_dau": Counted("fen", "daily", weight=0.01),
    "watch_minutes_per_dau": Counted("seconds", "daily"),
    "impressions_per_dau": Counted("impressions", "daily"),
}
"""Metrics that can be counted while users come. Who comes on a day and came on the one before is counted at the day's
first slate; a goal begins and is watched in the middle of days, so of what is a day's only changes can be told: both
sides of the holdout are cut short alike."""


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
    return "" if relative or how.level else "its level takes a whole day to tell; a relative bound can be watched"


def seen(claim: Claim, before: Mapping[str, int], since: Mapping[str, int], alpha: float) -> Seen:
    """A claim against what was counted, at the level ``alpha``."""
    how = WATCHED[claim.metric]
    sides = (("free",), ("held",)) if claim.relative and how.controlled else (("free", "held"),)
    value = error2 = 0.0
    for side, sign in zip(sides, (1.0, -1.0), strict=False):
        counts = [counted(since, side, how)]
        if claim.relative:
            counts.append(counted(before, side, how))
        if any(one.error2() > 1.0 / ENOUGH for one in counts):
            return Seen(claim, Interval(0.0, -np.inf, np.inf), False)
        changed = counts[0] if len(counts) == 1 else counts[0].over(counts[1])
        value += sign * changed.log
        error2 += changed.error2()
    # As if of so many observations with deviation 1: an event moves a logarithm of a sum by its share of it.
    found = always_valid(value, 1.0, 1.0 / error2, alpha, PLANNED)
    actual = Interval(*(float(np.exp(one) - claim.relative) for one in found))
    return Seen(claim, actual, bool(actual.high < claim.low or actual.low > claim.high))


class Counts(NamedTuple):
    """A metric's logarithm, and how far each group of users moves it off what all have in common, ``[GROUPS]``."""

    log: float
    moved: npt.NDArray[np.float64]
    least: float  # squared error if each event were a draw of its own: few events may agree by chance

    def error2(self) -> float:
        """Squared standard error of the logarithm: groups are independent (delta method, clusters as observations)."""
        return max(float(GROUPS / (GROUPS - 1) * (self.moved**2).sum()), self.least)

    def over(self, before: Counts) -> Counts:
        """Against another time, group by group: that some users click more than others falls out."""
        return Counts(self.log - before.log, self.moved - before.moved, self.least + before.least)


NOTHING = Counts(0.0, np.full(GROUPS, np.inf), np.inf)


def counted(tally: Mapping[str, int], sides: Sequence[str], how: Counted) -> Counts:
    """A metric of the users of ``sides``; ``NOTHING`` where nothing was counted yet."""

    def of(name: str) -> npt.NDArray[np.float64]:
        return np.stack([by_group(tally, side, name) for side in sides]).sum(axis=0)

    sums = how.weight * of(how.sum)
    units = of(how.of) if how.of else np.full(GROUPS, 1.0 / GROUPS)
    whole, unit = float(sums.sum()), float(units.sum())
    if whole <= 0.0 or unit <= 0.0:
        return NOTHING
    return Counts(float(np.log(whole / unit)), sums / whole - units / unit, 1.0 / whole)


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
    if not all(any(name.startswith("held") for name in tally) for tally in (since, before)):
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
