"""The three agent populations by rules: the reference arm, and the prior that learning starts from.

One text for two arms: ``rules`` has every dial at its default, ``dialled`` reads its dials from ``view.arm``, so that
whoever turns them (``world.envs``) compiles nothing anew.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax.numpy as jnp

from upwell.agents import content, system, user
from upwell.agents.dials import Dials
from upwell.agents.parts import Additive, AdditiveChoice, Parts
from upwell.agents.xp import hash_uniform
from upwell.regulator.tick import Requests
from upwell.world.arm import Arm, Batch, View, counts, ranker_scores
from upwell.world.state import IMPRESSIONS, Array

ASK = 501

DialsOf = Callable[[View], Dials]


def promise(view: View) -> Array:
    """Log of the posterior click rate over the platform's mean, shrunk by five expected clicks, f32 ``[M]``."""
    impressions, clicks, _, _ = counts(view)
    return jnp.log((clicks + 5.0) / (impressions * view.platform_ctr + 5.0))


def match(view: View, ids: Array) -> Array:
    """Cosine of each segment's mean profile to each content, f32 ``[S, X]``."""
    centre = view.users.profile.mean(1)
    centre = centre / jnp.maximum(jnp.linalg.norm(centre, axis=-1, keepdims=True), 1e-6)
    return centre @ view.contents.embedding[ids].T


def requests(dials_of: DialsOf, view: View) -> Requests:
    """Contents ask by their rules, the system agent approves by its score; grants stop on certainty."""
    dials, heating, goal = dials_of(view), view.config.heating, view.config.goal
    impressions, clicks, valid, heated = counts(view)
    quality = content.quality(jnp, valid, clicks, impressions, view.platform_ctr)
    ctr = clicks / jnp.maximum(impressions, 1.0)
    u = hash_uniform(jnp, view.seed, ASK, view.tick_key, jnp.arange(impressions.shape[0]))
    asked = content.ask(
        jnp, impressions, ctr, quality, view.coins, view.scale, heating.first_ask, u, dials.content
    )  # fmt: skip
    hopeless = content.hopeless(impressions, promise(view), view.platform_ctr, dials.content)
    grown = (view.age_days >= 3) & (impressions > 3_000.0 * view.scale)
    asks = asked.asks & ~hopeless & ~grown
    followers = view.contents.creator_followers[view.contents.creator]
    # Retention of creators: contents not yet tried, of creators not yet big, count most.
    boost = -jnp.log1p(heated / view.scale) - 0.2 * jnp.log(followers) - 0.1 * view.age_days
    best_fit = match(view, jnp.arange(impressions.shape[0])).max(0) + promise(view)
    weights = (
        goal.user_satisfaction * dials.system.user,
        goal.platform_revenue * dials.system.revenue,
        goal.long_term * dials.system.long_term,
    )
    score = system.score(jnp, best_fit, asked.bid, boost, asks, weights)
    granted = (asked.impressions * dials.system.share).astype(jnp.int32)
    return Requests(
        impressions=jnp.where(asks & (score > dials.system.approval), granted, 0),
        score=score,
        give_up=hopeless | grown,
        bid=asked.bid / content.REFERENCE_BID,
        discount=jnp.full(score.shape, dials.content.discount),
    )


def heat(dials_of: DialsOf, view: View, batch: Batch, grants: Array) -> Parts:
    """Fit of each user to each grant plus the content's promise, f32 ``[S, R, G]``; -inf behind the fit gate."""
    dials = dials_of(view)
    fit = jnp.einsum("srd,sgd->srg", batch.users.profile, view.contents.embedding[grants])
    known = view.contents.stats[:, IMPRESSIONS][grants] * view.platform_ctr
    gate = content.fit_gate(known, dials.content)
    return {
        "fit": view.config.ranker.personal * fit,
        "promise": dials.system.promise * promise(view)[grants][:, None, :],
        "gate": jnp.where(fit >= gate[:, None, :], 0.0, -jnp.inf),
    }


def explore_probability(dials_of: DialsOf, view: View, batch: Batch) -> Array:
    return user.explore_probability(jnp, batch.users.mind, dials_of(view).user)


def explore_parts(dials_of: DialsOf, view: View, batch: Batch) -> Parts:
    new = (view.age_days < 3)[batch.ids][:, None, :]
    hope = promise(view)[batch.ids][:, None, :]
    return user.explore_parts(jnp, batch.similarity, hope, new, batch.users.mind, dials_of(view).user)


def by_rules(name: str, dials_of: DialsOf) -> Arm:
    """The three agents under the dials that ``dials_of`` finds."""
    return Arm(
        name,
        scores=ranker_scores,
        requests=partial(requests, dials_of),
        match=match,
        heat=Additive(partial(heat, dials_of)),
        explore=AdditiveChoice(partial(explore_probability, dials_of), partial(explore_parts, dials_of)),
    )


RULES = Dials()
rules = by_rules("rules", lambda view: RULES)
dialled = by_rules("dialled", lambda view: view.arm)
