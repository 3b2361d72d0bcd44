"""The three agent populations by rules: the reference arm, and the prior that learning starts from.

One text for every arm that turns the rules' dials: ``rules`` leaves all at their defaults, ``dialled`` reads them from
``view.arm``, so that whoever turns them (``world.envs``) compiles nothing anew, ``rules_tuned`` has them where a search
found them best, and ``marl`` has networks turn them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from upwell.agents import content, user
from upwell.agents.content import ContentDials
from upwell.agents.dials import Dials
from upwell.agents.parts import Additive, AdditiveChoice, Parts
from upwell.agents.system import SystemDials
from upwell.agents.user import Sight, UserDials
from upwell.agents.xp import hash_uniform
from upwell.arms import features, programs
from upwell.regulator import policy
from upwell.regulator.tick import Requests
from upwell.world.arm import Arm, Batch, View, counts, ranker_scores
from upwell.world.state import IMPRESSIONS, ORGANIC_TODAY, Array

ASK = 501


class Play(NamedTuple):
    """Who turns the dials: for the requests of a batch, and for contents whose ids are given."""

    users: Callable[[View, Batch], UserDials]  # numbers, or f32 [S, R]
    contents: Callable[[View, Array], tuple[ContentDials, SystemDials]]  # numbers, or f32 of the shape of ids


def promise(view: View) -> Array:
    """Log of each content's posterior click rate over the platform's mean, f32 ``[M]``."""
    impressions, clicks, _, _ = counts(view)
    return content.promise(jnp, clicks, impressions, view.platform_ctr)


def match(view: View, ids: Array) -> Array:
    """Cosine of each segment's mean profile to each content, f32 ``[S, X]``."""
    centre = view.users.profile.mean(1)
    centre = centre / jnp.maximum(jnp.linalg.norm(centre, axis=-1, keepdims=True), 1e-6)
    return centre @ view.contents.embedding[ids].T


def everything(view: View) -> Array:
    """The ids of all contents, i32 ``[M]``."""
    return jnp.arange(view.age_days.shape[0])


def standing(view: View, ids: Array) -> policy.Standing:
    """What is known of contents, each of the shape of ``ids``."""
    followers = view.contents.creator_followers[view.contents.creator[ids]]
    impressions, clicks, valid, heated = (of[ids] for of in counts(view))
    return policy.Standing(impressions, clicks, valid, heated, view.age_days[ids], followers, view.coins[ids])


def best_match(view: View, ids: Array) -> Array:
    """Cosine of contents to the segment each suits best, f32 of the shape of ``ids``."""
    return match(view, ids.reshape(-1)).max(0).reshape(ids.shape)


def requests(play: Play, view: View) -> Requests:
    """What contents want heated this tick."""
    goal = view.config.goal
    ids = everything(view)
    ours, theirs = play.contents(view, ids)
    known, best = standing(view, ids), best_match(view, ids)
    return policy.requests(
        jnp,
        known,
        best_match=best,
        u=hash_uniform(jnp, view.seed, ASK, view.tick_key, ids),
        scale=view.scale,
        platform_ctr=view.platform_ctr,
        first_ask=view.config.heating.first_ask,
        weights=(goal.user_satisfaction, goal.platform_revenue, goal.long_term),
        dials=Dials(content=ours, system=theirs),
        bonus=programs.bonus_of(view, known, best),
    )


def heat(play: Play, view: View, batch: Batch, grants: Array) -> Parts:
    """Which users each grant wins, f32 ``[S, R, G]``."""
    impressions = view.contents.stats[:, IMPRESSIONS]
    ours, theirs = jax.tree.map(lambda d: d[:, None, :] if jnp.ndim(d) else d, play.contents(view, grants))
    return policy.heat(
        jnp,
        fit=features.fit(view, batch.users, grants),
        promise=promise(view)[grants][:, None, :],
        known_clicks=(impressions * view.platform_ctr)[grants][:, None, :],
        fit_weight=view.config.ranker.personal,
        content_dials=ours,
        system_dials=theirs,
        idle=idle(view, batch, grants),
    )


def explore_probability(play: Play, view: View, batch: Batch) -> Array:
    return user.explore_probability(jnp, batch.users.mind, play.users(view, batch))


def explore_parts(play: Play, view: View, batch: Batch) -> Parts:
    new = (view.age_days < 3)[batch.ids][:, None, :]
    hope = promise(view)[batch.ids][:, None, :]
    dials = play.users(view, batch)
    return user.explore_parts(
        jnp, batch.similarity, hope, new, batch.users.mind, dials, idle=idle(view, batch, batch.ids)
    )


def idle(view: View, batch: Batch, ids: Array) -> Array:
    """Share of each content's tags that the user engaged none of for a week, f32 ``[S, R, X]`` for ``[S, X]``."""
    lies_idle = (~features.engaged(view, batch.users)).astype(jnp.float32)
    # A product with what tags a content has: gathering three flags for each of so many pairs takes far longer.
    tags = jax.nn.one_hot(view.contents.tags[ids], lies_idle.shape[-1]).mean(-2)
    return jnp.einsum("srt,sxt->srx", lies_idle, tags)


def starting(view: View) -> Array:
    """Contents whose cold start is under way and lacks impressions, bool ``[M]``."""
    contents = view.contents
    return content.starting(view.age_days, contents.first3, contents.stats[:, ORGANIC_TODAY], view.scale)


def need(view: View) -> Array:
    """How far each content's cold start needs the next impression, f32 ``[M]`` in [0, 1]."""
    contents, age_days = view.contents, view.age_days + jnp.minimum(features.gone(view), 0.999)
    return content.need(jnp, age_days, contents.first3, contents.stats[:, ORGANIC_TODAY], view.scale)


def sight(view: View, batch: Batch) -> Sight:
    """What the user agents see of their candidates."""
    impressions, _, valid, _ = counts(view)
    of = jnp.stack([
        content.worth(jnp, valid, impressions, view.platform_ctr),
        jnp.exp(-view.age_days / 3.0),
        1.0 / jnp.sqrt(1.0 + impressions * view.platform_ctr),
        need(view),
    ])[:, batch.ids][:, :, None, :]  # fmt: skip
    return Sight(
        taste=batch.similarity,
        worth=of[0],
        satiety=features.satiety(view, batch.users, batch.ids),
        idle=idle(view, batch, batch.ids),
        fresh=of[1],
        unknown=of[2],
        starting=of[3],
    )


def corrected(play: Play, view: View, batch: Batch) -> Parts:
    """The ranker's order with the user agents' corrections; the ranker's own where nothing may be tried."""
    allowed = jnp.where(batch.protected, 0.0, view.throttle)
    return user.corrected(jnp, ranker_scores(view, batch), sight(view, batch), allowed, play.users(view, batch))


def by_rules(name: str, play: Play) -> Arm:
    """The three agents under the dials that ``play`` turns."""
    return Arm(
        name,
        scores=Additive(partial(corrected, play)),
        requests=partial(requests, play),
        match=match,
        heat=Additive(partial(heat, play)),
        explore=AdditiveChoice(partial(explore_probability, play), partial(explore_parts, play)),
    )


RULES = Dials()
rules = by_rules(
    "rules", Play(lambda view, batch: RULES.user, lambda view, ids: (RULES.content, RULES.system))
)._replace(
    scores=ranker_scores  # the rules correct nothing
)
dialled = by_rules(
    "dialled", Play(lambda view, batch: view.arm.user, lambda view, ids: (view.arm.content, view.arm.system))
)

TUNED = Dials(
    UserDials(
        explore=0.763, reach=0.146, novelty=-0.488, wide=-1.475, taste=1.869, worth=1.892, satiety=-1.049, idle=0.591,
        fresh=0.542, unknown=0.318, starting=2.965,
    ),
    ContentDials(ask=0.523, amount=2.595, bid=2.568, discount=0.645, certainty=-0.268, audience=0.033),
    SystemDials(
        user=2.879, revenue=1.965, long_term=0.665, approval=0.518, share=2.374, promise=0.401, wide=-0.55
    ),
)  # fmt: skip
"""Found on 2026-11-27: the best of twelve settings, +.098 over raw's objective on development seeds
(`upwell tune rules --trials 12 --seeds 100,101,102 --users 1000 --contents 2500 --burn-in 56 --days 10`)."""


def turned_to(name: str, dials: Dials) -> Arm:
    """The rules with their dials elsewhere, the same for everybody and for good: what a learned policy must beat."""
    return dialled._replace(name=name, begin=lambda config, tuned: tuned, tuned=dials)


rules_tuned = turned_to("rules_tuned", TUNED)
