"""The user agent by rules: whether to explore, how far from what the user knows, and what it learns of a user."""

from __future__ import annotations

from typing import NamedTuple

from upwell.agents.mind import CURIOSITY, EXPLOITATION, FATIGUE, SATISFACTION
from upwell.agents.xp import Array, Namespace, clip

MOST = 0.95
"""Highest explore probability at one place: below 1, so that what would have stood there keeps a chance."""


class UserDials(NamedTuple):
    """What a policy may turn; the defaults are the rules. Floats or scalar arrays."""

    explore: Array = 1.0  # factor on the explore probability
    reach: Array = 0.3  # cosine to the profile at which a user without curiosity explores
    novelty: Array = 0.5  # logits, preference for new content


RULES = UserDials()


def explore_probability(xp: Namespace, mind: Array, dials: UserDials = RULES) -> Array:
    """Chance to explore at each explorable place, f32 ``[...]``.

    Curiosity and fatigue call for something else; exploitation holds back; an unhappy user is not experimented on.
    """
    drive = mind[..., CURIOSITY] * (1.0 - mind[..., EXPLOITATION]) + 0.5 * mind[..., FATIGUE]
    calm = clip(xp, (mind[..., SATISFACTION] - 0.3) / 0.3, 0.0, 1.0)
    return clip(xp, drive * calm * dials.explore, 0.0, MOST)


def explore_parts(
    xp: Namespace, similarity: Array, promise: Array, new: Array, mind: Array, dials: UserDials = RULES
) -> dict[str, Array]:
    """Preference among candidates to explore, in named parts whose sum is the logit; each broadcasts to
    ``[..., R, C]``.

    Args:
        similarity: cosine of candidate to profile ``[..., R, C]``; the curious reach further from it.
        promise: log of posterior click rate over the platform's ``[..., 1, C]``.
        new: bool ``[..., 1, C]``.
    """
    reach = dials.reach - 0.6 * mind[..., CURIOSITY][..., None]
    return {
        "promise": 2.0 * promise,
        "novelty": dials.novelty * new,
        "reach": -(4.0 * xp.abs(similarity - reach)),
    }


def taste_step(profile: Array, embedding: Array, rate: Array) -> Array:
    """What one click adds to a profile: a step of ``rate`` towards what was clicked, f32 ``[..., D]``."""
    return rate * (embedding - profile)


def expected_after(expected: Array, clicks: Array, size: Array) -> Array:
    """Running clicks per impression of a user after one more slate of ``size``, f32 ``[...]``."""
    return expected + 0.05 * (clicks / size - expected)


def familiarity(xp: Namespace, embedding: Array, recent: Array) -> Array:
    """Mean cosine of a slate of unit embeddings ``[..., K, D]`` to what was shown just before ``[..., D]``."""
    dot = xp.matmul(embedding, recent[..., None])[..., 0].mean(-1)
    return dot / xp.maximum(xp.sqrt((recent * recent).sum(-1)), 1e-6)
