"""Random reward programs that hold the rules, and what rounding in float32 may do to them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from random import Random

from hypothesis import strategies as st

from upwell.goals.measures import Unit
from upwell.goals.program import Program, key_of_tag, printed
from upwell.goals.program_parser import DEPTH, LETTERS, NODES
from upwell.goals.program_steps import walked
from upwell.goals.program_tree import (
    COMPARED,
    LIMIT,
    MEASURES,
    NEAR_ZERO,
    Call,
    Named,
    Node,
    Number,
    Sort,
    Tag,
    Wrong,
    powers,
    sort_of,
    sort_of_call,
)

TAGS = ("food", "美食", "tag7", "a b")
OF_UNIT = {
    unit: [name for name, m in MEASURES.items() if powers(m.unit) == powers(unit)]
    for unit in ("yuan", "coins", "count", "days", "")
}  # fmt: skip


class Maker:
    """Draws trees from a seed: plain draws, a hundred times as fast as strategies of strategies."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)

    def number(self, unit: Unit) -> Number:
        r = self.random
        size = r.choice([0.0, 0.6, float(r.randint(-2_000, 2_000)), r.uniform(-1.0, 1.0), 10.0 ** r.uniform(-8, 11)])
        return Number(size, r.choice([unit or "share", None]))

    def expression(self, unit: Unit, deep: int) -> Node:
        """Of a unit ("" none), at most ``deep`` deep."""
        r = self.random
        if deep <= 1 or r.random() < 0.3:
            if not unit and r.random() < 0.2:
                return Tag(r.choice(TAGS))
            return Named(r.choice(OF_UNIT[unit])) if r.random() < 0.6 else self.number(unit)
        op = r.choice(["if", "+", "-", "min", "max", "clip", "*", "/", "test"])
        if op == "test" and not unit:
            return self.test(deep)
        if op == "if":
            args = [self.test(deep - 1), self.expression(unit, deep - 1), self.expression(unit, deep - 1)]
        elif op == "clip":
            ends = sorted((self.number(unit) for _ in range(2)), key=lambda n: n.value)
            args = [self.expression(unit, deep - 1), *ends]
        elif op == "/":
            under: Unit = r.choice(list(OF_UNIT)) if not unit else ""
            args = [self.expression(unit or under, deep - 1), self.expression(under, deep - 1)]
        elif op == "*":
            args = [self.expression("", deep - 1), self.expression(unit, deep - 1)]
        else:
            op = "+" if op == "test" else op
            args = [self.expression(unit, deep - 1) for _ in range(2 if op == "-" else r.choice([2, 2, 2, 4]))]
        return sound(Call(op, tuple(args)), args[-1])

    def test(self, deep: int) -> Node:
        """A yes or no, at most ``deep`` deep."""
        r = self.random
        if deep <= 2 or r.random() < 0.4:
            measure = MEASURES[r.choice(list(MEASURES))]
            number = Number(r.uniform(measure.low, min(measure.high, 2_000.0)))
            compared = Call(r.choice(COMPARED), (Named(measure.name), number))
            return compared if deep >= 2 and r.random() < 0.7 else Tag(r.choice(TAGS))
        op = r.choice(["and", "or", "not", "compare"])
        if op == "compare":
            unit: Unit = r.choice(list(OF_UNIT))
            pair = self.expression(unit, deep - 1), self.expression(unit, deep - 1)
            return sound(Call(r.choice(COMPARED), pair), Tag("food"))
        return Call(op, tuple(self.test(deep - 1) for _ in range(1 if op == "not" else r.randint(2, 3))))

    def program(self, deep: int) -> Program:
        while True:
            node = self.expression("", self.random.randint(1, deep))
            what = sort(node)
            if what.unit in (None, ()) and what.low <= 0.3 and what.high >= -0.3:
                program = Program(node)
                if size(node) <= NODES and len(printed(program)) <= LETTERS:
                    return program


def sort(node: Node) -> Sort:
    """What a whole tree is. Raises Wrong."""
    return sort_of_call(node.op, [sort(arg) for arg in node.args]) if isinstance(node, Call) else sort_of(node)


def sound(node: Node, instead: Node) -> Node:
    """The node, or another where its ranges break a rule (a test that always comes out the same, a division by 0)."""
    try:
        sort(node)
    except Wrong:
        return instead
    return node


def size(node: Node) -> int:
    return 1 + sum(map(size, node.args)) if isinstance(node, Call) else 1


def depth(node: Node) -> int:
    return 1 + max(map(depth, node.args)) if isinstance(node, Call) else 1


def measured(seed: int) -> dict[str, float]:
    """Measures of a content, most within their ranges, some far beyond."""
    r = Random(seed)
    beyond = (0.0, math.inf, -math.inf, 3e38, -3e38, 1e300, 1e-40, -0.0)

    def one(low: float, high: float) -> float:
        return r.choice(beyond) if r.random() < 0.2 else r.uniform(low, min(high, 10.0 ** r.uniform(0, 12)))

    found = {name: one(m.low, m.high) for name, m in MEASURES.items()}
    return found | {key_of_tag(tag): float(r.random() < 0.5) for tag in TAGS}


seeds = st.integers(0, 2**63)


def programs(deep: int = DEPTH) -> st.SearchStrategy[Program]:
    """Programs that ``parse`` lets through."""
    return seeds.map(lambda seed: Maker(seed).program(deep))


def off(node: Node, measures: Mapping[str, float], unit: float = 2.0**-24) -> float:
    """How far float32 may be from ``walked``, by running error analysis (Higham 2002, 3.3); inf at a test's tie."""
    return analysed(node, measures, unit)[1]


def analysed(node: Node, measures: Mapping[str, float], unit: float) -> tuple[float, float]:
    """An expression's value, and its error."""
    if not isinstance(node, Call):
        here = walked(node, measures)
        return here, 0.0 if isinstance(node, Tag) else unit * abs(here) + 1e-37
    args, errors = zip(*(analysed(arg, measures, unit) for arg in node.args), strict=True)
    here = walked(Call(node.op, tuple(Number(arg) for arg in args)), measures)
    if node.op in COMPARED:
        return here, math.inf if abs(args[0] - args[1]) <= sum(errors) else 0.0
    if node.op == "if":
        return here, math.inf if errors[0] else errors[1] if args[0] else errors[2]
    if node.op in ("+", "-"):
        return here, sum(errors) + len(args) * unit * sum(map(abs, args))
    if node.op not in ("*", "/"):
        return here, max(errors)
    total, error = args[0], errors[0]
    for a, e in zip(args[1:], errors[1:], strict=True):
        if node.op == "/":  # of b / (b² + ε²) the slope is at most 1 / (b² + ε²)
            squares = a * a + NEAR_ZERO**2
            e, a = e / max(max(abs(a) - e, 0.0) ** 2, NEAR_ZERO**2) + 4 * unit * abs(a) / squares, a / squares
        error = abs(total) * e + abs(a) * error + error * e
        total = max(min(total * a, LIMIT), -LIMIT)
        error += unit * abs(total)
    return here, error
