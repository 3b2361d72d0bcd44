"""The user agent by rules: whether to explore, how far from what the user knows, and what it learns of a user."""

from __future__ import annotations

from typing import NamedTuple

from upwell.agents.mind import CURIOSITY, EXPLOITATION, FATIGUE, SATISFACTION
from upwell.agents.xp import Array, Namespace, clip

MOST = 0.95
"""Highest explore probability at one place: below 1, so that what would have stood there keeps a chance."""


class UserDials(NamedTuple):
    """What a policy may turn; the defaults are the rules. Floats, scalars, or one for each request."""

    explore: Array = 1.0  # factor on the explore probability
    reach: Array = 0.3  # cosine to the profile at which a user without curiosity explores
    novelty: Array = 0.5  # logits, preference for new content
    wide: Array = 0.0  # logits, preference for tags that lie idle
    # What the organic order is corrected by, in standard deviations of the ranker's scores:
    taste: Array = 0.0  # a unit of cosine to the profile
    worth: Array = 0.0  # a logit of worth
    satiety: Array = 0.0  # full likeness to what was lately shown
    idle: Array = 0.0  # tags of which none was engaged for a week
    fresh: Array = 0.0  # just born
    unknown: Array = 0.0  # never shown to anyone
    starting: Array = 0.0  # a cold start under way that needs the impression


RULES = UserDials()

CORRECTIONS = ("taste", "worth", "satiety", "idle", "fresh", "unknown", "starting")
"""The dials that correct the organic order, and what of a candidate each weighs."""


class Sight(NamedTuple):
    """What a user agent sees of candidates; each broadcasts to ``[..., R, C]``."""

    taste: Array  # cosine to the profile
    worth: Array  # log of valid views over what the platform's mean content had won of as many impressions
    satiety: Array  # likeness to what was lately shown, in [0, 1]
    idle: Array  # share of its tags that the user engaged none of for a week
    fresh: Array  # exp(-age in days / 3)
    unknown: Array  # 1 / sqrt(1 + expected clicks of the impressions it has had)
    starting: Array  # how far its cold start needs the impression, in [0, 1]


def each(xp: Namespace, dial: Array) -> Array:
    """A dial that may be one number or one for each request, against candidates ``[..., C]``."""
    return xp.asarray(dial, dtype=xp.float32)[..., None]


def spread(xp: Namespace, scores: Array) -> Array:
    """Standard deviation of the ranker's scores among a request's candidates, f32 ``[..., 1]``.

    In this unit a correction that was learned on one platform means the same on another.
    """
    off = scores - scores.mean(-1, keepdims=True)
    return xp.sqrt((off * off).mean(-1, keepdims=True))


def corrected(xp: Namespace, scores: Array, sight: Sight, allowed: Array, dials: UserDials) -> dict[str, Array]:
    """The organic order with the user agent's corrections, in named parts whose sum is the score.

    Args:
        scores: the ranker's ``[..., R, C]``.
        allowed: share in [0, 1] of the corrections that this request may have ``[..., R]``: 0 under protection and in
            the holdout, less where the throttle holds back.
    """
    unit = spread(xp, scores) * each(xp, allowed)
    corrections = {name: unit * each(xp, getattr(dials, name)) * getattr(sight, name) for name in CORRECTIONS}
    return {"ranker": scores} | corrections


def explore_probability(xp: Namespace, mind: Array, dials: UserDials = RULES) -> Array:
    """Chance to explore at each explorable place, f32 ``[...]``.

    Curiosity and fatigue call for something else; exploitation holds back; an unhappy user is not experimented on.
    """
    drive = mind[..., CURIOSITY] * (1.0 - mind[..., EXPLOITATION]) + 0.5 * mind[..., FATIGUE]
    calm = clip(xp, (mind[..., SATISFACTION] - 0.3) / 0.3, 0.0, 1.0)
    return clip(xp, drive * calm * dials.explore, 0.0, MOST)


def explore_parts(
    xp: Namespace,
    similarity: Array,
    promise: Array,
    new: Array,
    mind: Array,
    dials: UserDials = RULES,
    idle: Array | None = None,
) -> dict[str, Array]:
    """Preference among candidates to explore, in named parts whose sum is the logit; each broadcasts to
    ``[..., R, C]``.

    Args:
        similarity: cosine of candidate to profile ``[..., R, C]``; the curious reach further from it.
        promise: log of posterior click rate over the platform's ``[..., 1, C]``.
        new: bool ``[..., 1, C]``.
        idle: share of a content's tags that the user engaged none of for a week; None where it is not known.
    """
    reach = each(xp, dials.reach - 0.6 * mind[..., CURIOSITY])
    parts = {
        "promise": 2.0 * promise,
        "novelty": each(xp, dials.novelty) * new,
        "reach": -(4.0 * xp.abs(similarity - reach)),
    }
    return parts if idle is None else parts | {"wide": each(xp, dials.wide) * idle}


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
