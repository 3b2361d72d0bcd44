"""What a worker's slow tick tells the servers, through one record in the store."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np

from upwell.service import ticker
from upwell.service.allowances import By
from upwell.service.learned import HEAT
from upwell.service.live import Live
from upwell.service.recommend import Grants
from upwell.service.regulator import Regulator, place_users
from upwell.service.tables import NOBODY, rows_of

ID = "told"


class Lot(msgspec.Struct):
    """What is granted from a purse. ``allowance``: by server, what it may show of each content since it began."""

    grants: list[list[str]]  # by segment, best first
    allowance: dict[str, By]
    dials: bytes = b""  # ``Grants.dials`` of the grants, one after the other; empty: the rules'


class Told(msgspec.Struct):
    """A tick as servers take it. ``grants``, ``allowance`` and ``dials`` are everybody's ``Lot``."""

    number: int
    grants: list[list[str]]
    centres: bytes  # f32 [S, DIMS]
    throttle: float
    platform_ctr: float
    cheats: list[str]
    allowance: dict[str, By]
    dials: bytes = b""
    scale: float = 1.0  # which records of versions before the learned policy lack
    purses: dict[str, Lot] = {}  # of experiments' arms that have money of their own (``arms.Split``)


def of(regulator: Regulator, ticked: ticker.Ticked, number: int, allowance: Mapping[str, dict[str, By]]) -> Told:
    """``allowance``: by purse, what ``Allowances.publish`` came to."""
    names = regulator.live.contents.rows.names
    base = lot_of(names, ticked.grants, allowance[""])
    return Told(
        number,
        base.grants,
        ticked.centres.tobytes(),
        regulator.rates.throttle,
        regulator.platform_ctr,
        [names[row] for row in np.flatnonzero(ticked.cheat).tolist()],
        base.allowance,
        base.dials,
        regulator.scale,
        {purse: lot_of(names, arm.grants, allowance[purse]) for purse, arm in ticked.arms.items()},
    )


def lot_of(names: list[str], grants: Grants, allowance: dict[str, By]) -> Lot:
    """Grants by contents' names."""
    rows, dials = grants.rows, grants.dials
    return Lot(
        [[names[row] for row in held if row != NOBODY] for held in rows.tolist()],
        allowance,
        b"" if dials is None else dials[rows != NOBODY].tobytes(),
    )


def take(live: Live, told: Told, now_ms: int) -> None:
    """Go by a tick from the next request on."""
    contents = live.contents
    contents.keep_back()
    live.grants = granted(live, Lot(told.grants, told.allowance, told.dials), "")
    live.purses = {purse: granted(live, lot, purse) for purse, lot in told.purses.items()}
    contents.cheat[:] = False
    contents.cheat[rows_of(contents.rows, told.cheats)] = True
    contents.cheat[NOBODY] = False
    live.throttle, live.platform_ctr = told.throttle, told.platform_ctr
    live.look(told.scale, now_ms)
    centres = np.frombuffer(told.centres, np.float32).reshape(-1, ticker.DIMS)
    if live.centres is None or live.centres.shape != centres.shape or not (live.centres == centres).all():
        live.centres = centres
        place_users(live, centres)


def granted(live: Live, lot: Lot, purse: str) -> Grants:
    """A purse's grants by row; what this server may show of them is at hand from now on."""
    rows = np.full((max(len(lot.grants), 1), ticker.PLACES), NOBODY, np.int32)
    each = np.frombuffer(lot.dials, np.float32).reshape(-1, len(HEAT))
    dials, first = np.zeros((*rows.shape, len(HEAT)), np.float32), 0
    for segment, ids in enumerate(lot.grants):
        here = rows_of(live.contents.rows, ids)[: ticker.PLACES]
        rows[segment, : len(here)] = here
        if len(each):
            dials[segment, : len(here)] = each[first : first + len(here)]
        first += len(ids)
    at, left, shown = live.contents.rows.at, live.contents.left_in(purse), live.shown_of.get(purse, {})
    for content, allowed in lot.allowance.get(live.server, {}).items():
        if content in at:
            left[at[content]] = max(allowed - shown.get(content, 0), 0)
    return Grants(rows, dials if len(each) else None, purse)


encoder = msgspec.msgpack.Encoder()
decoder = msgspec.msgpack.Decoder(Told)
