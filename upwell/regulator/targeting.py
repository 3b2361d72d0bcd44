"""Whom an experiment is for: conditions on attributes of users and contents. Data, never text that is evaluated."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NamedTuple, get_args

from msgspec import Meta, Struct

from upwell.agents.xp import Array
from upwell.errors import BadRequest

Comparison = Literal["==", "!=", "<", "<=", ">", ">=", "in", "not in"]
Side = Literal["user", "content"]
Value = str | float | bool
Values = Annotated[tuple[Value, ...], Meta(max_length=256)]


class Traits(NamedTuple):
    """What is known of a user and a content by attribute: scalars, or arrays that broadcast with the users asked of.

    What is not known is left out, None, or NaN.
    """

    user: Mapping[str, Any] = {}
    content: Mapping[str, Any] = {}


UNKNOWN = Traits()


class Target(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A condition: an attribute of ``of``, compared with ``value`` (several for ``in`` and ``not in``).

    Raises BadRequest where it can mean nothing.
    """

    of: Side = "user"
    attribute: Annotated[str, Meta(min_length=1, max_length=64)]
    comparison: Comparison
    value: Value | Values

    def __post_init__(self) -> None:
        several = isinstance(self.value, tuple)
        if self.of not in get_args(Side):
            raise BadRequest(f"target {self.attribute}: of {self.of!r} is neither user nor content")
        if self.comparison not in COMPARE:
            raise BadRequest(f"target {self.attribute}: comparison {self.comparison!r} is none of {', '.join(COMPARE)}")
        if several != (self.comparison in ("in", "not in")) or self.value == ():
            wanted = "one value" if several and self.value else "a list of values, one at least"
            raise BadRequest(f"target {self.attribute}: {self.comparison!r} takes {wanted}")
        if self.comparison[0] in "<>" and (isinstance(self.value, str | bool)):
            raise BadRequest(f"target {self.attribute}: {self.comparison!r} takes a number, not {self.value!r}")


def meets(targets: tuple[Target, ...], traits: Traits) -> Array:
    """Whether every condition holds: a bool for scalars, else bool of the attributes' broadcast shape.

    None holds on what is not known, ``!=`` and ``not in`` included. Numbers are compared in the precision that the
    attribute comes in.
    """
    out: Array = True
    for target in targets:
        out = out & _holds(target, traits.user if target.of == "user" else traits.content)
    return out


def _holds(target: Target, known: Mapping[str, Any]) -> Array:
    x = known.get(target.attribute)
    if x is None:
        return False
    try:
        return COMPARE[target.comparison](x, target.value) & (x == x)  # NaN is unlike itself
    except TypeError:  # a text where a number was expected, say
        return False


def _in(x: Array, values: tuple[Value, ...]) -> Array:
    out: Array = x == values[0]
    for value in values[1:]:
        out = out | (x == value)
    return out


def _not_in(x: Array, values: tuple[Value, ...]) -> Array:
    out: Array = x != values[0]
    for value in values[1:]:
        out = out & (x != value)
    return out


COMPARE: dict[str, Callable[[Array, Any], Array]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
    "in": _in, "not in": _not_in,
}  # fmt: skip
