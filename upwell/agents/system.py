"""The system agent by rules: which requests become grants under the current reward weights."""

from __future__ import annotations

from typing import NamedTuple

from upwell.agents.parts import Parts, total
from upwell.agents.xp import Array, Namespace, sigmoid


class SystemDials(NamedTuple):
    """What a policy may turn; the defaults are the rules. Floats, scalars, or one for each content."""

    user: Array = 1.0  # factors on the goal's three weights
    revenue: Array = 1.0
    long_term: Array = 1.0
    approval: Array = 0.7  # requests above this score are granted, while the pool lasts
    share: Array = 1.0  # factor on the impressions that a request is granted
    promise: Array = 1.0  # weight of a content's promise, beside its fit, in the race for heated places
    wide: Array = 0.0  # logits there for users of whom its tags lie idle


def normalise(xp: Namespace, values: Array, among: Array) -> Array:
    """Each value's place in the distribution of the tick's requests, as the logistic of its z-score, in (0, 1).

    Match, bid and retention boost live on unlike scales: without this, bids always win.
    """
    count = xp.maximum(among.sum(), 1)
    mean = xp.where(among, values, 0.0).sum() / count
    variance = xp.where(among, (values - mean) ** 2, 0.0).sum() / count
    return sigmoid(xp, 1.7 * (values - mean) / xp.sqrt(variance + 1e-9))


def score(
    xp: Namespace, match: Array, bid: Array, retention_boost: Array, asks: Array, weights: tuple[Array, Array, Array]
) -> tuple[Array, Parts]:
    """Rule score of each request, f32 ``[M]`` in [0, 1], and what it is made of, in named parts that add up to it.

    match·w_user + bid·w_revenue + retention_boost·w_long. Who asks alone is compared with all contents: among one,
    everybody is average, and nothing would be approved.
    """
    user, revenue, long_term = weights
    whole, among = user + revenue + long_term, asks | (asks.sum() <= 1)
    parts = {
        "match": normalise(xp, match, among) * user,
        "bid": normalise(xp, bid, among) * revenue,
        "retention": normalise(xp, retention_boost, among) * long_term,
    }
    return total(parts) / whole, {name: part / whole for name, part in parts.items()}
