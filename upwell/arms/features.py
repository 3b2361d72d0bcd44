"""What the baseline arms know of users and contents: dimensionless, and nothing that a platform could not log.

Shapes: ``S`` segments of ``R`` requests, ``X`` contents looked at in each, ``M`` contents in all, ``T`` tags.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from upwell.regulator.tick import Requests
from upwell.world.arm import View, counts, worked_out
from upwell.world.state import TODAY, Array, Users

WEEK = 7
NEW_DAYS = 3


def new(view: View) -> Array:
    """Contents in their first three days, bool ``[M]``."""
    return view.age_days < NEW_DAYS


def everywhere(view: View) -> Array:
    """Every content in every segment, i32 ``[S, M]``."""
    return jnp.broadcast_to(jnp.arange(view.age_days.shape[0]), (view.users.mind.shape[0], view.age_days.shape[0]))


def fit(view: View, users: Users, ids: Array) -> Array:
    """Cosine of what each user clicked to contents i32 ``[S, X]``, f32 ``[S, R, X]``: the ranker's own picture."""
    return jnp.einsum("srd,sxd->srx", users.profile, view.contents.embedding[ids])


def segment_fit(view: View) -> Array:
    """Of every content to each segment's mean profile, f32 ``[S, M]``; at most its mean over the users' own."""
    centre = worked_out(view.day >= 0, lambda: view.users.profile.mean(1))
    return centre @ view.contents.embedding.T


def satiety(view: View, users: Users, ids: Array) -> Array:
    """How like what each user was lately shown contents i32 ``[S, X]`` are, f32 ``[S, R, X]`` in [0, 1]."""
    return jnp.clip(jnp.einsum("srd,sxd->srx", users.recent, view.contents.embedding[ids]), 0.0, 1.0)


def segment_satiety(view: View) -> Array:
    """Of every content to what each segment's users were shown on average, f32 ``[S, M]`` in [0, 1]."""
    centre = worked_out(view.day >= 0, lambda: view.users.recent.mean(1))
    return jnp.clip(centre @ view.contents.embedding.T, 0.0, 1.0)


def engaged(view: View, users: Users) -> Array:
    """Tags that each user engaged within a week, bool ``[S, R, T]``."""
    return users.last_valid_day > (view.day - WEEK).astype(jnp.int16)


def idle(view: View, users: Users, ids: Array) -> Array:
    """Contents i32 ``[S, X]`` of whose tags the user engaged none for a week, bool ``[S, R, X]``."""
    lately = engaged(view, users)
    tags = view.contents.tags[ids].reshape(ids.shape[0], 1, -1)
    flat = jnp.broadcast_to(tags, (*lately.shape[:2], tags.shape[-1]))
    known = jnp.take_along_axis(lately, flat, axis=-1, mode="promise_in_bounds")
    return ~known.reshape(*lately.shape[:2], ids.shape[1], 3).any(-1)


def segment_idle(view: View) -> Array:
    """Share of a segment's users who engaged none of a content's tags, f32 ``[S, M]``: by its best-known tag."""
    lately = worked_out(view.day >= 0, lambda: engaged(view, view.users).mean(1))
    return 1.0 - lately[:, view.contents.tags].max(-1)


def segment_means(view: View) -> list[Array]:
    """Fit, satiety and idleness of every content to each segment, f32 ``[S, M]`` each."""
    return [segment_fit(view), segment_satiety(view), segment_idle(view)]


def platform_valid(view: View) -> Array:
    """Valid views an impression over all contents, scalar: what is believed of a content without a record."""
    impressions, _, valid, _ = counts(view)
    return jnp.clip((valid.sum() + 1.0) / (impressions.sum() + 100.0), 1e-4, 0.5)


def gone(view: View) -> Array:
    """Share of the day's usual traffic that is gone, scalar in [0, 1]: a clock that runs with the impressions."""
    today = view.contents.stats[:, TODAY].sum()
    return jnp.clip(today / (500.0 * view.scale * view.age_days.shape[0]), 0.0, 1.0)


def ask_once(view: View, chosen: Array, rank: Array) -> Requests:
    """Each of the ``chosen`` (bool ``[M]``) asks for one size while it is new, served by ``rank`` in [0, 1].

    One size is what a full budget buys, so that it is once unless the content earns coins by its clicks.
    """
    young = new(view)
    size = jnp.ceil(view.config.heating.first_ask * view.scale).astype(jnp.int32)
    return Requests(jnp.where(young & chosen, size, 0), rank, ~young)


def lift(log_odds: Array, rate: Array) -> Array:
    """Log-odds against those of ``rate``, as a number in [0, 1]: 0.5 for what is as good as that."""
    return jax.nn.sigmoid(log_odds - jnp.log(rate / (1.0 - rate)))
