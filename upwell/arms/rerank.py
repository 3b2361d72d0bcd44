"""What the baselines that rank for themselves share: the same pool, gate and draw of the new, other estimates.

An estimate says how likely a user is to view a content for real. Around it every such arm has the same three
tunables, so that none has a hand on something that the others lack:

* ``variety``: what a content loses at full similarity to what the user was lately shown,
* ``breadth``: what it gains where the user engaged none of its tags for a week,
* ``explore``: the chance to draw from the order at an explorable place instead of following it.

Heating: every new content asks for one size, the most promising first; a grant reaches the users whose fit passes
the rules' gate (``agents.content.fit_gate``: it tightens as evidence grows), and among them by the arm's own order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp

from upwell.agents import content
from upwell.arms import features
from upwell.arms.tuning import Range
from upwell.regulator.tick import Requests
from upwell.world.arm import Arm, Batch, Lesson, View, counts, worked_out
from upwell.world.config import WorldConfig
from upwell.world.state import Array, Users

SHARED = {"variety": Range(1.0, 16.0, log=True), "breadth": Range(0.0, 2.0), "explore": Range(0.0, 0.4)}
"""Ranges of the three, in the units of each arm's estimate (log units of the rate, or multiples of its mean)."""


class Shared(Protocol):
    """What every such arm's tunables hold."""

    variety: Array
    breadth: Array
    explore: Array


class Estimate(NamedTuple):
    """An arm's own picture, as pure functions."""

    personal: Callable[[View, Users, Array, Array], Array]  # of similarity [S, R, X] and ids i32 [S, X]: f32 [S, R, X]
    segment: Callable[[View], Array]  # of every content to each segment, f32 [S, M], in the same unit
    promise: Callable[[View], Array]  # of each content by itself, f32 [M] in [0, 1], to be heated first


def reranker(
    name: str,
    estimate: Estimate,
    shared: Callable[[View], Shared],
    tuned: Any,
    begin: Callable[[WorldConfig, Any], Any],
    morning: Callable[[View], Any] | None = None,
    learn: Callable[[View, Batch, Lesson], Any] | None = None,
) -> Arm:
    """An arm that ranks by ``estimate``; ``shared`` finds the three common tunables in ``view.arm``."""

    def logits(view: View, users: Users, similarity: Array, ids: Array) -> Array:
        dials = shared(view)
        return (
            estimate.personal(view, users, similarity, ids)
            - dials.variety * features.satiety(view, users, ids)
            + dials.breadth * features.idle(view, users, ids)
        )

    def scores(view: View, batch: Batch) -> Array:
        return worked_out(view.day >= 0, lambda: logits(view, batch.users, batch.similarity, batch.ids))

    def retrieval(view: View) -> Array:
        dials = shared(view)
        wide = estimate.segment(view) - dials.variety * features.segment_satiety(view)
        return wide + dials.breadth * features.segment_idle(view)

    def requests(view: View) -> Requests:
        rank = estimate.promise(view)
        return features.ask_once(view, rank >= 0.0, rank)

    def match(view: View, ids: Array) -> Array:
        return features.segment_fit(view)[:, ids]

    def heat(view: View, batch: Batch, grants: Array) -> Array:
        similarity = features.fit(view, batch.users, grants)
        known_clicks = (counts(view)[0] * view.platform_ctr)[grants][:, None, :]
        reached = similarity >= content.fit_gate(known_clicks)
        return jnp.where(reached, logits(view, batch.users, similarity, grants), -jnp.inf)

    def explore(view: View, batch: Batch) -> tuple[Array, Array]:
        own = scores(view, batch) if batch.scores is None else batch.scores
        return jnp.broadcast_to(shared(view).explore, batch.place.shape), own

    return Arm(
        name, scores, requests, match, heat, explore, retrieval=retrieval,
        morning=morning, begin=begin, learn=learn, tuned=tuned,
    )  # fmt: skip
