"""The three agent populations by rules: the reference arm, and the prior that learning starts from.

One text for two arms: ``rules`` has every dial at its default, ``dialled`` reads its dials from ``view.arm``, so that
whoever turns them (``world.envs``) compiles nothing anew.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax.numpy as jnp

from upwell.agents import content, user
from upwell.agents.dials import Dials
from upwell.agents.parts import Additive, AdditiveChoice, Parts
from upwell.agents.xp import hash_uniform
from upwell.regulator import policy
from upwell.regulator.tick import Requests
from upwell.world.arm import Arm, Batch, View, counts, ranker_scores
from upwell.world.state import IMPRESSIONS, Array

ASK = 501

DialsOf = Callable[[View], Dials]


def promise(view: View) -> Array:
    """Log of each content's posterior click rate over the platform's mean, f32 ``[M]``."""
    impressions, clicks, _, _ = counts(view)
    return content.promise(jnp, clicks, impressions, view.platform_ctr)


def match(view: View, ids: Array) -> Array:
    """Cosine of each segment's mean profile to each content, f32 ``[S, X]``."""
    centre = view.users.profile.mean(1)
    centre = centre / jnp.maximum(jnp.linalg.norm(centre, axis=-1, keepdims=True), 1e-6)
    return centre @ view.contents.embedding[ids].T


def requests(dials_of: DialsOf, view: View) -> Requests:
    """What contents want heated this tick."""
    every, goal = jnp.arange(view.age_days.shape[0]), view.config.goal
    followers = view.contents.creator_followers[view.contents.creator]
    return policy.requests(
        jnp,
        policy.Standing(*counts(view), view.age_days, followers, view.coins),
        best_match=match(view, every).max(0),
        u=hash_uniform(jnp, view.seed, ASK, view.tick_key, every),
        scale=view.scale,
        platform_ctr=view.platform_ctr,
        first_ask=view.config.heating.first_ask,
        weights=(goal.user_satisfaction, goal.platform_revenue, goal.long_term),
        dials=dials_of(view),
    )


def heat(dials_of: DialsOf, view: View, batch: Batch, grants: Array) -> Parts:
    """Which users each grant wins, f32 ``[S, R, G]``."""
    dials, impressions = dials_of(view), view.contents.stats[:, IMPRESSIONS]
    return policy.heat(
        jnp,
        fit=jnp.einsum("srd,sgd->srg", batch.users.profile, view.contents.embedding[grants]),
        promise=promise(view)[grants][:, None, :],
        known_clicks=(impressions * view.platform_ctr)[grants][:, None, :],
        fit_weight=view.config.ranker.personal,
        content_dials=dials.content,
        system_dials=dials.system,
    )


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
