"""The user agent by rules: whether to explore, and how far from what the user knows."""

from __future__ import annotations

from upwell.agents.mind import CURIOSITY, EXPLOITATION, FATIGUE, SATISFACTION
from upwell.agents.xp import Array, Namespace

MOST = 0.35
"""Highest explore probability at one place."""


def explore_probability(xp: Namespace, mind: Array) -> Array:
    """Chance to explore at each explorable place, f32 ``[...]``.

    Curiosity and fatigue call for something else; exploitation holds back; an unhappy user is not experimented on.
    """
    drive = mind[..., CURIOSITY] * (1.0 - mind[..., EXPLOITATION]) + 0.5 * mind[..., FATIGUE]
    calm = xp.clip((mind[..., SATISFACTION] - 0.3) / 0.3, 0.0, 1.0)
    return xp.clip(drive * calm, 0.0, 1.0) * MOST


def explore_logits(xp: Namespace, similarity: Array, promise: Array, new: Array, mind: Array) -> Array:
    """Preference among candidates to explore, f32 ``[..., R, C]`` (logits).

    Args:
        similarity: cosine of candidate to profile ``[..., R, C]``; the curious reach further from it.
        promise: log of posterior click rate over the platform's ``[..., 1, C]``.
        new: bool ``[..., 1, C]``.
    """
    reach = 0.6 - 0.6 * mind[..., CURIOSITY][..., None]
    return 2.0 * promise + 0.5 * new - 4.0 * xp.abs(similarity - reach)
