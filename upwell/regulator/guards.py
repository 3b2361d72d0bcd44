"""What no arm may do, whatever it learned: the cap, new users' protection, new content's chance, the throttle."""

from __future__ import annotations

from upwell.agents.xp import Array, Namespace

JUDGED_FROM = 100.0
"""Clicks in the holdout from which its click rate is taken for what it is."""


def load(xp: Namespace, heated_share: Array, cap: Array) -> Array:
    """An hour's heated share over the cap; 0 as long as nothing is heated, also where nothing may be (a cap of 0)."""
    return heated_share / xp.maximum(xp.float32(cap), xp.float32(1e-9))


def price_factor(xp: Namespace, heated_share: Array, cap: Array) -> Array:
    """Factor on the reference price: 1 up to half the cap, rising without bound towards it."""
    near = xp.clip(load(xp, heated_share, cap), 0.0, 0.999)
    return 1.0 + xp.maximum(near - 0.5, 0.0) / (1.0 - near)


def heated_slots_left(xp: Namespace, impressions: Array, heated: Array, coming: Array, cap: Array) -> Array:
    """Heated impressions the window may still hold, i32: at the cap nothing more is heated.

    Args:
        impressions, heated: shown in the window so far.
        coming: impressions about to be shown.
    """
    return xp.maximum(xp.floor(cap * (impressions + coming)) - heated, 0).astype(xp.int32)


def within_window(xp: Namespace, slots: Array, left: Array) -> Array:
    """Cut ``slots`` (i32, heated places wanted by each request, any shape) so that their sum stays within ``left``."""
    flat = slots.reshape(-1)
    before = xp.cumsum(flat) - flat
    return xp.clip(left - before, 0, flat).reshape(slots.shape).astype(xp.int32)


def may_explore(day: Array, created_day: Array, protection_days: Array, in_holdout: Array) -> Array:
    """Who may be explored on: not the new, not the holdout. Bool, any shape."""
    return (day - created_day >= protection_days) & ~in_holdout


def throttle(
    xp: Namespace,
    factor: Array,
    clicks: Array,
    impressions: Array,
    held_clicks: Array,
    held_impressions: Array,
    limit: Array,
) -> Array:
    """Factor in [0.05, 1] on exploration and discretionary heating, stepped once an hour.

    Falls by a quarter when the click rate lost against the holdout exceeds ``limit``, less one standard error so
    that noise alone does not throttle; recovers by a tenth otherwise.
    """
    rate = clicks / xp.maximum(impressions, 1.0)
    held = held_clicks / xp.maximum(held_impressions, 1.0)
    loss = 1.0 - rate / xp.maximum(held, 1e-6)
    error = 1.0 / xp.sqrt(xp.maximum(held_clicks, 1.0))
    enough = held_clicks >= JUDGED_FROM
    return xp.clip(xp.where(enough & (loss - error > limit), factor * 0.75, factor * 1.1), 0.05, 1.0)


def owed_a_chance(heated: Array, age_days: Array, scale: Array, chance: Array, proven_cheat: Array) -> Array:
    """New contents that have not had their heating chance yet, bool ``[M]``; proven cheats are owed none."""
    return (age_days < 3) & (heated < chance * scale) & ~proven_cheat


def proven_cheat(xp: Namespace, clicks: Array, valid: Array) -> Array:
    """Contents whose clicks hardly ever become valid views, beyond doubt, bool ``[M]``.

    Bots and colluding accounts click and do not watch; so, in the end, do the victims of clickbait. The upper 99%
    Wilson bound of valid views per click must lie below 0.35 (an honest content's is about 0.6).
    """
    z = 2.326
    n = xp.maximum(clicks, 1.0)
    p = xp.clip(valid / n, 0.0, 1.0)
    upper = (p + z * z / (2 * n) + z * xp.sqrt(p * (1 - p) / n + z * z / (4 * n * n))) / (1 + z * z / n)
    return (clicks >= 10.0) & (upper < 0.35)
