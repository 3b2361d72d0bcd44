"""What a tree comes to: of one content by walking it, which says what it means, and over arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import reduce

from upwell.agents.xp import Array, Namespace, clip
from upwell.goals.program_tree import LIMIT, MEASURES, NEAR_ZERO, Named, Node, Number, Tag, held


def key_of_tag(name: str) -> str:
    """Under which key of the measures a program finds which contents have a tag."""
    return f"tag:{name}"


def walked(node: Node, measures: Mapping[str, float]) -> float:
    """Of one content, in double precision. A test is 1.0 or 0.0."""
    if isinstance(node, Number):
        return node.value
    if isinstance(node, Tag):
        return float(measures[key_of_tag(node.name)] != 0)
    if isinstance(node, Named):
        found, measure = float(measures[node.name]), MEASURES[node.name]
        return min(max(0.0 if math.isnan(found) else found, measure.low), measure.high)
    args = [walked(arg, measures) for arg in node.args]
    match node.op:
        case "if":
            return args[1] if args[0] else args[2]
        case "or":
            return max(args)
        case "and":
            return min(args)
        case "not":
            return 1.0 - args[0]
        case ">":
            return float(args[0] > args[1])
        case ">=":
            return float(args[0] >= args[1])
        case "<":
            return float(args[0] < args[1])
        case "<=":
            return float(args[0] <= args[1])
        case "+":
            return sum(args)
        case "-":
            return args[0] - args[1]
        case "*":
            return reduce(lambda a, b: held(a * b), args)
        case "/":
            return held(args[0] * args[1] / (args[1] ** 2 + NEAR_ZERO**2))
        case "min":
            return min(args)
        case "max":
            return max(args)
        case "clip":
            return min(max(args[0], args[1]), args[2])
        case _:
            raise ValueError(node.op)


def cleaned(xp: Namespace, name: str, found: Array) -> Array:
    """A measure within its range, f32; clipped first, since what float32 cannot hold would be infinite."""
    found, measure = xp.asarray(found), MEASURES[name]
    return clip(xp, xp.where(found == found, found, 0), measure.low, measure.high).astype(xp.float32)


def as_number(xp: Namespace, found: Array) -> Array:
    return found.astype(xp.float32) if found.dtype == bool else found


def over(xp: Namespace, node: Node, measures: Mapping[str, Array]) -> Array:
    """Over arrays of measures that are ``cleaned``, and bool of tags: f32, or bool of a test."""
    if isinstance(node, Number):
        return xp.float32(node.value)
    if isinstance(node, Named):
        return measures[node.name]
    if isinstance(node, Tag):
        return measures[key_of_tag(node.name)]
    args = [over(xp, arg, measures) for arg in node.args]
    if node.op in TESTS:
        return TESTS[node.op](xp, *args)
    return STEPS[node.op](xp, *(as_number(xp, arg) for arg in args))


TESTS: dict[str, Callable[..., Array]] = {
    "if": lambda xp, test, then, other: xp.where(test, as_number(xp, then), as_number(xp, other)),
    "or": lambda xp, *all: reduce(lambda a, b: a | b, all),
    "and": lambda xp, *all: reduce(lambda a, b: a & b, all),
    "not": lambda xp, a: ~a,
}
"""Those that take tests as such."""

STEPS: dict[str, Callable[..., Array]] = {
    ">": lambda xp, a, b: a > b,
    ">=": lambda xp, a, b: a >= b,
    "<": lambda xp, a, b: a < b,
    "<=": lambda xp, a, b: a <= b,
    "+": lambda xp, *all: reduce(lambda a, b: a + b, all),
    "-": lambda xp, a, b: a - b,
    "*": lambda xp, *all: reduce(lambda a, b: clip(xp, a * b, -LIMIT, LIMIT), all),
    "/": lambda xp, a, b: clip(xp, a * b / (b * b + NEAR_ZERO**2), -LIMIT, LIMIT),
    "min": lambda xp, *all: reduce(xp.minimum, all),
    "max": lambda xp, *all: reduce(xp.maximum, all),
    "clip": lambda xp, a, low, high: xp.minimum(xp.maximum(a, low), high),
}
