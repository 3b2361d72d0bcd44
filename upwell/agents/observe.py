"""What an agent sees: few dimensionless numbers of order 1 that any platform has, so that a policy can move to another.

Plain functions over ``xp``; the simulated platform and the service see by the same ones.
"""

from __future__ import annotations

from typing import NamedTuple

from upwell.agents import content
from upwell.agents.xp import Array, Namespace, clip, side_by_side

LIMIT = 3.0
"""What is seen is clipped to this on both sides."""

Weights = tuple[Array, Array, Array]
"""Of user satisfaction, revenue and the long term."""

WEIGHTS = ("weight_user", "weight_revenue", "weight_long_term")
USER = (
    "exploitation", "curiosity", "fatigue", "satisfaction", "click_rate", "breadth", "focus", "sameness", "newcomer",
    *WEIGHTS,
)  # fmt: skip
CONTENT = (
    "young", "exposure", "heated", "promise", "worth", "known", "followers", "coins", "match", "started",
    "throttle", "load", "pool_left", *WEIGHTS,
)  # fmt: skip
SEES: dict[str, tuple[str, ...]] = {"user": USER, "content": CONTENT, "system": CONTENT}
"""What each role sees, in order. The system sees the contents that ask."""


class Platform(NamedTuple):
    """What all agents of a platform see alike; scalars."""

    scale: Array  # impressions a live content a day, over 500
    platform_ctr: Array
    throttle: Array
    load: Array  # heated share of the hour over the cap
    pool_left: Array  # share of the day's pool
    weights: Weights


def gathered(xp: Namespace, names: tuple[str, ...], facts: dict[str, Array], shape: tuple[int, ...]) -> Array:
    """Facts side by side in the order of ``names``, each broadcast to ``shape``; f32 ``[*shape, n]`` in ±``LIMIT``."""
    columns = [xp.broadcast_to(xp.asarray(facts[name], dtype=xp.float32), shape) for name in names]
    return clip(xp, side_by_side(xp, columns), -LIMIT, LIMIT)


def by_weight(weights: Weights) -> dict[str, Array]:
    """The goal's weights as shares, a third of each being 0."""
    total = weights[0] + weights[1] + weights[2]
    return {name: 3.0 * weight / total - 1.0 for name, weight in zip(WEIGHTS, weights, strict=True)}


def length(xp: Namespace, vectors: Array) -> Array:
    return xp.sqrt((vectors * vectors).sum(-1))


def of_user(
    xp: Namespace, mind: Array, expected: Array, tags: Array, profile: Array, recent: Array, age_days: Array,
    platform: Platform,
) -> Array:  # fmt: skip
    """What user agents see, f32 ``[..., n]``.

    Args:
        mind: f32 ``[..., 4]``.
        expected: running clicks an impression of this user ``[...]``.
        tags: distinct tags engaged in the last seven days ``[...]``.
        profile, recent: fading means of what was clicked and of what was shown, of unit embeddings ``[..., D]``.
        age_days: since the user's account was made ``[...]``.
    """
    facts = {name: 2.0 * (mind[..., i] - 0.5) for i, name in enumerate(USER[:4])}
    facts |= {
        "click_rate": xp.log((expected + 1e-3) / (platform.platform_ctr + 1e-3)),
        "breadth": xp.log1p(tags.astype(xp.float32)) - 2.0,
        "focus": 2.0 * length(xp, profile) - 1.0,
        "sameness": 2.0 * length(xp, recent) - 1.0,
        "newcomer": xp.exp(-xp.maximum(age_days, 0.0) / 7.0),
    } | by_weight(platform.weights)
    return gathered(xp, USER, facts, mind.shape[:-1])


def of_content(
    xp: Namespace, impressions: Array, clicks: Array, valid: Array, heated: Array, age_days: Array, followers: Array,
    coins: Array, budget: Array, match: Array, platform: Platform,
) -> Array:  # fmt: skip
    """What content agents see of themselves, and the system agent of who asks; f32 ``[M, n]``.

    Args:
        impressions, clicks, valid, heated: counted so far ``[M]``.
        coins: left of the content's own ``budget``.
        match: cosine to the segment it suits best ``[M]``.
    """
    known = impressions * platform.platform_ctr
    facts = {
        "young": 2.0 * xp.exp(-age_days / 3.0) - 1.0,
        "exposure": 0.5 * xp.log1p(impressions / (50.0 * platform.scale)) - 1.0,
        "heated": 0.5 * xp.log1p(heated / (50.0 * platform.scale)) - 1.0,
        "promise": content.promise(xp, clicks, impressions, platform.platform_ctr),
        "worth": content.worth(xp, valid, impressions, platform.platform_ctr),
        "known": 2.0 * known / (known + 5.0) - 1.0,
        "followers": 0.3 * (xp.log(followers + 1.0) - 5.0),
        "coins": xp.minimum(coins / budget, 2.0) - 1.0,
        "match": 2.0 * match - 1.0,
        "started": 2.0 * xp.minimum(impressions / (500.0 * platform.scale), 1.0) - 1.0,
        "throttle": 2.0 * platform.throttle - 1.0,
        "load": 2.0 * platform.load - 1.0,
        "pool_left": 2.0 * platform.pool_left - 1.0,
    } | by_weight(platform.weights)
    return gathered(xp, CONTENT, facts, impressions.shape)
