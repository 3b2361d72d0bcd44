"""What is stored of a user, of the outcome of a slate, and of a content's counts: layouts with a version each.

A user's hot record is one row of ``USER``: little-endian, 512 bytes at most, its first field the version. The same row
stands in memory, in the store and on the wire, so that reading one is a copy and nothing is parsed on a request.
"""

from __future__ import annotations

import zlib

import msgspec
import numpy as np
import numpy.typing as npt

from upwell.agents import mind
from upwell.model import ID_BYTES, Interaction

DIMS = 64
"""Of embeddings and profiles."""
RING = 80
"""Contents lately shown that a record remembers."""
VERSION = 2
"""Records of version 1 lack ``engaged`` and are read."""
TAGS = 64
"""Tags are told apart by so many hashes."""
WEEK_DAYS, CYCLE_DAYS = 7, 15
"""A tag counts as engaged for a week; days are told apart within ``CYCLE_DAYS``, in four bits."""

USER = np.dtype(
    [
        ("version", "<u2"),
        ("ring_at", "<u2"),  # where in ``ring`` the next content shown goes
        ("ring_window", "<u4"),  # number of the no-repeat window that ``ring`` belongs to
        ("created_ms", "<i8"),
        ("visited_ms", "<i8"),  # time of the last slate; 0: none yet
        ("requests", "<u4"),
        ("expected", "<f4"),  # running clicks an impression
        ("mind", "<f4", (4,)),  # before the open slate's outcome: see ``fold``
        ("open_decision", "<u8"),  # key of the slate whose outcome is still coming in; 0: none
        ("open_size", "u1"),
        ("open_clicks", "u1"),
        ("open_clicked_new", "u1"),
        ("came", "u1"),  # bit d: a slate was shown d + 1 days before the day of ``visited_ms``
        ("open_similarity", "<f4"),
        ("profile", "<f2", (DIMS,)),  # what the user clicks
        ("recent", "<f2", (DIMS,)),  # what the user was lately shown, fading
        ("ring", "<u2", (RING,)),  # 16 bits of each content's key; 0: none
        (
            "engaged",
            "u1",
            (TAGS // 2,),
        ),  # two tags a byte: day of its last valid view modulo CYCLE_DAYS, plus 1; 0: none
    ]
)

COUNTS = (
    "impressions", "clicks", "valid", "shares", "heated", "heated_clicks", "heated_valid", "explored", "purchases",
    "value_fen", "dwell_ms",
)  # fmt: skip
"""Fields of a content's counters, in the order of the columns of ``Contents.counts``."""
COLUMN = {name: i for i, name in enumerate(COUNTS)}


def in_purse(counter: str, purse: str) -> str:
    """The name of a content's or day's counter for one purse: an arm's (``arms.Split``), or everybody's, ``""``.

    A content's counters of all purses lie together, so that they go with it, and coins move within one record.
    """
    return f"{counter} {purse}" if purse else counter


def purse_of(counter: str) -> tuple[str, str]:
    """What a counter counts, and the purse that it is of."""
    what, _, purse = counter.partition(" ")
    return what, purse


def key_of(name: str) -> int:
    """A content's or decision's 32-bit number: the same everywhere and for ever, so that draws can be repeated."""
    return zlib.crc32(name.encode("utf-8"))


def new_user(created_ms: int, expected: float) -> npt.NDArray[np.void]:
    """A row for a user never seen before, ``USER`` of shape ()."""
    row = np.zeros((), USER)
    row["version"], row["created_ms"], row["expected"] = VERSION, created_ms, expected
    row["mind"] = mind.FIRST_SIGHT
    return row


def read_user(data: bytes) -> npt.NDArray[np.void]:
    """A stored row. Raises ValueError on a record of a version that this one does not know."""
    version = int.from_bytes(data[:2], "little")
    if version == 1 and len(data) == USER.fields["engaged"][1]:  # type: ignore[index]
        data = VERSION.to_bytes(2, "little") + data[2:] + bytes(TAGS // 2)
    elif version != VERSION or len(data) != USER.itemsize:
        raise ValueError(f"user record of version {version} and {len(data)} bytes: made by a newer Upwell")
    return np.frombuffer(data, USER)[0].copy()


class Place(msgspec.Struct, omit_defaults=True):
    """What became of one place of a slate. Events of one place merge: booleans by or, amounts by the largest."""

    clicked: bool = False
    dwell_s: float = 0.0
    completion: float = 0.0
    shared: bool = False
    purchased: bool = False
    value: float = 0.0

    @property
    def valid(self) -> bool:
        """A click that was watched: completion of at least a half, or 30 s."""
        return self.clicked and (self.completion >= 0.5 or self.dwell_s >= 30.0)


class Outcome(msgspec.Struct):
    """What became of a slate: places that events came in for, and the keys of those events."""

    places: dict[int, Place] = msgspec.field(default_factory=dict[int, Place])
    events: set[str] = msgspec.field(default_factory=set[str])


def is_click(event: Interaction) -> bool:
    """Whether an event tells of a click."""
    return event.clicked or event.kind == "click"


def merge(place: Place, event: Interaction) -> None:
    """One more event of a place: booleans by or, amounts by the largest, so that none can count twice."""
    place.clicked |= is_click(event)
    place.dwell_s = max(place.dwell_s, event.dwell_s)
    place.completion = max(place.completion, event.completion)
    place.shared |= event.shared or event.kind == "share"
    place.purchased |= event.purchased or event.kind == "purchase"
    place.value = max(place.value, event.value)


class Early(msgspec.Struct, array_like=True):
    """Events of a user whose slate has not come in yet, each with the time when it was logged, Unix ms."""

    user: str
    events: list[tuple[int, Interaction]]


early_encoder = msgspec.msgpack.Encoder()
early_decoder = msgspec.msgpack.Decoder(Early)
outcome_encoder = msgspec.msgpack.Encoder()
outcome_decoder = msgspec.msgpack.Decoder(Outcome)

assert USER.itemsize <= 512
assert ID_BYTES == 128
