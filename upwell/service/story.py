"""A content's life story: what it asked for at the slow ticks, what it got and why, what came of it.

A line is written when something changes and once a day, so that a content's story is tens of lines. It is kept as the
list beside the content's account, in the same write as the books.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from upwell.regulator.ledger import COIN
from upwell.regulator.policy import Standing, outgrown
from upwell.regulator.tick import Requests
from upwell.regulator.words import Said
from upwell.service.records import COUNTS

Longs = npt.NDArray[np.int64]
QUIET, CHANCE, GRANTED, NOT_APPROVED, TOO_LOW_A_BID, WAITING, CHEAT, HOPELESS, OUTGROWN, FROZEN, RETURNED = range(11)
"""What a tick came to for a content: 0, it did not ask and nothing changed."""
CODES = (
    "quiet", "chance", "granted", "not_approved", "bid_below_price", "waiting", "cheat", "hopeless", "outgrown",
    "frozen", "returned",
)  # fmt: skip
SAYS: dict[str, Said] = {
    "chance": Said(
        "New content: it got its first chance, {granted} impressions at {price:.2f} coins each.",
        "新内容首次机会:获得{granted}次曝光,每次{price:.2f}币。",
    ),
    "granted": Said(
        "It asked for {asked} impressions, bid {bid:.2f} coins each and got {granted} at {price:.2f}.",
        "申请{asked}次曝光,每次出价{bid:.2f}币,获得{granted}次,每次支付{price:.2f}币。",
    ),
    "not_approved": Said(
        "It asked for {asked} impressions. Others were worth more just then.",
        "申请{asked}次曝光,未获批准:当时其他内容更优。",
    ),
    "bid_below_price": Said(
        "It asked for {asked} impressions, but bid {bid:.2f} coins, less than one cost.",
        "申请{asked}次曝光,但出价{bid:.2f}币低于当时价格。",
    ),
    "waiting": Said(
        "It asked for {asked} impressions and waits: what could be given went to others.",
        "申请{asked}次曝光,等待中:额度已分配给其他内容。",
    ),
    "cheat": Said(
        "Its clicks are not real people's interest. It lost its budget and gets no heating.",
        "点击并非真实用户兴趣,判定作弊:预算清零,不再加热。",
    ),
    "frozen": Said(
        "Who clicked it is doubted, or cannot be judged just now: no heating until that is cleared up.",
        "点击来源存疑或暂时无法判定:在查清之前不予加热。",
    ),
    "hopeless": Said(
        "People clicked it far less than other content, so its heating stopped.", "点击率远低于平均,停止加热。"
    ),
    "outgrown": Said("It is old and seen enough to need no heating.", "已有足够曝光,不再需要加热。"),
    "returned": Said(
        "Nobody is left whom this experiment's grant is for: {released} impressions went back to the pool.",
        "该实验额度已无对应用户:{released}次曝光退回总池。",
    ),
    "day": Said(
        "By then: {impressions} impressions ({heated} heated), {clicks} clicks, {valid} of them watched.",
        "截至当时:曝光{impressions}次(加热{heated}次),点击{clicks}次,有效观看{valid}次。",
    ),
}


class Line(msgspec.Struct, omit_defaults=True):
    """What a tick, or a day, came to for a content."""

    ts: int
    what: str  # of ``CODES``, or ``day``
    asked: int = 0  # impressions
    granted: int = 0
    released: int = 0
    bid: float = 0.0  # coins an impression
    price: float = 0.0
    match: float = 0.0  # cosine to the segment that it suits best
    score: dict[str, float] = {}  # of the request: named parts that add up to it
    counts: dict[str, int] = {}  # so far
    purse: str = ""  # an arm's (``arms.Split``), or everybody's


encoder = msgspec.json.Encoder()
decoder = msgspec.json.Decoder(Line)


def verdicts(
    wanted: Requests, owed: Any, cheat: Any, frozen: Any, granted: Longs, released: Longs, reserve: float, price: float,
    known: Standing, scale: float, outstanding: Longs, mine: npt.NDArray[np.bool_],
) -> npt.NDArray[np.int8]:  # fmt: skip
    """What the tick came to for each content ``[M]``: see ``CODES``.

    Args:
        reserve: units that an impression cost at least; ``price``: the reference price that bids are in.
        mine: whom the purse may grant anything.
    """
    assert wanted.wanted is not None
    assert wanted.bid is not None
    asks = (wanted.wanted > 0) & (outstanding == 0)
    cases = [
        (cheat, CHEAT), (frozen, FROZEN), ((granted > 0) & owed, CHANCE), (granted > 0, GRANTED),
        ((released > 0) & ~mine, RETURNED),
        ((released > 0) & outgrown(known.age_days, known.impressions, scale), OUTGROWN), (released > 0, HOPELESS),
        (asks & (wanted.impressions == 0), NOT_APPROVED), (asks & (wanted.bid * price < reserve), TOO_LOW_A_BID),
        (asks, WAITING),
    ]  # fmt: skip
    return np.select([case for case, _ in cases], [code for _, code in cases], QUIET).astype(np.int8)


def lines(
    now_ms: int, verdict: npt.NDArray[np.int8], last: npt.NDArray[np.int8], wanted: Requests, granted: Longs,
    released: Longs, price_units: Longs, price: float, match: npt.NDArray[np.float32], purse: str,
) -> Iterator[tuple[int, bytes]]:  # fmt: skip
    """A line for each content of which there is something new to tell, by its place in ``[M]``.

    Grants and ends are always told; what a request came to else, only when the last one (``last``) came to another.
    """
    assert wanted.wanted is not None
    assert wanted.bid is not None
    told = (granted > 0) | (released > 0) | ((verdict != last) & (verdict != QUIET))
    for i in np.flatnonzero(told).tolist():
        code = int(verdict[i])
        asks = code in (GRANTED, NOT_APPROVED, TOO_LOW_A_BID, WAITING)
        yield (
            i,
            encoder.encode(
                Line(
                    now_ms,
                    CODES[code],
                    asked=int(wanted.wanted[i]) if asks else 0,
                    granted=int(granted[i]),
                    released=int(released[i]),
                    bid=round(float(wanted.bid[i] * price) / COIN, 4) if asks else 0.0,
                    price=int(price_units[i]) / COIN if granted[i] else 0.0,
                    match=round(float(match[i]), 4) if granted[i] else 0.0,
                    score={name: round(float(part[i]), 4) for name, part in (wanted.parts or {}).items()}
                    if asks
                    else {},
                    purse=purse,
                )
            ),
        )


def day(now_ms: int, counts: list[int]) -> bytes:
    """A line of what was counted by the end of a day."""
    return encoder.encode(Line(now_ms, "day", counts=dict(zip(COUNTS, counts, strict=True))))


def told(line: bytes) -> dict[str, Any]:
    """A line as people read it."""
    one = decoder.decode(line)
    values = msgspec.structs.asdict(one)
    given = {name: value for name, value in values.items() if name in ("ts", "what") or value}
    says = SAYS[one.what]
    facts = values | one.counts
    return given | {"sentence": says.en.format_map(facts), "sentence_zh": says.zh.format_map(facts)}


def paying(lines: Sequence[bytes], ts: int, purse: str) -> dict[str, Any] | None:
    """The grant that paid for what was shown at ``ts`` out of a purse: the last one before it."""
    grants = [one for one in map(decoder.decode, lines) if one.granted and one.ts <= ts and one.purse == purse]
    return told(encoder.encode(grants[-1])) if grants else None
