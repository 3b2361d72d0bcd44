"""The slow tick: trust strikes out cheats, contents ask, the system approves, the ledger pays."""

from __future__ import annotations

from typing import NamedTuple

from upwell.agents.parts import Parts
from upwell.agents.xp import Array, Namespace, top_k
from upwell.regulator import guards, ledger, pricing
from upwell.regulator.ledger import COIN, Ledger

MOST_GRANTS = 1_024
"""New grants a tick at most: the best of them, without sorting every content."""


class RegulatorState(NamedTuple):
    """What the regulator remembers beside the ledger. Scalars unless shaped."""

    ledger: Ledger
    hour_impressions: Array
    hour_heated: Array
    clicks: Array  # fading, of regulated users
    impressions: Array
    held_clicks: Array  # fading, of the holdout
    held_impressions: Array
    throttle: Array
    cheat: Array  # bool [M], heated no more, budget lost
    frozen: Array  # bool [M], not heated while doubted


class Requests(NamedTuple):
    """What an arm wants heated this tick, ``[M]``."""

    impressions: Array  # i32, 0 for none
    score: Array  # f32, served in falling order
    give_up: Array  # bool, release what is outstanding
    bid: Array | None = None  # f32, most an impression may cost, over the reference price; None: pays what it costs
    discount: Array | None = None  # f32 in [0, 1], share of the largest discount asked for
    wanted: Array | None = None  # i32, what contents asked for, approved or not
    parts: Parts | None = None  # of the score: they add up to it


def opened(xp: Namespace, contents: int, budget_coins: float) -> RegulatorState:
    """A regulator before its first day."""
    zero = xp.zeros((), dtype=xp.float32)
    return RegulatorState(
        ledger.opened(xp, contents, budget_coins),
        zero,
        zero,
        zero,
        zero,
        zero,
        zero,
        zero + 1.0,
        xp.zeros((contents,), dtype=bool),
        xp.zeros((contents,), dtype=bool),
    )


def reference_price(xp: Namespace, first_ask: Array, budget_coins: Array, scale: Array) -> Array:
    """Ledger units an impression costs when demand is slack: a full budget buys ``first_ask``·scale impressions."""
    return xp.maximum(xp.round(budget_coins * COIN / (first_ask * scale)), 1.0)


def allocate(
    xp: Namespace,
    state: RegulatorState,
    requests: Requests,
    owed: Array,
    quality: Array,
    chance: Array,
    price: Array,
    cap: Array,
    elapsed: Array,
    pool_today: Array,
) -> RegulatorState:
    """Turn requests into grants.

    Contents owed a chance come first, by quality, and get that chance and no more until they had it: a larger ask of
    the first would keep the others waiting. Nor less: where the pool trickles, a few get a chance and not all a sliver.
    Then the arm's come, by its score. The pool is paced over the day, so that the morning does not spend it;
    discretionary grants shrink with the throttle. No arm gives up on a chance that is owed.

    Money: the reserve is the reference price, dearer near the cap. A bid ranks (as part of the arm's score) and bounds:
    who bids below the reserve is not served, and nobody pays more than they bid. The rest pay the clearing price, less
    a discount for strong evidence. Contents owed a chance are never priced out of it: they pay their own bid, however
    low, and at most the reserve and what their budget can pay for one chance.

    Args:
        owed: bool ``[M]``, owed a heating chance.
        quality: f32 ``[M]`` in [0, 1], posterior mean, 0.5 without evidence.
        chance: impressions of one chance; at most a full pool.
        price: reference price, units an impression.
        elapsed: share of the day's traffic gone, in [0, 1].
        pool_today: impressions of a full pool.
    """
    barred = state.cheat | state.frozen
    books = ledger.release(xp, state.ledger, (requests.give_up & ~owed) | barred, state.cheat)
    share = state.hour_heated / xp.maximum(state.hour_impressions, 1.0)
    reserve = price * guards.price_factor(xp, share, cap)
    paced = xp.maximum(pool_today * xp.minimum(elapsed + 0.1, 1.0) - (pool_today - books.pool), 0.0)
    held_back = books.pool - xp.minimum(paced, books.pool).astype(xp.int32)
    books = books._replace(pool=books.pool - held_back)
    nothing = xp.zeros_like(quality)
    bid = nothing + reserve if requests.bid is None else price * requests.bid
    asked = xp.where(bid >= reserve, requests.impressions * state.throttle, 0.0)
    chance = xp.minimum(chance, xp.floor(pool_today))  # a larger one would never come, and nor would who is behind it
    wanted = xp.where(owed, chance, asked)
    wanted = xp.where(barred | (books.outstanding > 0), 0, xp.ceil(wanted)).astype(xp.int32)
    rank = xp.where(owed, 2.0 + quality, xp.clip(requests.score, 0.0, 1.0))
    _, order = top_k(xp, xp.where(wanted > 0, rank, -1.0).astype(xp.float32), min(MOST_GRANTS, rank.shape[0]))
    payable = xp.minimum(wanted, books.budget // pricing.bill(xp, reserve, bid, nothing))
    clearing = pricing.clearing_price(xp, payable[order], bid[order], books.pool, reserve)
    off = pricing.discount(xp, nothing if requests.discount is None else requests.discount, quality, share, cap)
    limit = xp.minimum(xp.minimum(bid, reserve), xp.floor(books.budget / xp.maximum(chance, 1.0)))
    price = pricing.bill(xp, clearing, xp.where(owed, limit, bid), off)
    books, _ = ledger.grant(xp, books, wanted, price, order, owed)
    return state._replace(ledger=books._replace(pool=books.pool + held_back))
