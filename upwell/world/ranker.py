"""The raw ranker: learns only from what it showed, and so makes the rich richer.

Score = personal similarity + log popularity + log estimated click rate + serving noise. Nothing here favours any
content but by its record; with ``feedback = 0`` the record is not used and the same code ranks at random.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax.scipy.special import ndtri

from upwell.agents.xp import hash_uniform, top_k
from upwell.world.config import WorldConfig
from upwell.world.state import RECENT_CLICKS, RECENT_IMPRESSIONS, Array, Contents, Users

FRESH, NOISE, TRIAL = 301, 302, 303


def popularity(config: WorldConfig, scale: Array, platform_ctr: Array, day: Array, contents: Contents) -> Array:
    """The part of the score that hangs on the content alone, f32 ``[M]`` (logits)."""
    ranker = config.ranker
    # What was learned of a content reaches the ranker with a lag, as its training data does.
    known = day - contents.born_day >= ranker.lag_days
    shown = known * contents.stats[:, RECENT_IMPRESSIONS]
    clicked = known * contents.stats[:, RECENT_CLICKS]
    weight = ranker.prior_weight * scale
    rate = (clicked + weight * ranker.prior_ratio * platform_ctr) / (shown + weight)
    return ranker.feedback * (
        ranker.popularity * jnp.log1p(shown / (ranker.popular_at * scale))
        + ranker.click_rate * jnp.log(rate / platform_ctr)
    )


def segment_scores(config: WorldConfig, bias: Array, users: Users, contents: Contents) -> Array:
    """The raw ranker's score of every content for each segment's mean profile, f32 ``[S, M]`` (logits)."""
    return config.ranker.feedback * config.ranker.personal * users.profile.mean(1) @ contents.embedding.T + bias


def retrieve(config: WorldConfig, seed: Array, hour_key: Array, score: Array, age_days: Array) -> Array:
    """Candidates of each segment, i32 ``[S, C]`` in order of content id, so that ties in rank break by id.

    The best by score ``[S, M]``, and some drawn at random, young contents more likely.
    """
    sizes = config.sizes
    count = min(sizes.candidates, sizes.contents)
    if count == sizes.contents:
        return jnp.broadcast_to(jnp.arange(count), (score.shape[0], count))
    fresh = min(sizes.fresh, count - 1)
    cells = jnp.arange(score.shape[0], dtype=jnp.uint32)[:, None]
    u = hash_uniform(jnp, seed, FRESH, hour_key, cells, jnp.arange(sizes.contents, dtype=jnp.uint32))
    score = score + config.ranker.noise * ndtri(u)
    best, ids = top_k(jnp, score, count - fresh)
    # Efraimidis-Spirakis: the largest of log(u) / weight are a draw without replacement in proportion to weight.
    weight = jnp.exp(-age_days / config.ranker.fresh_days) + 1e-3
    lottery = jnp.where(score >= best[:, -1:], -jnp.inf, jnp.log(hash_uniform(jnp, FRESH, u * 2.0**24)) / weight)
    _, more = top_k(jnp, lottery, fresh)
    return jnp.sort(jnp.concatenate([ids, more], axis=-1), axis=-1)


def serving_noise(config: WorldConfig, seed: Array, tick_key: Array, ids: Array) -> tuple[Array, Array]:
    """Noise of the score at one tick, f32 ``[S, C]`` (logits), and which candidates are tried out then (bool)."""
    cells = jnp.arange(ids.shape[0], dtype=jnp.uint32)[:, None]
    u = hash_uniform(jnp, seed, NOISE, tick_key, cells, ids)
    return config.ranker.noise * ndtri(u), hash_uniform(jnp, TRIAL, u * 2.0**24) < config.ranker.trials


def with_trials(config: WorldConfig, scores: Array, tried: Array, blocked: Array) -> Array:
    """Scores ``[S, R, C]`` in which tried-out candidates ``[S, C]`` come a fixed way below each request's best.

    Every platform tests what it does not know in a low place of somebody's slate; here as anywhere at random.
    """
    best = jnp.where(blocked, -jnp.inf, scores).max(-1, keepdims=True)
    return jnp.where(tried[:, None, :], jnp.maximum(best - config.ranker.trial, -1e6), scores)
