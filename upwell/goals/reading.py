"""An operator's words, in Chinese or English, read by a dictionary: which metrics are to move, and what must hold.

Clause by clause: what it names (``measures.PLATFORM``), which way, how far, and whether that is wanted or a limit.
Nothing is guessed: a clause that names no metric, or no direction, is told as unread. A language model reads more
(``llm``); this is what works without one, and what its reading is held against.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from upwell.goals.goal import Aim, Bound
from upwell.goals.measures import PLATFORM, Measure

DAY_MS = 86_400_000
CHINA_MS = 8 * 3_600_000
"""``today`` of a text in Chinese ends at midnight there; of one in English at midnight UTC."""


def words(listed: str) -> tuple[str, ...]:
    """Words of a list, parted by commas."""
    return tuple(word.strip() for word in listed.split(","))


CLAUSE = re.compile(
    r"[;；。!！?？\n、]|[,，](?!\d)|\.(?!\d)"
    r"|(?<!\w)(?:while|but|and|as long as|provided that|with)(?!\w)"
    r"|但是|但|同时|并且|而且|以及"
)
FACTOR = {
    "%": 0.01, "％": 0.01, "percent": 0.01, "per cent": 0.01, "个百分点": 0.01,
    "亿": 1e8, "千万": 1e7, "百万": 1e6, "万": 1e4, "千": 1e3,
    "billion": 1e9, "bn": 1e9, "million": 1e6, "thousand": 1e3, "m": 1e6, "k": 1e3,
}  # fmt: skip
SHARES = ("%", "％", "percent", "per cent", "个百分点")
NUMBER = re.compile(
    r"(?P<value>\d+(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?)\s*(?P<unit>"
    + "|".join(unit + r"(?![a-z])" * unit.isascii() for unit in FACTOR)
    + ")?"
)

HOLD = words("hold, holds, keep, stay, 保持, 维持, 稳住, 守住")
AT_LEAST = words(
    "at least, no less than, not below, not fall below, above, 不低于, 不少于, 至少, 不能低于, 不得低于, 以上"
)
AT_MOST = words(
    "at most, no more than, not above, not exceed, below, under, cap, 不高于, 不超过, 最多, 控制在, 以下, 以内"
)
MAY_LOSE = words(
    "may dip, may fall, may drop, can dip, can fall, can drop, may lose, not lose more than, not fall by more than,"
    "dip, not fall, not drop, without losing, without hurting, 可以下降, 可下降, 允许下降, 下降不超过, 损失不超过,"
    "跌幅不超过, 降幅不超过, 最多下降, 可以牺牲, 可牺牲, 不能下降, 不下降, 不受影响"
)
"""What makes a clause a limit: a level that must be held, one that must not be passed, a loss that may be taken."""
UP = words(
    "raise, increase, grow, lift, boost, more, higher, maximise, maximize, push, up, target, goal, broaden, widen,"
    "提升, 提高, 增长, 增加, 拉升, 拉高, 促进, 冲, 目标, 更高, 更多, 做大, 最大化, 扩大, 加大"
)
DOWN = words(
    "reduce, lower, cut, decrease, fewer, less, down, shrink, slow, curb,"
    "降低, 减少, 压低, 削减, 缓解, 抑制, 收窄, 更低, 更少, 下降"
)
CARE = words("protect, help, support, improve, better, satisfied, 保护, 扶持, 改善, 帮助, 变好")
"""The good way is meant, whichever that is: less churn, more satisfaction."""
BY = re.compile(r"\bby\b|提升|提高|增长|增加|降低|减少")
DAYS = (
    (words("today, 今天, 今日, 大促"), 1),
    (words("this week, 本周, 这周"), 7),
    (words("this month, 本月, 这个月"), 30),
)
FOR_DAYS = re.compile(r"(\d{1,3})\s*(?:days|day|天)")
CHINESE, LATIN = re.compile(r"[一-鿿]"), re.compile(r"[a-z]")


class Read(NamedTuple):
    """What was understood, and what was not."""

    aims: tuple[Aim, ...]
    bounds: tuple[Bound, ...]
    until_ms: int | None
    unread: tuple[str, ...]


class Found(NamedTuple):
    """A metric that a clause names, and where."""

    measure: Measure
    at: int


def read(text: str, now_ms: int = 0) -> Read:
    """Aims, bounds and the end of the period, Unix ms, of what an operator wrote at ``now_ms``."""
    aims, bounds, unread = dict[str, Aim](), dict[str, Bound](), list[str]()
    until_ms = ends(text, now_ms)
    for clause in (part.strip() for part in CLAUSE.split(text.lower())):
        if not clause:
            continue
        named = metrics_of(clause)
        understood = False
        for i, (measure, _) in enumerate(named):
            begin = 0 if i == 0 else named[i - 1].at
            end = named[i + 1].at if i + 1 < len(named) else len(clause)
            said = bound_of(measure, clause[begin:end]) or aim_of(measure, clause[begin:end])
            said = said or aim_of(measure, clause)  # "raise A, B": the direction stands before the first alone
            if isinstance(said, Bound):
                bounds.setdefault(measure.name, said)
            elif said is not None:
                aims.setdefault(measure.name, said)
            understood |= said is not None
        if not understood and not (until_ms is not None and ends(clause, now_ms) is not None):
            unread.append(clause)
    wanted = tuple(aim for aim in aims.values() if aim.metric not in bounds or aim.target is not None)
    return Read(wanted, tuple(bounds.values()), until_ms, tuple(unread))


def metrics_of(clause: str) -> list[Found]:
    """The metrics that a clause names, in their order; of names within each other the longest."""
    names = sorted(
        ((word, measure) for measure in PLATFORM.values() for word in measure.words), key=lambda n: -len(n[0])
    )
    taken, found = [False] * len(clause), list[Found]()
    for word, measure in names:
        at = _find(clause, word)
        if at >= 0 and not any(taken[at : at + len(word)]):
            taken[at : at + len(word)] = [True] * len(word)
            if all(one.measure.name != measure.name for one in found):
                found.append(Found(measure, at))
    return sorted(found, key=lambda one: one.at)


def bound_of(measure: Measure, said: str) -> Bound | None:
    """What must hold of a metric; None where nothing of the kind is said."""
    number = number_of(measure, said)
    if _has(said, MAY_LOSE):
        # A fall "by 2%" is one of its own worth, whatever its unit; none at all where no figure is given.
        fall = relative_of(said) or 0.0
        return Bound(metric=measure.name, low=-fall, relative=True) if measure.up_is_good else None
    if number is None:
        holds = _has(said, HOLD) and measure.up_is_good
        return Bound(metric=measure.name, low=0.0, relative=True) if holds else None
    if _has(said, AT_MOST):
        return Bound(metric=measure.name, high=number)
    if _has(said, HOLD + AT_LEAST):
        return Bound(metric=measure.name, low=number)
    return None


def aim_of(measure: Measure, said: str) -> Aim | None:
    """Which way a metric is to move, and how far; None where no direction is said."""
    down, up, care = (_has(said, words) for words in (DOWN, UP, CARE))
    if not (down or up or care):
        return None
    good = "up" if measure.up_is_good else "down"
    direction = good if care else "down" if down and not up else "up"
    by = BY.search(said) and relative_of(said) is not None  # "by 5%" is a way, not a level
    return Aim(metric=measure.name, direction=direction, target=None if by else number_of(measure, said))


def number_of(measure: Measure, said: str) -> float | None:
    """The last figure that is said of a metric, in its unit; None without one that it can have."""
    figures = [
        float(found["value"].replace(",", "")) * FACTOR.get(found["unit"] or "", 1.0) for found in NUMBER.finditer(said)
    ]
    fitting = [value for value in figures if measure.low <= value <= measure.high]
    return fitting[-1] if fitting else None


def relative_of(said: str) -> float | None:
    """The last percentage that is said, as a share."""
    shares = [
        float(found["value"].replace(",", "")) * FACTOR[found["unit"]]
        for found in NUMBER.finditer(said)
        if found["unit"] in SHARES
    ]
    return shares[-1] if shares else None


def ends(text: str, now_ms: int) -> int | None:
    """When the period that a text names is over, Unix ms; None where it names none."""
    lowered = text.lower()
    days = next((days for named, days in DAYS if _has(lowered, named)), None)
    counted = FOR_DAYS.search(lowered)
    if counted:
        return now_ms + int(counted[1]) * DAY_MS
    if days is None:
        return None
    zone_ms = CHINA_MS if CHINESE.search(lowered) else 0
    midnight = (now_ms + zone_ms) // DAY_MS * DAY_MS - zone_ms
    return midnight + days * DAY_MS


def _has(said: str, any_of: tuple[str, ...]) -> bool:
    return any(_find(said, word) >= 0 for word in any_of)


def _find(said: str, word: str) -> int:
    """Where a word stands, as one of its own where it is of letters; -1 where it does not."""
    if not LATIN.match(word):
        return said.find(word)
    found = re.search(rf"(?<![a-z0-9_]){re.escape(word)}(?![a-z0-9_])", said)
    return found.start() if found else -1
