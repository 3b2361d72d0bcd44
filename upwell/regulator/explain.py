"""Why each place of a slate holds what it holds: named contributions that add up, and reason codes.

Scores are sums of named parts (``agents.parts``), compared in whole steps of 1/1024. Each part is rounded to such steps
and ``rounding`` closes the sum, so that contributions add up to the compared logit exactly, in floating point too.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from upwell.agents.parts import Parts
from upwell.agents.xp import MILLI, Array, Namespace, quantise, side_by_side, take
from upwell.regulator.slate import EXPLORED, HEATED, ORGANIC, Question, Slate, explored_places, heated_places
from upwell.regulator.words import REASONS

CODES = tuple(REASONS)
BIT = {code: 1 << i for i, code in enumerate(CODES)}


class Explanation(NamedTuple):
    """Of every place, ``[..., R, K]``."""

    logit: Array  # f32, the score that was compared among its kind
    contributions: Parts  # f32 each, logits; they add up to ``logit``, and are 0 where not of the place's kind
    reasons: Array  # i32, bit i set: CODES[i]


def contributions(
    xp: Namespace, asked: Question, picked: Slate, organic: Parts, heated: Parts, explored: Parts
) -> tuple[Array, Parts]:
    """The compared logit of every place and its named contributions, f32 ``[..., R, K]`` each.

    Args:
        organic: parts of the organic scores, each broadcasts to ``[..., R, C]``.
        heated: parts of the grants' scores, ``[..., R, G]``.
        explored: parts of the preference to explore, ``[..., R, C]``; none where nothing was explored.
    """
    logit: Array = 0.0
    named: Parts = {}
    sources = [(ORGANIC, organic, asked.scores)]
    if asked.grants is not None:
        sources.append((HEATED, heated, asked.grants.scores))
    if asked.exploration is not None and explored:
        sources.append((EXPLORED, explored, asked.exploration.logits))
    for kind, parts, total in sources:
        here = picked.kind == kind
        column = xp.where(here, picked.column, 0)
        shape = total.shape
        values = [
            take(xp, one if one.shape == shape else xp.broadcast_to(one, shape), column)
            for one in (total, *parts.values())
        ]
        whole = xp.where(here, quantise(xp, values[0]) if kind == EXPLORED else values[0], 0.0)
        steps = xp.where(here[..., None], quantise(xp, side_by_side(xp, values[1:])), 0.0)
        logit = logit + whole / MILLI
        each = {name: steps[..., i] / MILLI for i, name in enumerate(parts)}
        each["rounding"] = (whole - steps.sum(-1)) / MILLI
        named |= {name: named[name] + part if name in named else part for name, part in each.items()}
    return logit, named


@cache
def special_places(size: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Which of the heated places each place is ``[K]``, ``size`` where none; which are explorable."""
    rank, explorable = np.full(size, size), np.zeros(size, bool)
    rank[list(heated_places(size))] = np.arange(len(heated_places(size)))
    explorable[list(explored_places(size))] = True
    return rank, explorable


def reasons(xp: Namespace, asked: Question, picked: Slate, owed: Array, held_out: Array, protected: Array) -> Array:
    """Reason codes as bits, i32 ``[..., R, K]``.

    Args:
        owed: bool ``[..., R, K]``, contents owed a heating chance.
        held_out, protected: bool ``[..., R]``; the held out are protected too.
    """
    heat_rank, explorable = special_places(picked.ids.shape[-1])
    may_heat = heat_rank < len(heat_rank)
    heated = xp.where(owed, BIT["heated:chance"], BIT["heated:grant"])
    explored = xp.where(picked.kind == EXPLORED, BIT["explored"], BIT["ranker"])
    bits = xp.where(picked.kind == HEATED, heated, explored)
    # What kept a place organic, where something else might have stood.
    held, new = held_out[..., None], (protected & ~held_out)[..., None]
    kept: Array = 0
    if asked.exploration is not None:
        kept = kept | BIT["kept_from_new_user"] * (explorable & new) | BIT["holdout"] * (explorable & held)
    if asked.slots is not None:
        capped = may_heat & ~held & (asked.slots[..., None] <= heat_rank)
        kept = kept | BIT["holdout"] * (may_heat & held) | BIT["cap_reached"] * capped
    return (bits + kept * (picked.kind == ORGANIC)).astype(xp.int32)


def names(bits: int) -> tuple[str, ...]:
    """The codes of one place."""
    return tuple(code for i, code in enumerate(CODES) if bits >> i & 1)
