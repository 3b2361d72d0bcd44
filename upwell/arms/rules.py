"""The three agent populations by rules: the reference arm, and the prior that learning starts from."""

from __future__ import annotations

import jax.numpy as jnp

from upwell.agents import content, system, user
from upwell.agents.xp import hash_uniform
from upwell.regulator.tick import Requests
from upwell.world.arm import Arm, Batch, View, counts, ranker_scores
from upwell.world.state import Array

ASK = 501


def promise(view: View) -> Array:
    """Log of the posterior click rate over the platform's mean, shrunk by five expected clicks, f32 ``[M]``."""
    impressions, clicks, _, _ = counts(view)
    return jnp.log((clicks + 5.0) / (impressions * view.platform_ctr + 5.0))


def match(view: View, ids: Array) -> Array:
    """Cosine of each segment's mean profile to each content, f32 ``[S, X]``."""
    centre = view.users.profile.mean(1)
    centre = centre / jnp.maximum(jnp.linalg.norm(centre, axis=-1, keepdims=True), 1e-6)
    return centre @ view.contents.embedding[ids].T


def requests(view: View) -> Requests:
    """Contents ask by their rules, the system agent approves by its score; grants stop on certainty."""
    heating = view.config.heating
    impressions, clicks, valid, heated = counts(view)
    quality = content.quality(jnp, valid, clicks, impressions, view.platform_ctr)
    ctr = clicks / jnp.maximum(impressions, 1.0)
    u = hash_uniform(jnp, view.seed, ASK, view.tick_key, jnp.arange(impressions.shape[0]))
    asked = content.ask(jnp, impressions, ctr, quality, view.coins, view.scale, heating.first_ask, u)
    # Certainty: five expected clicks' worth of impressions are in, and the content stays far below the platform.
    hopeless = (impressions * view.platform_ctr > 5.0) & (promise(view) < -0.7)
    grown = (view.age_days >= 3) & (impressions > 3_000.0 * view.scale)
    asks = asked.asks & ~hopeless & ~grown
    followers = view.contents.creator_followers[view.contents.creator]
    # Retention of creators: contents not yet tried, of creators not yet big, count most.
    boost = -jnp.log1p(heated / view.scale) - 0.2 * jnp.log(followers) - 0.1 * view.age_days
    best_fit = match(view, jnp.arange(impressions.shape[0])).max(0) + promise(view)
    weights = (view.config.goal.user_satisfaction, view.config.goal.platform_revenue, view.config.goal.long_term)
    score = system.score(jnp, best_fit, asked.bid, boost, asks, weights)
    return Requests(jnp.where(asks & (score > system.APPROVAL), asked.impressions, 0), score, hopeless | grown)


def heat(view: View, batch: Batch, grants: Array) -> Array:
    """Fit of each user to each grant plus the content's promise, f32 ``[S, R, G]``; -inf behind the fit gate.

    The gate tightens as evidence grows: anyone while a content is unknown, then only users it suits.
    """
    embedding = view.contents.embedding[grants]
    fit = jnp.einsum("srd,sgd->srg", batch.users.profile, embedding)
    known = view.contents.stats[:, 0][grants] * view.platform_ctr
    gate = -0.2 + 0.3 * known / (known + 5.0)
    logits = view.config.ranker.personal * fit + promise(view)[grants][:, None, :]
    return jnp.where(fit >= gate[:, None, :], logits, -jnp.inf)


def explore(view: View, batch: Batch) -> tuple[Array, Array]:
    """The user agent's rules."""
    probability = user.explore_probability(jnp, batch.users.mind)
    new = (view.age_days < 3)[batch.ids][:, None, :]
    logits = user.explore_logits(jnp, batch.similarity, promise(view)[batch.ids][:, None, :], new, batch.users.mind)
    return probability, logits


rules = Arm("rules", scores=ranker_scores, requests=requests, match=match, heat=heat, explore=explore)
