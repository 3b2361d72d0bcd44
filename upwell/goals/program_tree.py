"""Reward programs as trees, and the rules of their types: what may stand where, in which unit, within which range."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias, get_args

from upwell.goals.measures import CONTENT, PLATFORM, READABLE, Measure, Unit

MEASURES: dict[str, Measure] = CONTENT | {name: PLATFORM[name] for name in sorted(READABLE)}
"""What a program may name."""
UNITS = tuple(unit for unit in get_args(Unit) if unit)
LIMIT = 1e15
"""Products and quotients stop here on both sides, so that sums and squares of them stay finite in float32."""
NEAR_ZERO = 1e-6
"""a / b is a·b / (b² + NEAR_ZERO²): a/b to 1% from |b| = 1e-5 on, and 0 at b = 0 instead of infinite."""


@dataclass(frozen=True, slots=True)
class Number:
    """A literal. Without a unit it takes the one that it meets: 3 beside days is 3 days."""

    value: float
    unit: Unit | None = None


@dataclass(frozen=True, slots=True)
class Named:
    """A measure, of ``MEASURES``."""

    name: str


@dataclass(frozen=True, slots=True)
class Tag:
    """Whether a content has this tag, or is of this category."""

    name: str


@dataclass(frozen=True, slots=True)
class Call:
    """An operation of ``OPS``."""

    op: str
    args: tuple[Node, ...]


Node: TypeAlias = Number | Named | Tag | Call


class Op(NamedTuple):
    """How an operation is written. ``binds``: how tightly, 0 for those written as functions."""

    least: int  # arguments
    most: int
    binds: int
    en: str
    zh: str


MANY = 32
OPS: dict[str, Op] = {
    "if": Op(3, 3, 0, "if {0} then {1}, otherwise {2}", "若{0}则{1},否则{2}"),
    "or": Op(2, MANY, 1, "or", "或"),
    "and": Op(2, MANY, 2, "and", "且"),
    "not": Op(1, 1, 3, "not", "非"),
    ">": Op(2, 2, 4, "is above", "高于"),
    ">=": Op(2, 2, 4, "is at least", "不低于"),
    "<": Op(2, 2, 4, "is below", "低于"),
    "<=": Op(2, 2, 4, "is at most", "不高于"),
    "+": Op(2, MANY, 5, "plus", "加"),
    "-": Op(2, 2, 5, "minus", "减"),
    "*": Op(2, MANY, 6, "times", "乘以"),
    "/": Op(2, 2, 6, "divided by", "除以"),
    "min": Op(2, MANY, 0, "the least of", "最小值"),
    "max": Op(2, MANY, 0, "the largest of", "最大值"),
    "clip": Op(3, 3, 0, "{0} kept between {1} and {2}", "{0}限制在{1}与{2}之间"),
}
COMPARED = (">", ">=", "<", "<=")
TRUTHS = ("or", "and", "not", *COMPARED)
"""Those that give yes or no."""

Powers: TypeAlias = tuple[tuple[str, int], ...]
"""A unit as powers of base units by name; () has none. Shares have none either."""


class Sort(NamedTuple):
    """What an expression is. ``unit`` None: a bare number's, any. A yes or no counts as 1 or 0 where numbers stand."""

    truth: bool
    unit: Powers | None
    low: float
    high: float


class Wrong(Exception):
    """A rule broken by an operation; ``where``: the number of the argument, None for all of it."""

    def __init__(self, why: str, where: int | None = None) -> None:
        super().__init__(why)
        self.where = where


def powers(unit: Unit | None) -> Powers | None:
    return None if unit is None else () if unit in ("", "share") else ((unit, 1),)


def spelled(unit: Powers | None) -> str:
    """A unit as an error says it."""
    parts = [name if power == 1 else f"{name}^{power}" for name, power in unit or ()]
    return "·".join(parts) or "a share or plain number"


def sort_of(leaf: Number | Named | Tag) -> Sort:
    if isinstance(leaf, Number):
        return Sort(False, powers(leaf.unit), leaf.value, leaf.value)
    if isinstance(leaf, Tag):
        return Sort(True, (), 0.0, 1.0)
    measure = MEASURES[leaf.name]
    return Sort(False, powers(measure.unit), measure.low, measure.high)


def sort_of_call(op: str, args: Sequence[Sort]) -> Sort:
    """What an operation on such arguments is. Raises Wrong."""
    spec = OPS[op]
    if not spec.least <= len(args) <= spec.most:
        many = str(spec.least) if spec.least == spec.most else f"{spec.least} to {spec.most}"
        raise Wrong(f"'{op}' takes {many} arguments, not {len(args)}")
    needs = 1 if op == "if" else len(args) if op in ("or", "and", "not") else 0
    for i, arg in enumerate(args[:needs]):
        if not arg.truth:
            raise Wrong('this is a number where a test must stand, such as followers < 1000 or tag("food")', i)
    low, high = [arg.low for arg in args], [arg.high for arg in args]
    if op in COMPARED:
        same(args)
        least, most = (low[0] - high[1], high[0] - low[1]) if op[0] == ">" else (low[1] - high[0], high[1] - low[0])
        if (most < 0 or least >= 0) if op[1:] else (most <= 0 or least > 0):
            sides = " and ".join(f"{a.low:g} … {a.high:g}" if a.low < a.high else f"{a.low:g}" for a in args)
            raise Wrong(f"this test always comes out the same, its sides being {sides}; 60% is 0.6, not 60")
    if op in TRUTHS:
        return Sort(True, (), 0.0, 1.0)
    if op == "*":
        span = args[0]
        for arg in args[1:]:
            span = Sort(False, multiplied(span.unit, arg.unit), *product(span, arg))
        return span
    if op == "/":
        if low[1] == high[1] == 0.0:
            raise Wrong("division by zero", 1)
        over = reciprocal(args[1])
        return Sort(False, multiplied(args[0].unit, over.unit), *product(args[0], over))
    unit = same(args[1:] if op == "if" else args)
    if op == "+":
        return Sort(False, unit, sum(low), sum(high))
    if op == "-":
        return Sort(False, unit, low[0] - high[1], high[0] - low[1])
    if op == "if":
        return Sort(False, unit, min(low[1:]), max(high[1:]))
    if op == "clip" and low[1] > high[2]:
        raise Wrong("the lower bound lies above the upper one", 1)
    if op == "clip":
        return Sort(False, unit, min(max(low[0], low[1]), low[2]), min(max(high[0], high[1]), high[2]))
    pick = min if op == "min" else max
    return Sort(False, unit, pick(low), pick(high))


def same(args: Sequence[Sort]) -> Powers | None:
    """The one unit of all. Raises Wrong."""
    found: Powers | None = None
    for i, arg in enumerate(args):
        if found is not None and arg.unit is not None and arg.unit != found:
            raise Wrong(f"this is in {spelled(arg.unit)}, what stands before it in {spelled(found)}", i - len(args))
        found = arg.unit if found is None else found
    return found


def multiplied(a: Powers | None, b: Powers | None) -> Powers | None:
    """The product's unit; a bare number's product with a unit has that unit."""
    if a is None or b is None:
        return b if a is None else a
    total = dict(a)
    for name, power in b:
        total[name] = total.get(name, 0) + power
    return tuple(sorted((name, power) for name, power in total.items() if power))


def product(a: Sort, b: Sort) -> tuple[float, float]:
    ends = [held(x * y) for x in (a.low, a.high) for y in (b.low, b.high)]
    return min(ends), max(ends)


def reciprocal(b: Sort) -> Sort:
    """Of 1 / b, guarded: b / (b² + NEAR_ZERO²), which is largest at NEAR_ZERO and least at -NEAR_ZERO."""
    points = [b.low, b.high, *(p for p in (-NEAR_ZERO, NEAR_ZERO) if b.low < p < b.high)]
    found = [p / (p * p + NEAR_ZERO**2) for p in points]
    unit = None if b.unit is None else tuple((name, -power) for name, power in b.unit)
    return Sort(False, unit, min(found), max(found))


def held(value: float) -> float:
    return min(max(value, -LIMIT), LIMIT)
