"""Arms that see true interests and quality, under the same budget and caps.

A greedy oracle is myopic. The arm ``oracle`` is the best, per seed, of a small family of planners that trade
today's clicks against discovery of interests and against the future of new contents (see ``PLANNERS``).
"""

from __future__ import annotations

import jax.numpy as jnp

from upwell.regulator.tick import Requests
from upwell.world.arm import Arm, Batch, View, counts
from upwell.world.response import log_appeal, openness
from upwell.world.state import Array


def appeal(view: View) -> Array:
    """True log click rate of each content at mean interest, f32 ``[M]``."""
    contents = view.contents
    return log_appeal(view.config, contents.log_quality, contents.clickbait, view.age_days)


def true_affinity(view: View, batch: Batch, ids: Array, breadth: float) -> Array:
    """Log of true interest as it shows now, plus ``breadth`` times what is still undiscovered. ``[S, R, X]``."""
    users = batch.users
    shows = jnp.log(users.interest * openness(view.config, users.discovered, users.curiosity) + 1e-6)
    hidden = jnp.log(users.interest + 1e-6)
    worth = shows + breadth * (hidden - shows) * (users.interest > 0.5)
    tags = view.contents.tags[ids]
    flat = jnp.broadcast_to(tags.reshape(tags.shape[0], 1, -1), (*worth.shape[:2], tags.shape[1] * 3))
    return jnp.take_along_axis(worth, flat, axis=-1).reshape(*worth.shape[:2], tags.shape[1], 3).max(-1)


def planner(name: str, breadth: float, novelty: float) -> Arm:
    """One planner: ``breadth`` weighs undiscovered interests, ``novelty`` lifts new contents of high true quality."""

    def worth(view: View) -> Array:
        contents = view.contents
        trusted = ~contents.clickbait & ~contents.bought
        lift = novelty * ((view.age_days < 4) & (contents.log_quality > 0))
        return appeal(view) + lift - 5.0 * ~trusted

    def scores(view: View, batch: Batch) -> Array:
        return true_affinity(view, batch, batch.ids, breadth) + batch.bias[:, None, :]

    def requests(view: View) -> Requests:
        contents = view.contents
        impressions, _, _, _ = counts(view)
        good = (contents.log_quality > 0) & ~contents.clickbait & ~contents.bought
        needs = (view.age_days < 4) & (impressions < 1_500.0 * view.scale) & good
        amount = jnp.where(needs, jnp.ceil(500.0 * view.scale), 0).astype(jnp.int32)
        rank = 0.25 * contents.log_quality
        return Requests(
            amount, jnp.clip(0.5 + rank, 0.0, 1.0), (view.outstanding > 0) & ~needs & (impressions > 50.0 * view.scale)
        )

    def match(view: View, ids: Array) -> Array:
        tags = view.contents.tags[ids]
        mean_interest = (view.users.interest * view.users.discovered).mean(1)
        return jnp.log(mean_interest[:, tags].max(-1) + 1e-6) + appeal(view)[ids]

    def retrieval(view: View) -> Array:
        return match(view, jnp.arange(view.age_days.shape[0])) + worth(view) - appeal(view)

    def heat(view: View, batch: Batch, grants: Array) -> Array:
        return true_affinity(view, batch, grants, breadth) + appeal(view)[grants][:, None, :]

    return Arm(name, scores=scores, requests=requests, match=match, heat=heat, bias=worth, retrieval=retrieval)


PLANNERS = (
    planner("oracle:greedy", breadth=0.0, novelty=0.0),
    planner("oracle:new", breadth=0.0, novelty=1.5),
    planner("oracle:broad", breadth=0.5, novelty=1.0),
)
