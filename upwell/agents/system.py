"""The system agent by rules: which requests become grants under the current reward weights."""

from __future__ import annotations

from upwell.agents.xp import Array, Namespace


def running_rank(xp: Namespace, values: Array, among: Array) -> Array:
    """Each value's place in (0, 1] among the tick's requests; 0 for what did not ask.

    Match, bid and retention boost live on unlike scales: without this, bids always win.
    """
    masked = xp.where(among, values, -xp.inf)
    order = xp.argsort(xp.argsort(masked))
    asked = among.sum()
    return xp.where(among, (order - (values.shape[0] - asked) + 1) / xp.maximum(asked, 1), 0.0)


def score(
    xp: Namespace, match: Array, bid: Array, retention_boost: Array, asks: Array, weights: tuple[Array, Array, Array]
) -> Array:
    """Rule score of each request, f32 ``[M]`` in [0, 1]: match·w_user + bid·w_revenue + retention_boost·w_long."""
    user, revenue, long_term = weights
    total = user + revenue + long_term
    return (
        running_rank(xp, match, asks) * user
        + running_rank(xp, bid, asks) * revenue
        + running_rank(xp, retention_boost, asks) * long_term
    ) / total


APPROVAL = 0.7
"""Requests above this score are granted, while the pool lasts."""
