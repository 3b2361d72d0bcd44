"""What the service goes by of who cheats: the judge's verdicts, an operator's appeals, and what follows from both.

The judge (``online.judge``) is a process of its own: it reads the log, and writes what it thinks as one record. Servers
read that when it has changed. Where the judge is silent, nothing is heated, since nothing can be judged; the ranker's
order goes on as it was. An operator's word stands above the judge's, whatever either says later.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Literal

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from upwell.regulator.trust.judge import FROZEN, NARROWED, ZEROED
from upwell.service import audit, compared
from upwell.service.audit import Who
from upwell.service.errors import Refused
from upwell.service.tables import NOBODY, Contents, Users, rows_of
from upwell.state.batch import Batch
from upwell.state.port import Store

ID = OFFSET = "trust"
"""Of the judge's record (kind ``meta``), and of the offset that counts its changes."""
ALIVE = "trust/alive"
"""Record with the judge's last word of itself, Unix ms of the machine's clock."""
APPEALS = "appeals"
"""Record of the operators' words, and the offset that counts them."""
SILENT_S = 20.0
"""So long after its last word the judge counts as gone."""
MOST_APPEALS = 10_000
CLEARED = -1.0
"""Lower bound of a content that an operator takes for honest: below whatever anything follows from."""
Word = Literal["honest", "cheat"]


class Verdict(msgspec.Struct, array_like=True):
    """Of a content. ``reasons``: what each trait adds to the log odds, those that weigh most."""

    probability: float
    low: float
    high: float
    reasons: dict[str, float] = {}
    clicks: float = 0.0  # of those counted, so many are doubted
    valid: float = 0.0


class Told(msgspec.Struct):
    """The judge's record."""

    at_ms: int  # of the log
    contents: dict[str, Verdict]  # of all others nothing is known, or nothing speaks against them
    creators: dict[str, float]  # probabilities
    doubted: list[str]  # users who are not trusted
    ring: list[str] = []  # creators in rings


class Appeal(msgspec.Struct, frozen=True):
    """An operator's word on a content."""

    word: Word
    at_ms: int
    who: str
    why: str = ""

    @property
    def low(self) -> float:
        """What stands in place of the judge's lower bound."""
        return 1.0 if self.word == "cheat" else CLEARED


class Asked(msgspec.Struct, forbid_unknown_fields=True):
    """What an operator says of a content; None takes an earlier word back."""

    verdict: Word | None
    why: Annotated[str, Meta(max_length=audit.WHY_LETTERS)] = ""


class Appeals(msgspec.Struct):
    """By content."""

    of: dict[str, Appeal] = {}


decoder = msgspec.msgpack.Decoder(Told)
appeals_decoder = msgspec.msgpack.Decoder(Appeals)
encoder = msgspec.msgpack.Encoder()
NOTHING = Told(0, {}, {}, [])


class Trust:
    """What one process goes by."""

    def __init__(self, store: Store, wanted: bool, clock_s: Callable[[], float] = time.time) -> None:
        """``wanted``: there is a judge."""
        self.store, self.wanted, self._clock_s = store, wanted, clock_s
        self.told, self.appeals = NOTHING, Appeals()
        self._numbers = (-1, -1)

    def look(self, offsets: dict[str, int]) -> bool:
        """Read what has changed; whether anything has. ``offsets``: the store's. Raises StoreDown."""
        numbers = offsets.get(OFFSET, 0), offsets.get(APPEALS, 0)
        if numbers == self._numbers:
            return False
        told, appeals = self.store.get("meta", [ID, APPEALS])
        self.told = decoder.decode(told) if told is not None and self.wanted else NOTHING
        self.appeals = appeals_decoder.decode(appeals) if appeals is not None else Appeals()
        self._numbers = numbers
        return True

    def silent(self) -> bool:
        """Whether a judge is wanted and has not been heard of lately. Raises StoreDown."""
        if not self.wanted:
            return False
        (alive,) = self.store.get("meta", [ALIVE])
        return alive is None or self._clock_s() - int(alive) / 1_000 > SILENT_S

    def take(self, contents: Contents, users: Users) -> None:
        """Go by what was read, for contents and users in memory."""
        contents.low[:], contents.doubted[:] = 0.0, 0.0
        rows = rows_of(contents.rows, self.told.contents)
        for row, one in zip(rows, self.told.contents.values(), strict=True):
            if row != NOBODY:
                contents.low[row], contents.doubted[row] = one.low, (one.clicks, one.valid)
        for name, appeal in self.appeals.of.items():
            row = contents.rows.at.get(name)
            if row is not None:
                contents.low[row] = appeal.low
        users.doubted[:] = False
        users.doubted[rows_of(users.rows, self.told.doubted)] = True
        users.doubted[NOBODY] = False

    def of(self, content: str) -> dict[str, object]:
        """What people are shown of a content."""
        verdict, appeal = self.told.contents.get(content), self.appeals.of.get(content)
        low = 0.0 if verdict is None else verdict.low
        if appeal is not None:
            low = appeal.low
        return {
            "probability": None if verdict is None else verdict.probability,
            "interval": None if verdict is None else [verdict.low, verdict.high],
            "reasons": {} if verdict is None else verdict.reasons,
            "consequence": consequence(low),
            "appeal": appeal,
        }


def consequence(low: float) -> str:
    """What follows from a lower bound."""
    return "zeroed" if low >= ZEROED else "frozen" if low >= FROZEN else "narrowed" if low >= NARROWED else "none"


def frozen(low: npt.NDArray[np.float32], silent: bool) -> npt.NDArray[np.bool_]:
    """Contents that get no heating for now; ``silent``: the judge is, and what no operator cleared waits."""
    return (low > CLEARED) if silent else low >= FROZEN


def appeal(store: Store, content: str, asked: Asked, who: Who, at_ms: int) -> None:
    """An operator's word on a content. Raises StoreDown, and Refused 409 where it is one too many."""

    def attempt(batch: Batch) -> None:
        number = store.offsets().get(APPEALS, 0)
        (body,) = store.get("meta", [APPEALS])
        of = dict(appeals_decoder.decode(body).of) if body is not None else {}
        before = of.pop(content, None)
        if asked.verdict is not None:
            if len(of) >= MOST_APPEALS:
                raise Refused(409, "conflict", f"{MOST_APPEALS:,} contents have an operator's word: take some back")
            of[content] = Appeal(asked.verdict, at_ms, who.key, asked.why)
        elif before is None:
            return
        batch.put("meta", APPEALS, encoder.encode(Appeals(of)))
        batch.advance(APPEALS, number, number + 1)
        what = "trust" if asked.verdict is None else f"trust: {asked.verdict}"
        was = "no word" if before is None else before.word
        audit.tell(batch, audit.Entry(at_ms, who.key, what, content, who.name, asked.why or f"it was {was}"))

    compared.change(store, attempt, "appeals")
