"""The user's mind state: exploitation, curiosity, fatigue, satisfaction, each in [0, 1].

Departures from the literal rules, with their reasons (also in docs/decisions.md):

* one update per slate, on **surprise** (clicks against the user's own expected clicks): at usual click rates the
  per-impression rule settles at 1.5·CTR - 0.5, below zero for any CTR under 33%;
* curiosity and fatigue fall back to their first value with a half-life, and exploitation recovers likewise:
  as written these only ever push one way;
* everything is clamped to [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from upwell.agents.xp import Array, Namespace, clip, side_by_side

EXPLOITATION, CURIOSITY, FATIGUE, SATISFACTION = 0, 1, 2, 3
FIRST_SIGHT = (0.7, 0.5, 0.2, 0.6)


@dataclass(frozen=True)
class MindRules:
    """Parameters of the dynamics, dimensionless unless named."""

    satisfaction_memory: float = 0.9
    miss: float = -0.5
    curiosity_step: float = 0.1
    fatigue_step: float = 0.2
    similar: float = 0.8
    low_satisfaction: float = 0.5
    exploitation_step: float = 0.1
    curiosity_half_life_h: float = 72.0
    fatigue_half_life_h: float = 6.0
    exploitation_half_life_h: float = 48.0
    surprise_weight: float = 0.25


def first_sight(xp: Namespace, shape: tuple[int, ...]) -> Array:
    """Mind state of users never seen before, f32 ``[*shape, 4]``."""
    return xp.broadcast_to(xp.asarray(FIRST_SIGHT, dtype=xp.float32), (*shape, 4)) + xp.zeros((*shape, 4), xp.float32)


def recover(xp: Namespace, mind: Array, elapsed_h: Array, rules: MindRules) -> Array:
    """The mind after ``elapsed_h`` hours without an impression: each state falls back towards its first value."""
    first, half_lives = constants(rules)
    kept = xp.exp2(-xp.maximum(elapsed_h, 0.0)[..., None] / half_lives)
    return (first + (mind - first) * kept).astype(xp.float32)


@cache
def constants(rules: MindRules) -> tuple[np.ndarray, np.ndarray]:
    """First sight and half-lives in hours, f32 ``[4]`` each."""
    half_lives = rules.exploitation_half_life_h, rules.curiosity_half_life_h, rules.fatigue_half_life_h, np.inf
    return np.asarray(FIRST_SIGHT, np.float32), np.asarray(half_lives, np.float32)


def update(
    xp: Namespace,
    mind: Array,
    clicks: Array,
    expected_clicks: Array,
    clicked_new: Array,
    similarity: Array,
    rules: MindRules,
) -> Array:
    """The mind after one slate.

    Args:
        mind: f32 ``[..., 4]``, already recovered to the time of the slate.
        clicks: clicks in the slate ``[...]``.
        expected_clicks: what this user usually clicks in such a slate ``[...]``.
        clicked_new: whether a click fell on new content ``[...]``.
        similarity: mean cosine of the slate to what the user was shown just before, ``[...]``.

    Returns:
        f32 ``[..., 4]`` in [0, 1].
    """
    exploitation, curiosity, fatigue, satisfaction = (mind[..., i] for i in range(4))
    # 0.6 is where a slate with exactly the expected clicks leaves a user: neither pleased nor disappointed.
    surprise = (clicks - expected_clicks) / xp.sqrt(xp.maximum(expected_clicks, 0.05))
    outcome = clip(xp, 0.6 + rules.surprise_weight * surprise, rules.miss, 1.0)
    satisfaction = rules.satisfaction_memory * satisfaction + (1 - rules.satisfaction_memory) * outcome
    curiosity = curiosity + rules.curiosity_step * clicked_new
    fatigue = fatigue + rules.fatigue_step * (similarity > rules.similar)
    exploitation = exploitation - rules.exploitation_step * (satisfaction < rules.low_satisfaction)
    return clip(xp, side_by_side(xp, (exploitation, curiosity, fatigue, satisfaction)), 0.0, 1.0).astype(xp.float32)
