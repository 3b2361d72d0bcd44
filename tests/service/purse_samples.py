"""Arms with purses, and what a content has in all of them."""

from __future__ import annotations

from ticker_samples import Server

from upwell.regulator.layers import Arm
from upwell.regulator.ledger import COIN

FULL = 100 * COIN
A, B = "halves/a", "halves/b"


def arm(name: str, share: float, room: float | None = None, **settings) -> Arm:
    return Arm(name=name, share=share, room=room, settings=settings)


def worth(server: Server, row: int) -> int:
    """All that a content has in any purse, units: its coins, those lost, and what is outstanding at its price."""
    return sum(
        one["budget_units"] + one["seized_units"] + one["outstanding"] * one["price_units"]
        for one in server.of(row).values()
    )
