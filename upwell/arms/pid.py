"""Guarantee tasks: each new content is promised impressions, and a PID controller sees to it; the rest is the ranker's.

How operators' platforms push what they want seen (as alibaba/pairec: ``sort/pid_controller.go``): the controller's
output is added to the content's score in the ranker's own order and in its retrieval. What the curve still lacks is
also asked for as heating, the furthest behind first. See ``regulator.tasks`` for the controller.

Time is told by traffic: a day is gone when a usual day's impressions are.

Tuned on 2026-11-26: the best of twelve settings, +.022 over raw's objective on development seeds
(`upwell tune pid --trials 12 --seeds 100,101,102 --users 1000 --contents 2500 --burn-in 56 --days 10`).
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from upwell.arms import features
from upwell.arms.tuning import Range
from upwell.regulator import tasks
from upwell.regulator.tick import Requests
from upwell.world import ranker
from upwell.world.arm import Arm, Batch, Lesson, View, counts, ranker_scores
from upwell.world.config import WorldConfig
from upwell.world.ranker import with_trials
from upwell.world.state import Array

WITHIN_DAYS = 3.0
AHEAD = 0.05
"""Share of the promise that may be granted ahead of the curve: a grant takes a while to be shown."""


class Tuned(NamedTuple):
    """Tunables; the defaults are the best found."""

    promise: float = 1.43  # impressions promised, over the 500·scale of a successful start
    most: float = 5.64  # logits, the largest boost
    p: float = 4.21  # logits for an error of the whole promise
    i: float = 1.41  # logits a day of it
    d: float = 2.9  # logits for an error that grows by the whole promise a day


RANGES = {
    "promise": Range(0.75, 4.0, log=True),
    "most": Range(1.0, 16.0, log=True),
    "p": Range(2.0, 80.0, log=True),
    "i": Range(0.5, 40.0, log=True),
    "d": Range(0.0, 4.0),
}


class Own(NamedTuple):
    """What the arm remembers."""

    tuned: Tuned
    loop: tasks.Loop
    boost: Array  # f32 [M], logits
    days: Array  # time of the last step, in days of traffic


def begin(config: WorldConfig, tuned: Tuned) -> Own:
    contents = config.sizes.contents
    return Own(tuned, tasks.rested(jnp, contents), jnp.zeros(contents), jnp.float32(-1.0))


def standing(view: View) -> tuple[Array, Array, Array]:
    """Impressions promised (scalar), due by now and delivered (f32 ``[M]`` each)."""
    promised = jnp.ceil(view.arm.tuned.promise * 500.0 * view.scale)
    aim = tasks.due(jnp, promised, view.age_days + features.gone(view), WITHIN_DAYS)
    return promised, aim, counts(view)[0]


def learn(view: View, batch: Batch, lesson: Lesson) -> Own:
    """The controllers' step, once a tick."""
    own, now = view.arm, view.day + features.gone(view)
    promised, aim, delivered = standing(view)
    error = tasks.error_of(jnp, aim, delivered, promised)
    gains = tasks.Gains(own.tuned.p, own.tuned.i, own.tuned.d)
    passed = jnp.where(own.days < 0.0, 0.0, jnp.maximum(now - own.days, 0.0))
    begins = (view.age_days == 0) & (own.days < view.day)
    loop, boost = tasks.step(jnp, own.loop, error, gains, passed, own.tuned.most, begins)
    return Own(own.tuned, loop, jnp.where(features.new(view), boost, 0.0), now)


def morning(view: View) -> Own:
    """What a boost was meant for may be gone: a content born in its place begins without."""
    return view.arm._replace(boost=jnp.where(features.new(view) & (view.age_days > 0), view.arm.boost, 0.0))


def scores(view: View, batch: Batch) -> Array:
    """The ranker's logits, shifted."""
    shifted = batch._replace(bias=batch.bias + view.arm.boost[batch.ids])
    return with_trials(view.config, ranker_scores(view, shifted), batch.tried, batch.blocked)


def retrieval(view: View) -> Array:
    own = ranker.popularity(view.config, view.scale, view.platform_ctr, view.day, view.contents)
    return ranker.segment_scores(view.config, own + view.arm.boost, view.users, view.contents)


def requests(view: View) -> Requests:
    promised, aim, delivered = standing(view)
    new = features.new(view)
    amount = tasks.ask(jnp, promised, delivered, aim, AHEAD * promised)
    error = tasks.error_of(jnp, aim, delivered, promised)
    return Requests(jnp.where(new, amount, 0), jnp.clip(0.5 + error, 0.0, 1.0), ~new | (delivered >= promised))


def match(view: View, ids: Array) -> Array:
    return features.segment_fit(view)[:, ids]


def heat(view: View, batch: Batch, grants: Array) -> Array:
    """By fit, and the more a content is behind."""
    similarity = features.fit(view, batch.users, grants)
    return view.config.ranker.personal * similarity + view.arm.boost[grants][:, None, :]


pid = Arm(
    "pid", scores, requests, match, heat, retrieval=retrieval, morning=morning, begin=begin, learn=learn, tuned=Tuned()
)
