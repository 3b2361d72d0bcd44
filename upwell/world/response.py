"""How users respond to a slate: click, watch, share, buy, and how they feel about it.

Click rate is multiplicative: log rate = base + log quality + clickbait + log interest - age/freshness
- position - satiation, and a click happens with 1 - exp(-rate). Interest is the strongest of the content's tags:
true interest x (discovered + what undiscovered interests get from curiosity).
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from upwell.agents.xp import hash_uniform
from upwell.world.config import WorldConfig
from upwell.world.state import Array

CLICK, WATCH, SHARE, BUY, PASSIVE = 401, 402, 403, 404, 405


class Outcome(NamedTuple):
    """What came of slates, ``[..., K]`` each."""

    rate: Array  # true click probability before chance
    clicked: Array  # bool
    valid: Array  # bool, completion >= 0.5 or dwell >= 30 s
    dwell_s: Array
    completion: Array
    shared: Array  # bool
    value: Array  # yuan


def openness(config: WorldConfig, discovered: Array, curiosity: Array) -> Array:
    """How much of a true interest shows: all of it once discovered, else what curiosity lends. ``[..., n]``."""
    lent = config.interest.undiscovered_pull + config.interest.curiosity_pull * curiosity[..., None]
    return discovered + (1.0 - discovered) * lent


def log_appeal(config: WorldConfig, log_quality: Array, clickbait: Array, age_days: Array) -> Array:
    """The part of the log click rate that is the content's."""
    return (
        config.response.base
        + log_quality
        + config.content.clickbait_boost * clickbait
        - age_days / config.content.freshness_days
    )


class Traits(NamedTuple):
    """What a content brings to a response, ``[...]`` each. It holds for a day, so no impression works it out anew."""

    appeal: Array  # the content's part of the log click rate
    dwell: Array  # exponent of the completion
    share: Array  # probability of sharing a valid view
    buy: Array  # probability of a purchase after one
    duration_s: Array
    price: Array  # yuan


def traits(
    config: WorldConfig, log_quality: Array, clickbait: Array, age_days: Array, duration_s: Array, price: Array
) -> Traits:
    """Traits of contents of that quality, age and price."""
    response = config.response
    charm = jnp.exp(jnp.minimum(0.3 * log_quality, 1.0))
    cheap = (price / response.price) ** -response.elasticity
    return Traits(
        appeal=log_appeal(config, log_quality, clickbait, age_days),
        dwell=response.dwell * jnp.exp(0.4 * log_quality - 2.0 * clickbait),
        share=response.share * charm,
        buy=response.purchase * charm * cheap,
        duration_s=duration_s,
        price=price,
    )


def finished(of: Traits) -> Array:
    """Probability that a click becomes a valid view: half of it watched, or 30 s. Of Beta(a, 1) completion."""
    return 1.0 - jnp.minimum(0.5, 30.0 / of.duration_s) ** jnp.clip(of.dwell, 0.05, 20.0)


def respond(
    config: WorldConfig,
    seed: Array,
    user: Array,
    content: Array,
    day: Array,
    log_rate: Array,
    of: Traits,
    colluding: Array,
) -> Outcome:
    """Outcomes of slates ``[..., K]``. Chance hangs on (seed, day, user, content) alone: common to every arm."""
    response = config.response
    key = hash_uniform(jnp, seed, CLICK, user, content, day) * 2.0**24

    def draw(stream: int) -> Array:
        return hash_uniform(jnp, stream, key)

    # Contents of a slate compete for attention, as in a multinomial choice with an outside option (Ie et al.,
    # RecSim, arXiv 1909.04847, section 4.3): a strong slate takes clicks from a weak content among it.
    pull = jnp.exp(jnp.minimum(log_rate, 3.0))
    rate = 1.0 - jnp.exp(-pull / (1.0 + pull.sum(-1, keepdims=True) / response.attention))
    rate = jnp.where(colluding, config.creator.ring_click, rate)
    clicked = draw(CLICK) < rate
    # Completion ~ Beta(a, 1), drawn by inversion: u^(1/a).
    a = of.dwell * jnp.where(colluding, 0.1, 1.0)
    completion = jnp.where(clicked, draw(WATCH) ** (1.0 / jnp.clip(a, 0.05, 20.0)), 0.0)
    passive = -response.passive_s * jnp.log(draw(PASSIVE))
    dwell_s = jnp.where(clicked, completion * of.duration_s, passive)
    valid = clicked & ((completion >= 0.5) | (dwell_s >= 30.0))
    return Outcome(
        rate=rate,
        clicked=clicked,
        valid=valid,
        dwell_s=dwell_s,
        completion=completion,
        shared=valid & (draw(SHARE) < of.share),
        value=jnp.where(valid & (draw(BUY) < of.buy), of.price, 0.0),
    )


def satisfaction_after(config: WorldConfig, satisfaction: Array, outcome: Outcome, satiety: Array) -> Array:
    """True satisfaction after a slate ``[...]``: what it offered and what came of it, saturating, less regret.

    ``satiety`` ``[..., K]`` in [0, 1], similarity to what was lately shown: more of the same pleases less.
    """
    response = config.response
    good = ((outcome.valid + outcome.rate) * (1.0 - response.boredom * satiety)).sum(-1)
    regret = (outcome.clicked & ~outcome.valid).sum(-1)
    return response.memory * satisfaction + (1.0 - response.memory) * enjoyment(config, good, regret)


def enjoyment(config: WorldConfig, good: Array, regret: Array) -> Array:
    """What a slate is worth to a user, f32 in [0, 1): saturating in the good it offered, less clicks regretted."""
    return 1.0 - jnp.exp(-jnp.maximum(config.response.enjoy * good - config.response.regret * regret, 0.0))
