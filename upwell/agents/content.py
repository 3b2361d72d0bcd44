"""The content agent by rules: when to ask for heating, how much, what to bid, whom to reach, when to stop."""

from __future__ import annotations

from typing import NamedTuple

from upwell.agents.xp import Array, Namespace

REFERENCE_BID = 4.0
"""A bid of 4 pays the reference price for an impression. The seed's bids lie near 5, and near 4.9 when a few first
impressions brought no click yet: whom nothing speaks against can pay, with a fifth to spare."""


class ContentDials(NamedTuple):
    """What a policy may turn; the defaults are the rules. Floats, scalars, or one for each content."""

    ask: Array = 1.0  # factor on the chance to ask
    amount: Array = 1.0  # factor on the impressions asked for
    bid: Array = 1.0  # factor on the bid
    discount: Array = 0.5  # share of the largest discount asked for
    certainty: Array = -0.7  # promise, in logits, under which a known content gives up
    audience: Array = -0.2  # cosine to the profile that an unknown content asks of a user


RULES = ContentDials()


def promise(xp: Namespace, clicks: Array, impressions: Array, platform_ctr: Array) -> Array:
    """Log of the posterior click rate over the platform's, shrunk by five expected clicks, f32, any shape."""
    return xp.log((clicks + 5.0) / (impressions * platform_ctr + 5.0))


def worth(xp: Namespace, valid: Array, impressions: Array, platform_ctr: Array) -> Array:
    """As ``promise``, by valid views, which bots and titles do not bring: 60% of honest clicks."""
    return xp.log((valid / 0.6 + 5.0) / (impressions * platform_ctr + 5.0))


def starting(age_days: Array, first3: Array, organic_today: Array, scale: Array) -> Array:
    """Whether a content's cold start is under way and lacks impressions, bool, any shape.

    It lacks some in its first three days until it had 500·scale, and on the fourth until it had 100·scale organic ones.

    Args:
        first3: impressions of the first three days.
        organic_today: impressions of today that were not heated.
    """
    first, fourth = 500.0 * scale, 100.0 * scale
    tested = (age_days >= 3) & (age_days < 4) & (first3 >= first) & (organic_today < fourth)
    return ((age_days < 3) & (first3 < first)) | tested


SLACK = 0.1
"""Share of its impressions by which a cold start must lag behind to need each one, and be ahead to need none."""


def behind(xp: Namespace, had: Array, time: Array) -> Array:
    """How far a cold start needs help, f32 in [0, 1]: half of it at an even pace; one well ahead gets there without.

    Args:
        had: share of the impressions it needs.
        time: share of the time it has for them that is over.
    """
    return xp.clip(0.5 + 0.5 * (time - had) / SLACK, 0.0, 1.0)


def need(xp: Namespace, age_days: Array, first3: Array, organic_today: Array, scale: Array) -> Array:
    """How far a cold start needs the next impression (``behind``), f32 in [0, 1], any shape; 0 where none lacks any.

    Args:
        age_days: with the share of today that is over.
    """
    had, time = first3 / (500.0 * scale), age_days / 3.0
    tested = age_days >= 3
    had, time = xp.where(tested, organic_today / (100.0 * scale), had), xp.where(tested, age_days - 3.0, time)
    return starting(age_days, first3, organic_today, scale) * behind(xp, had, time)


class Ask(NamedTuple):
    """Requests of contents ``[M]``."""

    asks: Array  # bool
    impressions: Array  # i32
    bid: Array  # f32, on the seed's scale: see REFERENCE_BID


def ask(
    xp: Namespace,
    exposures: Array,
    ctr: Array,
    quality: Array,
    budget_coins: Array,
    scale: Array,
    first_ask: Array,
    u: Array,
    dials: ContentDials = RULES,
) -> Ask:
    """The seed's rules.

    Ask with probability 0.9 below 1,000·scale exposures, else 0.7 when CTR > 5%, else 0.1. Ask for
    min(5000, budget·10)·scale impressions, bid quality·10·(1 + 10·CTR), CTR taken as 0.01 before any exposure.

    Args:
        exposures, ctr, quality, budget_coins: f32 ``[M]``; quality in [0, 1], the posterior mean.
        first_ask: impressions, times scale, that a full budget of 100 coins buys.
        u: uniforms ``[M]``.
    """
    chance = xp.where(exposures < 1_000.0 * scale, 0.9, xp.where(ctr > 0.05, 0.7, 0.1)) * dials.ask
    amount = xp.minimum(5_000.0, budget_coins * first_ask / 100.0) * scale * dials.amount
    rate = xp.where(exposures > 0, ctr, 0.01)
    return Ask(
        asks=(u < chance) & (amount >= 1.0),
        impressions=xp.maximum(xp.floor(amount), 0.0).astype(xp.int32),
        bid=(quality * 10.0 * (1.0 + 10.0 * rate) * dials.bid).astype(xp.float32),
    )


def hopeless(impressions: Array, promise: Array, platform_ctr: Array, dials: ContentDials = RULES) -> Array:
    """Certainty: five expected clicks' worth of impressions are in, and the content stays far below the platform.

    Args:
        impressions: ``[M]``.
        promise: log of posterior click rate over the platform's ``[M]``.
    """
    return (impressions * platform_ctr > 5.0) & (promise < dials.certainty)


def fit_gate(known_clicks: Array, dials: ContentDials = RULES) -> Array:
    """Least cosine to the profile of a user worth reaching ``[...]``.

    It tightens as evidence grows: anyone while a content is unknown, then only users it suits.

    Args:
        known_clicks: expected clicks of the impressions it has had, at the platform's rate.
    """
    return dials.audience + 0.3 * known_clicks / (known_clicks + 5.0)


def quality(xp: Namespace, valid: Array, clicks: Array, impressions: Array, platform_ctr: Array) -> Array:
    """Posterior mean quality in [0, 1], 0.5 before any evidence.

    Half is the valid-view rate against the platform's, half the share of clicks that end in a valid view; both
    shrink to the platform's mean with 20 expected clicks' worth of prior, so that bought clicks do not raise it.
    """
    prior = 5.0
    lift = (valid + prior * 0.6) / (impressions * platform_ctr + prior) / 0.6
    honest = (valid + prior * 0.6) / (clicks + prior)
    return xp.clip(0.5 * lift / (1.0 + lift) + 0.5 * (1.0 - xp.exp(-honest / 0.6 * 0.6931)), 0.0, 1.0)
