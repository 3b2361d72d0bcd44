"""The heating ledger: impressions from one pool, coins from each content's own budget.

Whole numbers only: impressions, and coins in units of 1/10,000 coin. At all times, per content and in total,
granted = spent + released + outstanding, and no budget and no pool is ever negative.
"""

from __future__ import annotations

from typing import NamedTuple

from upwell.agents.xp import Array, Namespace, scatter

COIN = 10_000
"""Ledger units in one coin."""


class Ledger(NamedTuple):
    """Balances; ``[M]`` a content, or scalars. All int32 but ``spent_coins``."""

    pool: Array  # impressions the pool can still grant today
    budget: Array  # [M] units a content can still spend
    outstanding: Array  # [M] impressions granted and not yet shown
    price: Array  # [M] units an outstanding impression costs
    granted: Array  # impressions granted today, yesterday's outstanding included
    spent: Array  # impressions shown today
    released: Array  # impressions given back today
    spent_coins: Array  # f32, coins spent today: a report, which no balance rests on


def opened(xp: Namespace, contents: int, budget_coins: float) -> Ledger:
    """A ledger with full budgets and an empty pool."""
    zero = xp.zeros((), dtype=xp.int32)
    none = xp.zeros((contents,), dtype=xp.int32)
    return Ledger(zero, none + int(budget_coins * COIN), none, none, zero, zero, zero, xp.zeros((), xp.float32))


def refill(xp: Namespace, ledger: Ledger, pool: Array) -> Ledger:
    """A new day: the pool is filled to ``pool`` impressions less what is still outstanding; counts start anew."""
    zero = xp.zeros((), dtype=xp.int32)
    carried = ledger.outstanding.sum().astype(xp.int32)
    return ledger._replace(
        pool=xp.maximum(pool.astype(xp.int32) - carried, 0),
        granted=carried,
        spent=zero,
        released=zero,
        spent_coins=xp.zeros((), xp.float32),
    )


def grant(
    xp: Namespace, ledger: Ledger, wanted: Array, price: Array, order: Array, whole: Array
) -> tuple[Ledger, Array]:
    """Grant impressions in order of rank until the pool is spent; a content with a grant outstanding gets none.

    Whoever takes nothing but the whole waits until the pool holds it, and so does everyone behind: what is there is
    saved up, and not eaten by smaller asks.

    Args:
        wanted: i32 ``[M]`` impressions asked for (0: none).
        price: i32 ``[M]`` units an impression, at least 1.
        order: i32 ``[X]``, contents from first served to last; those not in it get nothing.
        whole: bool ``[M]``, get all that they want and can pay, or nothing.

    Returns:
        the ledger and the impressions granted, i32 ``[M]``.
    """
    affordable = ledger.budget // xp.maximum(price, 1)
    wanted = xp.where(ledger.outstanding > 0, 0, xp.minimum(xp.maximum(wanted, 0), affordable))
    queue = wanted[order]
    left = xp.maximum(ledger.pool - (xp.cumsum(queue) - queue), 0)
    served = xp.minimum(queue, left).astype(xp.int32)
    served = xp.where(whole[order] & (served < queue), 0, served)
    given = scatter(xp, wanted.shape[0], order, served)
    total = given.sum().astype(xp.int32)
    return ledger._replace(
        pool=ledger.pool - total,
        budget=ledger.budget - given * price,
        outstanding=ledger.outstanding + given,
        price=xp.where(given > 0, price, ledger.price).astype(xp.int32),
        granted=ledger.granted + total,
    ), given


def spend(xp: Namespace, ledger: Ledger, shown: Array) -> Ledger:
    """Take ``shown`` heated impressions ``[M]`` from the grants they were shown for. Never more than outstanding."""
    shown = xp.minimum(shown.astype(xp.int32), ledger.outstanding)
    return ledger._replace(
        outstanding=ledger.outstanding - shown,
        spent=ledger.spent + shown.sum().astype(xp.int32),
        spent_coins=ledger.spent_coins + (shown.astype(xp.float32) * ledger.price).sum() / COIN,
    )


def release(xp: Namespace, ledger: Ledger, who: Array, forfeit: Array) -> Ledger:
    """Give the outstanding impressions of ``who`` (bool ``[M]``) back to the pool and their coins to their owners.

    ``forfeit`` (bool ``[M]``): proven cheats and contents taken down lose their whole budget.
    """
    back = xp.where(who, ledger.outstanding, 0)
    budget = xp.where(forfeit, 0, ledger.budget + back * ledger.price)
    total = back.sum().astype(xp.int32)
    return ledger._replace(
        pool=ledger.pool + total,
        budget=budget,
        outstanding=ledger.outstanding - back,
        released=ledger.released + total,
    )


def reopen(xp: Namespace, ledger: Ledger, born: Array, budget_coins: Array) -> Ledger:
    """Close the accounts of contents taken down (bool ``[M]``) and open those of the newborn in their places."""
    ledger = release(xp, ledger, born, born)
    return ledger._replace(budget=xp.where(born, xp.asarray(budget_coins * COIN).astype(xp.int32), ledger.budget))


def earn(xp: Namespace, ledger: Ledger, who: Array, coins: Array | float) -> Ledger:
    """Pay ``coins`` (scalar or ``[M]``) into the budgets of ``who`` (bool ``[M]``)."""
    return ledger._replace(budget=ledger.budget + who * xp.asarray(coins * COIN).astype(xp.int32))


def balanced(ledger: Ledger) -> bool:
    """Whether every invariant holds now (on the host)."""
    return bool(
        int(ledger.granted) == int(ledger.spent) + int(ledger.released) + int(ledger.outstanding.sum())
        and int(ledger.pool) >= 0
        and bool((ledger.budget >= 0).all())
        and bool((ledger.outstanding >= 0).all())
    )
