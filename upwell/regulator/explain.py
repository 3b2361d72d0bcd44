"""Why each place of a slate holds what it holds: named contributions that add up, and reason codes.

Scores are sums of named parts (``agents.parts``), compared in whole steps of 1/1024. Each part is rounded to such steps
and ``rounding`` closes the sum, so that contributions add up to the compared logit exactly, in floating point too.
"""

from __future__ import annotations

from typing import NamedTuple

from upwell.agents.parts import Parts
from upwell.agents.xp import MILLI, Array, Namespace, quantise, take
from upwell.regulator.slate import EXPLORED, HEATED, ORGANIC, Question, Slate, explored_places, heated_places

REASONS: dict[str, str] = {
    "ranker": "The ranker put it here.",
    "explored": "The user's agent tried something new here.",
    "heated:chance": "New content gets its heating chance.",
    "heated:grant": "The content's grant pays for this place.",
    "kept_from_new_user": "The user is new: nothing was tried out here, and the ranker's order stands.",
    "holdout": "The user is in the holdout: the ranker's order stands.",
    "cap_reached": "The hour's cap on heated impressions was reached: the ranker's order stands.",
}
"""Reason codes and what they mean."""

CODES = tuple(REASONS)


class Explanation(NamedTuple):
    """Of every place, ``[..., R, K]``."""

    logit: Array  # f32, the score that was compared among its kind
    contributions: Parts  # f32 each, logits; they add up to ``logit``, and are 0 where not of the place's kind
    reasons: Array  # i32, bit i set: CODES[i]


def columns(xp: Namespace, ids: Array, shown: Array) -> Array:
    """Where each shown id stands among ``ids`` ``[..., X]``, i32 ``[..., R, K]``; 0 where it does not."""
    return xp.argmax(shown[..., None] == ids[..., None, None, :], axis=-1).astype(xp.int32)


def added_up(xp: Namespace, parts: Parts, total: Array, index: Array, here: Array) -> tuple[Array, Parts]:
    """Parts at ``index`` in whole steps, and the rest that rounding left; zero outside ``here`` (bool)."""
    shape = total.shape

    def at(values: Array) -> Array:
        return xp.where(here, take(xp, xp.broadcast_to(values, shape), index), 0.0)

    steps = {name: quantise(xp, at(part)) for name, part in parts.items()}
    whole = at(total)
    steps["rounding"] = whole - sum(steps.values())
    return whole / MILLI, {name: values / MILLI for name, values in steps.items()}


def contributions(
    xp: Namespace, asked: Question, picked: Slate, organic: Parts, heated: Parts, explored: Parts
) -> tuple[Array, Parts]:
    """The compared logit of every place and its named contributions, f32 ``[..., R, K]`` each.

    Args:
        organic: parts of the organic scores, each broadcasts to ``[..., R, C]``.
        heated: parts of the grants' scores, ``[..., R, G]``.
        explored: parts of the preference to explore, ``[..., R, C]``.
    """
    among = columns(xp, asked.ids, picked.ids)
    groups = [added_up(xp, organic, asked.scores, among, picked.kind == ORGANIC)]
    if asked.grants is not None:
        index = columns(xp, asked.grants.ids, picked.ids)
        groups.append(added_up(xp, heated, asked.grants.scores, index, picked.kind == HEATED))
    if asked.exploration is not None:
        preferred = quantise(xp, asked.exploration.logits)
        groups.append(added_up(xp, explored, preferred, among, picked.kind == EXPLORED))
    logit, named = groups[0]
    for whole, parts in groups[1:]:
        logit = logit + whole
        named = {name: named.get(name, 0.0) + parts.get(name, 0.0) for name in named | parts}
    return logit, named


def reasons(xp: Namespace, asked: Question, picked: Slate, owed: Array, held_out: Array, protected: Array) -> Array:
    """Reason codes as bits, i32 ``[..., R, K]``.

    Args:
        owed: bool ``[..., R, K]``, contents owed a heating chance.
        held_out, protected: bool ``[..., R]``; the held out are protected too.
    """
    size = picked.ids.shape[-1]
    place = xp.arange(size)
    rank_of = {k: h for h, k in enumerate(heated_places(size))}
    heat_rank = xp.asarray([rank_of.get(k, -1) for k in range(size)])
    explorable = xp.asarray([k in explored_places(size) for k in range(size)])
    organic = picked.kind == ORGANIC
    heats, explores = asked.slots is not None, asked.exploration is not None
    slots = asked.slots[..., None] if asked.slots is not None else size
    is_heat, is_tried = heats & (heat_rank >= 0), explores & explorable
    of: dict[str, Array] = {
        "ranker": organic,
        "explored": picked.kind == EXPLORED,
        "heated:chance": (picked.kind == HEATED) & owed,
        "heated:grant": (picked.kind == HEATED) & ~owed,
        "kept_from_new_user": organic & is_tried & (protected & ~held_out)[..., None],
        "holdout": organic & (is_heat | is_tried) & held_out[..., None],
        "cap_reached": organic & is_heat & ~held_out[..., None] & (slots <= heat_rank),
    }
    bits = xp.zeros(picked.ids.shape, dtype=xp.int32) + 0 * place
    for i, code in enumerate(CODES):
        bits = bits + (1 << i) * of[code].astype(xp.int32)
    return bits


def names(bits: int) -> tuple[str, ...]:
    """The codes of one place."""
    return tuple(code for i, code in enumerate(CODES) if bits >> i & 1)
