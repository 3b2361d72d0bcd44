"""What a worker's slow tick tells the servers, through one record in the store."""

from __future__ import annotations

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


class Told(msgspec.Struct):
    """A tick as servers take it. ``allowance``: by server, what it may show of each content since it began."""

    number: int
    grants: list[list[str]]  # by segment, best first
    centres: bytes  # f32 [S, DIMS]
    throttle: float
    platform_ctr: float
    cheats: list[str]
    allowance: dict[str, By]
    dials: bytes = b""  # ``Grants.dials`` of the grants, one after the other; empty: the rules'
    scale: float = 1.0  # which records of versions before the learned policy lack


def of(regulator: Regulator, ticked: ticker.Ticked, number: int, allowance: dict[str, By]) -> Told:
    names, rows = regulator.live.contents.rows.names, ticked.grants.rows
    dials = ticked.grants.dials
    return Told(
        number,
        [[names[row] for row in held if row != NOBODY] for held in rows.tolist()],
        ticked.centres.tobytes(),
        regulator.rates.throttle,
        regulator.platform_ctr,
        [names[row] for row in np.flatnonzero(ticked.cheat).tolist()],
        allowance,
        b"" if dials is None else dials[rows != NOBODY].tobytes(),
        regulator.scale,
    )


def take(live: Live, told: Told, shown: By, now_ms: int) -> None:
    """Go by a tick from the next request on. ``shown``: of each content, heated impressions since this server began."""
    rows = np.full((max(len(told.grants), 1), ticker.PLACES), NOBODY, np.int32)
    each = np.frombuffer(told.dials, np.float32).reshape(-1, len(HEAT))
    dials, first = np.zeros((*rows.shape, len(HEAT)), np.float32), 0
    for segment, ids in enumerate(told.grants):
        here = rows_of(live.contents.rows, ids)[: ticker.PLACES]
        rows[segment, : len(here)] = here
        if len(each):
            dials[segment, : len(here)] = each[first : first + len(here)]
        first += len(ids)
    contents, at = live.contents, live.contents.rows.at
    contents.left[:] = 0
    for content, allowed in told.allowance.get(live.server, {}).items():
        if content in at:
            contents.left[at[content]] = max(allowed - shown.get(content, 0), 0)
    contents.cheat[:] = False
    contents.cheat[rows_of(contents.rows, told.cheats)] = True
    contents.cheat[NOBODY] = False
    live.grants = Grants(rows, dials if len(each) else None)
    live.throttle, live.platform_ctr = told.throttle, told.platform_ctr
    live.look(told.scale, now_ms)
    centres = np.frombuffer(told.centres, np.float32).reshape(-1, ticker.DIMS)
    if live.centres is None or live.centres.shape != centres.shape or not (live.centres == centres).all():
        live.centres = centres
        place_users(live, centres)


encoder = msgspec.msgpack.Encoder()
decoder = msgspec.msgpack.Decoder(Told)
