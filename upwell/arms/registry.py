"""Arms by name, and what may be tuned of each."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from upwell.agents.dials import ROLES, TURNS, Dials
from upwell.agents.network import load_policy
from upwell.arms import deepfm, itemcf, linucb, marl, meta, pid, thompson
from upwell.arms.oracle import PLANNERS
from upwell.arms.raw import raw
from upwell.arms.rules import rules, rules_tuned, turned_to
from upwell.arms.tuning import Range
from upwell.errors import BadRequest
from upwell.world.arm import Arm

ARMS: dict[str, tuple[Arm, ...]] = {
    "raw": (raw,),
    "itemcf": itemcf.FAMILY,
    "deepfm": (deepfm.deepfm,),
    "meta": (meta.meta,),
    "linucb": (linucb.linucb,),
    "thompson": (thompson.thompson,),
    "pid": (pid.pid,),
    "rules": (rules,),
    "rules_tuned": (rules_tuned,),
    "maddpg": (marl.by_shipped("maddpg"),),
    "marl": (marl.marl,),
    "oracle": PLANNERS,
}
"""Each arm's members: one, or a family of which the best by objective on each seed is the arm."""


class Space(NamedTuple):
    """What a search may turn of an arm."""

    family: tuple[Arm, ...]
    ranges: dict[str, Range]
    make: Callable[[dict[str, float]], Any]  # of a value for each range: what stands in for the members' ``tuned``


def declared(family: tuple[Arm, ...], ranges: dict[str, Range]) -> Space:
    """Of an arm whose ``tuned`` are the tunables."""
    return Space(family, ranges, lambda values: family[0].tuned._replace(**values))


def of_rules() -> Space:
    """The rules' dials, each within what a full action of an agent turns it by."""
    ranges: dict[str, Range] = {}
    for role in ROLES:
        for name, turn in TURNS[role].items():
            middle = getattr(getattr(Dials(), role), name)
            step = math.exp(turn.span)
            ends = (middle / step, middle * step) if turn.factor else (middle - turn.span, middle + turn.span)
            ranges[f"{role}.{name}"] = Range(*ends, log=turn.factor)

    def make(values: dict[str, float]) -> Dials:
        dials = Dials()
        for key, value in values.items():
            role, _, name = key.partition(".")
            dials = dials._replace(**{role: getattr(dials, role)._replace(**{name: value})})
        return dials

    return Space((turned_to("rules", Dials()),), ranges, make)


SPACES: dict[str, Space] = {
    "itemcf": declared(itemcf.FAMILY, itemcf.RANGES),
    "deepfm": declared(ARMS["deepfm"], deepfm.RANGES),
    "meta": declared(ARMS["meta"], meta.RANGES),
    "linucb": declared(ARMS["linucb"], linucb.RANGES),
    "thompson": declared(ARMS["thompson"], thompson.RANGES),
    "pid": declared(ARMS["pid"], pid.RANGES),
    "rules": of_rules(),
}
"""Of the arms that have anything to tune."""


TRAINED = "marl:"
"""Before the name of a file that ``upwell train`` wrote: the arm that plays by it."""


def members(name: str) -> tuple[Arm, ...]:
    """The arms that a run of ``name`` consists of. Raises BadRequest where there is none, or the file is no policy."""
    if name.startswith(TRAINED):
        return (trained(name, label(name)),)
    if name not in ARMS:
        raise BadRequest(f"unknown arm '{name}': choose from {', '.join(ARMS)}, or {TRAINED}FILE with a policy's file")
    return ARMS[name]


@cache
def trained(name: str, content: str) -> Arm:
    """The arm of a policy's file, which holds ``content``: the same for the same, so that nothing compiles anew."""
    policy = load_policy(Path(name.removeprefix(TRAINED)))
    return marl.playing(name, lambda: policy)


def label(name: str) -> str:
    """An arm's name as files are called: that of a policy's file tells one content of it from another."""
    if not name.startswith(TRAINED):
        return name
    path = Path(name.removeprefix(TRAINED))
    if not path.is_file():
        raise BadRequest(f"{path}: no such file")
    return f"marl-{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"


def space(name: str) -> Space:
    """What may be tuned of an arm. Raises BadRequest where there is nothing."""
    members(name)
    if name not in SPACES:
        raise BadRequest(f"the arm '{name}' has nothing to tune: choose from {', '.join(SPACES)}")
    return SPACES[name]
