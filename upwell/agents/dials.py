"""The dials of the three agents together, and how an action in [-1, 1] turns one: 0 leaves it as the rules have it."""

from __future__ import annotations

from typing import NamedTuple

from upwell.agents.content import ContentDials
from upwell.agents.system import SystemDials
from upwell.agents.user import UserDials
from upwell.agents.xp import Array, Namespace

ROLES: tuple[str, ...] = ("user", "content", "system")


class Dials(NamedTuple):
    """One set for each role; the defaults are the rules."""

    user: UserDials = UserDials()
    content: ContentDials = ContentDials()
    system: SystemDials = SystemDials()


class Turn(NamedTuple):
    """How far a full action turns a dial: ``default · exp(±span)`` for a factor, ``default ± span`` otherwise."""

    span: float
    factor: bool


TURNS: dict[str, dict[str, Turn]] = {
    "user": {
        "explore": Turn(1.5, True),
        "reach": Turn(0.4, False),
        "novelty": Turn(2.0, False),
        "wide": Turn(3.0, False),
        "taste": Turn(4.0, False),
        "worth": Turn(2.0, False),
        "satiety": Turn(4.0, False),
        "idle": Turn(1.0, False),
        "fresh": Turn(1.0, False),
        "unknown": Turn(1.0, False),
        "starting": Turn(4.0, False),
    },
    "content": {
        "ask": Turn(1.0, True),
        "amount": Turn(1.5, True),
        "bid": Turn(1.0, True),
        "discount": Turn(0.5, False),
        "certainty": Turn(0.6, False),
        "audience": Turn(0.3, False),
    },
    "system": {
        "user": Turn(1.5, True),
        "revenue": Turn(1.5, True),
        "long_term": Turn(1.5, True),
        "approval": Turn(0.3, False),
        "share": Turn(1.0, True),
        "promise": Turn(1.0, True),
        "wide": Turn(3.0, False),
    },
}
"""Every dial of every role, in the order of an action's numbers."""


def turned(xp: Namespace, role: str, action: Array) -> dict[str, Array]:
    """The dials of a role under actions f32 ``[..., n]`` in [-1, 1], a number for each dial; f32 ``[...]`` by name."""
    rules = getattr(Dials(), role)
    values: dict[str, Array] = {}
    for i, (name, turn) in enumerate(TURNS[role].items()):
        default, step = getattr(rules, name), action[..., i] * turn.span
        values[name] = default * xp.exp(step) if turn.factor else default + step
    return values


def dials_under(xp: Namespace, actions: dict[str, Array]) -> Dials:
    """All dials under an action of each role."""
    user, content, system = (turned(xp, role, actions[role]) for role in ROLES)
    return Dials(UserDials(**user), ContentDials(**content), SystemDials(**system))
