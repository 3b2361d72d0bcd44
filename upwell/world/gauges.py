"""What each role sees of a stretch of a day: what a real platform knows, dimensionless.

Shares, and rates over their running means, so that a policy trained in one world means something on another.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from upwell.agents import mind
from upwell.regulator import guards
from upwell.regulator.ledger import COIN
from upwell.world.arm import pool_today
from upwell.world.config import WorldConfig
from upwell.world.state import CLICKS, HEATED, HEATED_CLICKS, IMPRESSIONS, SHARES, TODAY, VALID, Array, Users
from upwell.world.world import Day

LIMIT = 5.0
"""Observations are clipped to this on both sides."""

MEMORY = 0.9
"""Weight of the past, a step, in running means."""


class Running(NamedTuple):
    """Running means that rates are read against; scalars."""

    valid: Array  # valid views an impression
    gmv: Array  # net yuan an active user, a step
    new_ctr: Array
    requests: Array  # a step


class Stretch(NamedTuple):
    """What a stretch of a day came to; f32 scalars."""

    impressions: Array
    clicks: Array
    valid: Array
    heated: Array
    explored: Array
    new_impressions: Array
    new_clicks: Array
    requests: Array
    cold_engagement: Array  # valid views + 2 shares, of contents under three days old
    heated_clicks: Array
    coins: Array
    net_gmv: Array  # yuan


def stretch(config: WorldConfig, before: Day, after: Day) -> Stretch:
    """From ``before`` to ``after``, both of the same day."""
    names = ("impressions", "clicks", "valid", "heated", "explored", "new_impressions", "new_clicks", "requests")
    grown = after.state.contents.stats - before.state.contents.stats
    young = after.state.day - after.state.contents.born_day < 3
    books, then = after.state.regulator.ledger, before.state.regulator.ledger
    coins = books.spent_coins - then.spent_coins
    heating = config.heating
    # A coin's worth: the whole pool costs ``yuan_per_dau`` of each active user.
    pool_coins = heating.pool * 500.0 * config.sizes.contents * heating.budget / heating.first_ask
    yuan = coins * heating.yuan_per_dau * after.active.sum() / pool_coins
    return Stretch(
        **{name: getattr(after.counts, name) - getattr(before.counts, name) for name in names},
        cold_engagement=((grown[:, VALID] + 2.0 * grown[:, SHARES]) * young).sum(),
        heated_clicks=grown[:, HEATED_CLICKS].sum(),
        coins=coins,
        net_gmv=after.counts.gmv - before.counts.gmv - yuan,
    )


def first_means(day: Day) -> Running:
    """Before anything was seen: expectations from the platform's click rate."""
    rate = day.state.platform_ctr
    return Running(valid=0.6 * rate, gmv=jnp.float32(0.1), new_ctr=rate, requests=jnp.float32(1.0))


def means_after(running: Running, day: Day, s: Stretch, first: Array) -> Running:
    """Running means with a stretch taken in; the first stretch sets those that have no prior expectation."""
    now = Running(
        valid=per(s.valid, s.impressions),
        gmv=s.net_gmv / jnp.maximum(day.active.sum(), 1),
        new_ctr=per(s.new_clicks, s.new_impressions),
        requests=s.requests,
    )
    return Running(*(jnp.where(first, n, MEMORY * r + (1.0 - MEMORY) * n) for r, n in zip(running, now, strict=True)))


def per(part: Array, whole: Array) -> Array:
    return part / jnp.maximum(whole, 1.0)


def against(value: Array, mean: Array) -> Array:
    """Log of a rate over its mean, 0 where they agree."""
    return jnp.log((value + 1e-4) / (jnp.maximum(mean, 0.0) + 1e-4))


def observe(config: WorldConfig, day: Day, s: Stretch, running: Running, until_h: Array) -> dict[str, Array]:
    """Each role's observation, f32 ``[n]`` in ±``LIMIT``; see ``FEATURES`` for the order."""
    state, regulator = day.state, day.state.regulator
    users, contents, stats = state.users, state.contents, state.contents.stats
    came = day.active
    age = state.day - contents.born_day
    young, pool = age < 3, jnp.maximum(pool_today(config, state), 1.0)
    share_of_young = jnp.maximum(young.sum(), 1)
    minds = (users.mind * came[..., None]).sum((0, 1)) / jnp.maximum(came.sum(), 1)
    today = jnp.sort(stats[:, TODAY])
    m = today.shape[0]
    ratio = per(s.clicks, s.impressions)
    phase = 2.0 * jnp.pi * until_h / 24.0
    facts: dict[str, Array] = {
        "exploitation": minds[mind.EXPLOITATION],
        "curiosity": minds[mind.CURIOSITY],
        "fatigue": minds[mind.FATIGUE],
        "satisfaction": minds[mind.SATISFACTION],
        "click_rate": against(ratio, state.platform_ctr),
        "valid_rate": against(per(s.valid, s.impressions), running.valid),
        "new_click_rate": against(per(s.new_clicks, s.new_impressions), running.new_ctr),
        "heated_click_rate": against(per(s.heated_clicks, s.heated), state.platform_ctr),
        "gmv": jnp.where(running.gmv > 0, s.net_gmv / jnp.maximum(came.sum(), 1) / jnp.maximum(running.gmv, 1e-6), 0.0),
        "traffic": against(s.requests, running.requests),
        "explored": per(s.explored, s.impressions),
        "heated": guards.load(jnp, per(s.heated, s.impressions), config.heating.cap),
        "new_share": per(s.new_impressions, s.impressions),
        "breadth": breadth(config, day),
        "active": came.mean(),
        "protected": (state.day - users.created_day < config.heating.protection_days).mean(),
        "throttle": regulator.throttle,
        "held_out": against(
            per(regulator.clicks, regulator.impressions), per(regulator.held_clicks, regulator.held_impressions)
        ),
        "pool_left": regulator.ledger.pool / pool,
        "outstanding": regulator.ledger.outstanding.sum() / pool,
        "budget": (regulator.ledger.budget * young).sum() / share_of_young / (config.heating.budget * COIN),
        "chances": chances(config, day),
        "known": (jnp.minimum(stats[:, IMPRESSIONS] * state.platform_ctr / 5.0, 1.0) * young).sum() / share_of_young,
        "valid_a_click": per((stats[:, VALID] * young).sum(), (stats[:, CLICKS] * young).sum()),
        "cheats": regulator.cheat.mean() * 10.0,
        "gini": (2 * (jnp.arange(1, m + 1) * today).sum() / jnp.maximum(today.sum(), 1.0) - (m + 1)) / m,
        "top": per(today[-max(1, m // 100) :].sum(), today.sum()),
        "weight_user": jnp.asarray(config.goal.user_satisfaction),
        "weight_revenue": jnp.asarray(config.goal.platform_revenue),
        "weight_long_term": jnp.asarray(config.goal.long_term),
        "hour_sin": jnp.sin(phase),
        "hour_cos": jnp.cos(phase),
    }
    return {
        role: jnp.clip(jnp.stack([facts[name] for name in names]).astype(jnp.float32), -LIMIT, LIMIT)
        for role, names in FEATURES.items()
    }


FEATURES: dict[str, tuple[str, ...]] = {
    "user": (
        "exploitation", "curiosity", "fatigue", "satisfaction", "click_rate", "valid_rate", "new_click_rate", "traffic",
        "explored", "new_share", "breadth", "active", "protected", "throttle", "held_out", "hour_sin", "hour_cos",
    ),
    "content": (
        "new_click_rate", "heated_click_rate", "click_rate", "new_share", "heated", "pool_left", "outstanding",
        "budget", "chances", "known", "valid_a_click", "throttle", "cheats", "traffic", "hour_sin", "hour_cos",
    ),
    "system": (
        "satisfaction", "click_rate", "gmv", "breadth", "active", "gini", "top", "heated", "explored", "new_share",
        "pool_left", "outstanding", "chances", "throttle", "held_out", "cheats", "traffic", "weight_user",
        "weight_revenue", "weight_long_term", "hour_sin", "hour_cos",
    ),
}  # fmt: skip
"""Names of each role's features, in order."""


def diversity(config: WorldConfig, users: Users, day: Array) -> Array:
    """Of each user: tags engaged in the 7 days up to ``day`` over the healthy start's, at most 1; f32 ``[S, U]``."""
    return jnp.minimum((users.last_valid_day > (day - 7).astype(jnp.int16)).sum(-1) / config.healthy_tags, 1.0)


def breadth(config: WorldConfig, day: Day) -> Array:
    """Interest diversity of those who came today: tags engaged within 7 days over the healthy start's, at most 1."""
    share = diversity(config, day.state.users, day.state.day)
    return (share * day.active).sum() / jnp.maximum(day.active.sum(), 1)


def chances(config: WorldConfig, day: Day) -> Array:
    """Of contents in their third day, the share that has had its heating chance."""
    contents = day.state.contents
    third = day.state.day - contents.born_day == 2
    had = third & (contents.stats[:, HEATED] >= config.heating.chance * day.state.scale)
    return had.sum() / jnp.maximum(third.sum(), 1)
