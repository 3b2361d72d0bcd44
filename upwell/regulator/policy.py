"""The three agents' rules put together: what contents ask for, which places they win, what a user is tried on.

Plain functions of arrays over ``xp``: the simulated platform's arm ``rules`` and the live service call the same ones.
"""

from __future__ import annotations

from typing import NamedTuple

from upwell.agents import content, system
from upwell.agents.content import ContentDials
from upwell.agents.dials import Dials
from upwell.agents.parts import Parts
from upwell.agents.system import SystemDials
from upwell.agents.xp import Array, Namespace
from upwell.regulator.tick import Requests


class Standing(NamedTuple):
    """What is known of each content, f32 ``[M]`` each."""

    impressions: Array
    clicks: Array
    valid: Array
    heated: Array  # impressions of these
    age_days: Array
    followers: Array  # of the creator
    coins: Array  # the content's own budget


def requests(
    xp: Namespace,
    known: Standing,
    best_match: Array,
    u: Array,
    scale: Array,
    platform_ctr: Array,
    first_ask: Array,
    weights: tuple[Array, Array, Array],
    dials: Dials,
    bonus: Array | None = None,
) -> Requests:
    """Contents ask by their rules, the system agent approves by its score; grants stop on certainty.

    Args:
        best_match: cosine of each content to the segment it suits best ``[M]``.
        u: uniforms ``[M]``.
        weights: the goal's, of user satisfaction, revenue and the long term.
        bonus: what the goal's reward program adds to each score ``[M]`` (see ``regulator.bonus``).
    """
    quality = content.quality(xp, known.valid, known.clicks, known.impressions, platform_ctr)
    promise = content.promise(xp, known.clicks, known.impressions, platform_ctr)
    ctr = known.clicks / xp.maximum(known.impressions, 1.0)
    asked = content.ask(xp, known.impressions, ctr, quality, known.coins, scale, first_ask, u, dials.content)
    hopeless = content.hopeless(known.impressions, promise, platform_ctr, dials.content)
    grown = outgrown(known.age_days, known.impressions, scale)
    asks = asked.asks & ~hopeless & ~grown
    # Retention of creators: contents not yet tried, of creators not yet big, count most.
    boost = -xp.log1p(known.heated / scale) - 0.2 * xp.log(known.followers) - 0.1 * known.age_days
    own = dials.system
    score, parts = system.score(
        xp, best_match + promise, asked.bid, boost, asks,
        (weights[0] * own.user, weights[1] * own.revenue, weights[2] * own.long_term),
    )  # fmt: skip
    if bonus is not None:
        score, parts = score + bonus, parts | {"program": bonus}
    return Requests(
        impressions=xp.where(asks & (score > own.approval), (asked.impressions * own.share).astype(xp.int32), 0),
        score=score,
        give_up=hopeless | grown,
        bid=asked.bid / content.REFERENCE_BID,
        discount=xp.zeros_like(score) + dials.content.discount,
        wanted=xp.where(asks, asked.impressions, 0),
        parts=parts,
    )


def outgrown(age_days: Array, impressions: Array, scale: Array) -> Array:
    """Contents that were seen enough to need no heating any more, bool ``[M]``."""
    return (age_days >= 3) & (impressions > 3_000.0 * scale)


def heat(
    xp: Namespace,
    fit: Array,
    promise: Array,
    known_clicks: Array,
    fit_weight: Array,
    content_dials: ContentDials,
    system_dials: SystemDials,
    idle: Array | None = None,
) -> Parts:
    """Fit of each user to each grant plus the content's promise, f32 ``[..., R, G]``; -inf behind the fit gate.

    Args:
        fit: cosine of profile to content ``[..., R, G]``.
        promise, known_clicks: of the contents ``[..., 1, G]`` (see ``agents.content``).
        fit_weight: logits a unit of cosine is worth on this platform.
        content_dials, system_dials: numbers, or of the contents ``[..., 1, G]``.
        idle: share of its tags that the user engaged none of for a week ``[..., R, G]``; None where not known.
    """
    gate = content.fit_gate(known_clicks, content_dials)
    parts = {"fit": fit_weight * fit, "promise": system_dials.promise * promise}
    if idle is not None:
        parts["wide"] = system_dials.wide * idle
    return parts | {"gate": xp.where(fit >= gate, 0.0, -xp.inf)}
