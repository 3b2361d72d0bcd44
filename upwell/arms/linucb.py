"""LinUCB with hybrid models: one linear model of all contents, and a term of each content's own.

Li, Chu, Langford & Schapire, "A Contextual-Bandit Approach to Personalized News Article Recommendation", WWW 2010,
algorithm 2, with these simplifications: the content's own features are the constant alone, and the two parts are fitted
one after the other, so that the cross terms B drop out. With x the features of user and content, r whether there was a
valid view, and E the sum of what the shared model expected over the content's n impressions,

    A = ridge·I + sum x xᵀ,  b = sum r x,  theta = A⁻¹ b,  own = (sum r - E) / (n + ridge_own),
    upper bound = xᵀ theta + own + alpha · sqrt(xᵀ A⁻¹ x + 1 / (n + ridge_own)).

A and b are updated after every batch and fade with a half-life. Features are dimensionless; none is the place in the
slate, which stands beside them as a regressor of its own while learning and is 0 when ranking. Bounds are compared as
multiples of the platform's mean rate.

Tuned on 2026-11-26: the best of twelve settings, +.044 over raw's objective on development seeds
(`upwell tune linucb --trials 12 --seeds 100,101,102 --users 1000 --contents 2500 --burn-in 56 --days 10`).
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from upwell.arms import features
from upwell.arms.rerank import SHARED, Estimate, reranker
from upwell.arms.tuning import Range
from upwell.world.arm import Batch, Lesson, View, counts, worked_out
from upwell.world.config import WorldConfig
from upwell.world.state import Array, Users

FEATURES = ("one", "fit", "satiety", "idle", "new", "age", "followers", "fit_new", "place")
"""Each in about [0, 1]. The content's own record is not among them: it is the own term's to learn."""
RIDGE = 1.0


class Tuned(NamedTuple):
    """Tunables; the defaults are the best found."""

    alpha: float = 0.41  # width of the bound, in multiples of the standard deviation of one view at the mean rate
    own: float = 70.7  # impressions that the shared model counts for against the content's own record
    half_life: float = 1.26  # days in which the shared model forgets by half
    variety: float = 7.48
    breadth: float = 0.43
    explore: float = 0.17


RANGES = {
    "alpha": Range(0.05, 2.0, log=True),
    "own": Range(5.0, 200.0, log=True),
    "half_life": Range(1.0, 30.0, log=True),
} | SHARED


class Own(NamedTuple):
    """What the arm remembers, with d = len(FEATURES)."""

    tuned: Tuned
    gram: Array  # f32 [d, d]: A
    views: Array  # f32 [d]: b
    theta: Array  # f32 [d]: of the last batch, for the next
    spread: Array  # f32 [d, d]: A⁻¹
    expected: Array  # f32 [M]: E; below 0 before the first morning


def begin(config: WorldConfig, tuned: Tuned) -> Own:
    d = len(FEATURES)
    return Own(
        tuned, RIDGE * jnp.eye(d), jnp.zeros(d), jnp.zeros(d), jnp.eye(d) / RIDGE, jnp.full(config.sizes.contents, -1.0)
    )


def morning(view: View) -> Own:
    """The shared model fades; contents born today start anew. What was shown before the arm came counts as average."""
    own = view.arm
    keep = 2.0 ** (-1.0 / own.tuned.half_life)
    ridge = (1.0 - keep) * RIDGE * jnp.eye(own.gram.shape[0])
    average = counts(view)[0] * features.platform_valid(view)
    expected = jnp.where(own.expected < 0.0, average, jnp.where(view.age_days == 0, 0.0, own.expected))
    return own._replace(gram=keep * own.gram + ridge, views=keep * own.views, expected=expected)


def about(view: View, fit: Array, satiety: Array, idle: Array, ids: Array, place: Array) -> Array:
    """Features f32 ``[S, R, X, d]`` of contents i32 ``[S or 1, X]`` or ``[S, R, X]``."""
    contents, age = view.contents, view.age_days[ids]
    followers = jnp.log1p(contents.creator_followers[contents.creator])[ids] / 10.0
    of_content = [(age < features.NEW_DAYS) * 1.0, jnp.exp(-age / 7.0), followers]
    if ids.ndim == 2:
        of_content = [x[:, None, :] for x in of_content]
    new, age, followers = of_content
    parts = [1.0, fit, satiety, idle * 1.0, new, age, followers, fit * new, place]
    return jnp.stack([jnp.broadcast_to(x, fit.shape) for x in parts], axis=-1)


def own_terms(view: View) -> tuple[Array, Array]:
    """Each content's own rate beside the shared model's, and its variance but for one view's, f32 ``[M]`` each."""
    impressions, _, valid, _ = counts(view)
    known = impressions + view.arm.tuned.own
    return (valid - view.arm.expected) / known, 1.0 / known


def bound(view: View, x: Array, ids: Array) -> Array:
    """Upper bound over the platform's mean rate, of features f32 ``[S, R, X, d]``."""
    own, rate = view.arm, features.platform_valid(view)
    record, width = (of[ids] for of in own_terms(view))
    if ids.ndim == 2:
        record, width = record[:, None, :], width[:, None, :]
    uncertain = ((x @ own.spread) * x).sum(-1) + width
    mean = x @ own.theta + record
    return mean / rate + own.tuned.alpha * jnp.sqrt(jnp.maximum(uncertain, 0.0) * (1.0 - rate) / rate)


def personal(view: View, users: Users, similarity: Array, ids: Array) -> Array:
    had, idle = features.satiety(view, users, ids), features.idle(view, users, ids)
    x = about(view, similarity, had, idle, ids, jnp.zeros(()))
    return bound(view, x, ids)


def segment(view: View) -> Array:
    every = jnp.arange(view.age_days.shape[0])[None, :]  # once, not once a segment
    means = worked_out(view.day >= 0, lambda: features.segment_means(view))
    fit, satiety, idle = (x[:, None, :] for x in means)
    return bound(view, about(view, fit, satiety, idle, every, jnp.zeros(())), every)[:, 0, :]


def promise(view: View) -> Array:
    """By the bound of the content's own term."""
    own, width = own_terms(view)
    rate = features.platform_valid(view)
    bound = 1.0 + own / rate + view.arm.tuned.alpha * jnp.sqrt(width * (1.0 - rate) / rate)
    return jnp.clip(bound / (1.0 + jnp.abs(bound)), 0.0, 1.0)


def learn(view: View, batch: Batch, lesson: Lesson) -> Own:
    own, ids, users = view.arm, lesson.ids, batch.users
    many = ids.shape[-1]
    vectors = view.contents.embedding[ids]
    fit = jnp.einsum("srkd,srd->srk", vectors, users.profile)
    satiety = jnp.clip(jnp.einsum("srkd,srd->srk", vectors, users.recent), 0.0, 1.0)
    x = about(view, fit, satiety, idle_of(view, users, ids), ids, jnp.arange(many) / many)
    x = x * lesson.present[..., None, None]
    flat, valid = x.reshape(-1, x.shape[-1]), lesson.valid.reshape(-1)
    gram, views = own.gram + flat.T @ flat, own.views + valid @ flat
    expected = own.expected.at[ids.reshape(-1)].add(flat @ own.theta)
    spread = jnp.linalg.inv(gram)
    return own._replace(gram=gram, views=views, theta=spread @ views, spread=spread, expected=expected)


def idle_of(view: View, users: Users, ids: Array) -> Array:
    """As ``features.idle``, of each user's own contents i32 ``[S, R, K]``."""
    lately = users.last_valid_day > (view.day - features.WEEK).astype(jnp.int16)
    tags = view.contents.tags[ids].reshape(*ids.shape[:2], -1)
    engaged = jnp.take_along_axis(lately, tags, axis=-1, mode="promise_in_bounds")
    return ~engaged.reshape(*ids.shape, 3).any(-1)


linucb = reranker(
    "linucb", Estimate(personal, segment, promise), lambda view: view.arm.tuned, Tuned(), begin, morning, learn
)
