"""Arms that see true interests and quality, under the same budget and caps.

A greedy oracle is myopic. The arm ``oracle`` is the best, per seed, of a small family of planners that trade
today's clicks against boredom, breadth of interest and the future of new contents (see ``PLANNERS``).
"""

from __future__ import annotations

import jax.numpy as jnp

from upwell.arms.rules import starting
from upwell.regulator.tick import Requests
from upwell.world.arm import Arm, Batch, View, counts
from upwell.world.response import log_appeal, openness
from upwell.world.state import Array, Users


def appeal(view: View) -> Array:
    """True log click rate of each content at mean interest, f32 ``[M]``; cheats are worth nothing."""
    contents = view.contents
    true = log_appeal(view.config, contents.log_quality, contents.clickbait, view.age_days)
    return true - 5.0 * cheats(view)


def cheats(view: View) -> Array:
    """Contents that promise more than they hold or buy clicks, bool ``[M]``."""
    return view.contents.clickbait | view.contents.bought


def tag_worth(view: View, users: Users, breadth: float) -> Array:
    """Log of each true interest as it shows now, plus ``breadth`` where it was not engaged for a week. ``[…, T]``."""
    shows = users.interest * openness(view.config, users.discovered, users.curiosity)
    stale = users.last_valid_day <= (view.day - 7).astype(jnp.int16)
    return jnp.log(shows + 1e-6) + breadth * stale


def affinity(view: View, batch: Batch, ids: Array, breadth: float) -> Array:
    """The best of a content's tags to each user, less what the user has had enough of. ``[S, R, X]`` for ``[S, X]``."""
    worth = tag_worth(view, batch.users, breadth)
    tags = view.contents.tags[ids]
    flat = jnp.broadcast_to(tags.reshape(tags.shape[0], 1, -1), (*worth.shape[:2], tags.shape[1] * 3))
    best = jnp.take_along_axis(worth, flat, axis=-1).reshape(*worth.shape[:2], tags.shape[1], 3).max(-1)
    satiety = jnp.einsum("srd,sxd->srx", batch.users.recent, view.contents.embedding[ids])
    response = view.config.response
    return best - (response.satiation + response.boredom) * jnp.clip(satiety, 0.0, 1.0)


def planner(name: str, breadth: float, novelty: float, start: float = 0.0) -> Arm:
    """One planner: ``breadth`` lifts interests that lie idle, ``novelty`` new contents of high true quality, ``start``
    all whose cold start lacks impressions."""

    def worth(view: View) -> Array:
        return (
            appeal(view)
            + novelty * ((view.age_days < 4) & (view.contents.log_quality > 0))
            + start * (starting(view) & ~cheats(view))
        )

    def scores(view: View, batch: Batch) -> Array:
        return affinity(view, batch, batch.ids, breadth) + batch.bias[:, None, :]

    def requests(view: View) -> Requests:
        impressions, _, _, _ = counts(view)
        good = (view.contents.log_quality > 0) & (view.age_days < 4) & (impressions < 1_500.0 * view.scale)
        needs = (good | ((start > 0) & starting(view) & (view.age_days < 3))) & ~cheats(view)
        amount = jnp.where(needs, jnp.ceil(500.0 * view.scale), 0).astype(jnp.int32)
        rank = 0.25 * view.contents.log_quality
        return Requests(
            amount, jnp.clip(0.5 + rank, 0.0, 1.0), (view.outstanding > 0) & ~needs & (impressions > 50.0 * view.scale)
        )

    def match(view: View, ids: Array) -> Array:
        mean = tag_worth(view, view.users, breadth).mean(1)
        return mean[:, view.contents.tags[ids]].max(-1) + appeal(view)[ids]

    def retrieval(view: View) -> Array:
        return match(view, jnp.arange(view.age_days.shape[0])) + worth(view) - appeal(view)

    def heat(view: View, batch: Batch, grants: Array) -> Array:
        return affinity(view, batch, grants, breadth) + worth(view)[grants][:, None, :]

    return Arm(name, scores=scores, requests=requests, match=match, heat=heat, bias=worth, retrieval=retrieval)


PLANNERS = (
    planner("oracle:broadest", breadth=3.0, novelty=2.0),
    planner("oracle:starter", breadth=1.5, novelty=0.0, start=4.0),
    planner("oracle:patron", breadth=3.0, novelty=0.0, start=4.0),
    planner("oracle:founder", breadth=2.0, novelty=0.0, start=8.0),
)
