"""Arms by name."""

from __future__ import annotations

from upwell.arms import itemcf
from upwell.arms.oracle import PLANNERS
from upwell.arms.raw import raw
from upwell.arms.rules import rules
from upwell.errors import BadRequest
from upwell.world.arm import Arm

ARMS: dict[str, tuple[Arm, ...]] = {"raw": (raw,), "itemcf": itemcf.FAMILY, "rules": (rules,), "oracle": PLANNERS}
"""Each arm's members: one, or a family of which the best by objective on each seed is the arm."""


def members(name: str) -> tuple[Arm, ...]:
    """The arms that a run of ``name`` consists of. Raises BadRequest for an unknown name."""
    if name not in ARMS:
        raise BadRequest(f"unknown arm '{name}': choose from {', '.join(ARMS)}")
    return ARMS[name]
