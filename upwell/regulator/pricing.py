"""What an impression costs a content: what demand makes of the reserve price, the bid's bound, discounts.

Prices and bids are in ledger units an impression (``ledger.COIN`` of them make a coin).
"""

from __future__ import annotations

from upwell.agents.xp import Array, Namespace

MOST_DISCOUNT = 0.5
"""Share of the price that the strongest evidence takes off."""

NEAR_CAP = 0.9
"""Share of the cap from which discounts are forced: what room is left goes to contents that have proven themselves."""


def clearing_price(xp: Namespace, wanted: Array, bid: Array, supply: Array, reserve: Array) -> Array:
    """What one more impression would have brought: the bid of the first request that the supply does not fill.

    Args:
        wanted: impressions, in the order in which requests are served, ``[X]``.
        bid: their bids ``[X]``.
        supply: impressions there are.
        reserve: the least price, which holds when the supply fills every request.
    """
    short = (xp.cumsum(wanted) > supply) & (wanted > 0)
    return xp.where(short.any(), xp.maximum(bid[xp.argmax(short)], reserve), reserve)


def discount(xp: Namespace, asked: Array, quality: Array, heated_share: Array, cap: Array) -> Array:
    """Share of the price taken off, ``[M]``: as much as the content asks for and its evidence carries.

    Near the cap it is forced on everyone whom evidence carries, asked for or not.

    Args:
        asked: in [0, 1], share of ``MOST_DISCOUNT``.
        quality: posterior mean in [0, 1], 0.5 without evidence.
    """
    evidence = xp.clip(2.0 * quality - 1.0, 0.0, 1.0)
    share = xp.where(heated_share >= NEAR_CAP * cap, 1.0, xp.clip(asked, 0.0, 1.0))
    return MOST_DISCOUNT * evidence * share


def bill(xp: Namespace, clearing: Array, bid: Array, off: Array) -> Array:
    """The price each content pays, i32 ``[M]``: the clearing price, at most its bid, less its discount; at least 1."""
    return xp.maximum(xp.round(xp.minimum(clearing, bid) * (1.0 - off)), 1.0).astype(xp.int32)
