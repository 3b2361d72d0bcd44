"""What a server has in memory of users and contents: arrays that a batch is gathered from, and where each id stands.

A gap in a table costs nothing: rows of what was forgotten are taken again by the next.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from upwell.agents.user import CORRECTIONS
from upwell.agents.xp import absorb, absorbed, mix32
from upwell.model import Content
from upwell.regulator.assignment import below, unit_id
from upwell.service import records
from upwell.service.records import COLUMN, COUNTS, DIMS, USER, in_purse, key_of, purse_of

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
FOUR = np.arange(4, dtype=np.uint32) * np.uint32(0x9E3779B9)
UNTESTED = -1
COLUMNS = (
    "key", "unit", "embedding", "published_ms", "followers", "live", "cheat", "low", "doubted", "counts", "unsaved",
    "left", "tag_bits", "tested",
)  # fmt: skip
NOBODY = 0
"""Row 0 of every table: who or what is not known."""


class Rows:
    """Which id stands in which row. Row 0 is nobody's."""

    def __init__(self) -> None:
        self.at: dict[str, int] = {}
        self.names: list[str] = [""]
        self.dropped = 0  # how often a row was given up: rows noted before may mean another id now
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self.at)

    def take(self, name: str) -> int:
        """A row for an id that has none."""
        if self._free:
            row = self._free.pop()
            self.names[row] = name
        else:
            row = len(self.names)
            self.names.append(name)
        self.at[name] = row
        return row

    def drop(self, name: str) -> int | None:
        row = self.at.pop(name, None)
        if row is not None:
            self.names[row] = ""
            self._free.append(row)
            self.dropped += 1
        return row


def grown(array: npt.NDArray[Any], rows: int) -> npt.NDArray[Any]:
    """The array with at least ``rows`` rows, twice as many as before when it was too short; new ones are zero."""
    if rows <= array.shape[0]:
        return array
    larger = np.zeros((max(rows, 2 * array.shape[0]), *array.shape[1:]), array.dtype)
    larger[: array.shape[0]] = array
    return larger


class Users:
    """Hot records by row, and what hangs on the id alone."""

    def __init__(self, holdout: float, salt: int) -> None:
        self.rows = Rows()
        self.record: npt.NDArray[np.void] = np.zeros(1024, USER)
        self.held_out: npt.NDArray[np.bool_] = np.zeros(1024, bool)
        self.segment: npt.NDArray[np.int32] = np.zeros(1024, np.int32)
        self.own: Floats = np.ones((1024, len(CORRECTIONS)), np.float32)  # factors on the user's dials: see ``own``
        self.doubted: npt.NDArray[np.bool_] = np.zeros(1024, bool)  # not trusted: see ``trust``
        self.dirty: set[int] = set()
        self._limit, self._state = below(holdout), absorbed(salt)
        self.record[NOBODY] = records.new_user(0, 0.0)

    def put(self, name: str, record: npt.NDArray[np.void]) -> int:
        """The user's row, now holding ``record``."""
        row = self.rows.at.get(name)
        if row is None:
            row = self.rows.take(name)
            self.record = grown(self.record, row + 1)
            self.held_out = grown(self.held_out, row + 1)
            self.segment = grown(self.segment, row + 1)
            self.own = grown(self.own, row + 1)
            self.doubted = grown(self.doubted, row + 1)
            self.segment[row], self.own[row], self.doubted[row] = 0, 1.0, False
            self.held_out[row] = self._drawn(name)
        self.record[row] = record
        return row

    def holds_out(self, name: str) -> bool:
        """Whether a user, known here or not, is in the holdout."""
        row = self.rows.at.get(name)
        return bool(self.held_out[row]) if row is not None else self._drawn(name)

    def _drawn(self, name: str) -> bool:
        return absorb(self._state, unit_id(name)) < self._limit

    def forget(self, name: str) -> None:
        row = self.rows.drop(name)
        if row is not None:
            self.record[row] = self.record[NOBODY]
            self.dirty.discard(row)

    def oldest(self, count: int) -> list[str]:
        """Users to forget first when memory is short: those not seen for longest, of whom nothing is unsaved."""
        rows = np.fromiter((r for r in self.rows.at.values() if r not in self.dirty), np.int64)
        if not len(rows):
            return []
        visited = self.record["visited_ms"][rows]
        first = np.argpartition(visited, min(count, len(rows) - 1))[:count]
        return [self.rows.names[row] for row in rows[first]]


class Purse:
    """What was shown of an arm's own grants, and what may be, by row of the contents' table."""

    def __init__(self, rows: int) -> None:
        self.heated: Ints = np.zeros(rows, np.int64)  # impressions, in the contents' ``counts`` too
        self.unsaved: Ints = np.zeros(rows, np.int64)  # what is new of them
        self.left: Ints = np.zeros(rows, np.int64)  # heated impressions this server may still show

    def fit(self, rows: int) -> None:
        """Room for ``rows`` rows."""
        self.heated, self.unsaved, self.left = (grown(each, rows) for each in (self.heated, self.unsaved, self.left))

    def copy(self) -> Purse:
        """As it is now."""
        out = Purse(0)
        out.heated, out.unsaved, out.left = self.heated.copy(), self.unsaved.copy(), self.left.copy()
        return out

    def clear(self, row: int) -> None:
        """A row's content is gone, or new."""
        self.heated[row] = self.unsaved[row] = self.left[row] = 0


class Contents:
    """Live contents by row. ``counts`` and ``unsaved`` are ``[M, len(COUNTS)]``: all, and what is new of it."""

    def __init__(self) -> None:
        self.rows = Rows()
        self.purses: dict[str, Purse] = {}  # of experiments' arms that have money of their own, and of those that had
        self.info: dict[int, Content] = {}
        self.key: npt.NDArray[np.uint32] = np.zeros(256, np.uint32)
        self.unit: npt.NDArray[np.uint32] = np.zeros(256, np.uint32)  # what experiments deal them by (``unit_id``)
        self.embedding: Floats = np.zeros((256, DIMS), np.float32)
        self.published_ms: Ints = np.zeros(256, np.int64)
        self.followers: Floats = np.zeros(256, np.float32)
        self.live: npt.NDArray[np.bool_] = np.zeros(256, bool)
        self.cheat: npt.NDArray[np.bool_] = np.zeros(256, bool)
        self.low: Floats = np.zeros(256, np.float32)  # lower bound of the probability to cheat
        self.doubted: Floats = np.zeros((256, 2), np.float32)  # clicks and valid views that are not to count
        self.counts: Ints = np.zeros((256, len(COUNTS)), np.int64)
        self.unsaved: Ints = np.zeros((256, len(COUNTS)), np.int64)
        self.left: Ints = np.zeros(256, np.int64)  # heated impressions of everybody's grants this server may still show
        self.tag_bits: npt.NDArray[np.uint64] = np.zeros(256, np.uint64)  # a bit for each tag's hash
        self.tested: Ints = np.full(256, UNTESTED)  # organic impressions when its third day ended, as known here

    def put(self, content: Content) -> int:
        """The content's row, now holding what ``content`` says; counts stay."""
        row = self.rows.at.get(content.id)
        if row is None:
            row = self.rows.take(content.id)
            for name in COLUMNS:
                setattr(self, name, grown(getattr(self, name), row + 1))
            for purse in self.purses.values():
                purse.fit(row + 1)
                purse.clear(row)
            self.tested[row] = UNTESTED
            self.key[row], self.unit[row] = key_of(content.id), unit_id(content.id)
            self.counts[row] = self.unsaved[row] = self.left[row] = 0
            self.cheat[row], self.low[row], self.doubted[row] = False, 0.0, 0.0
        self.info[row] = content
        self.embedding[row] = embedding_of(content)
        self.tag_bits[row] = bits_of(content.tags)
        self.published_ms[row] = content.published_at
        self.followers[row] = max(content.creator_followers or 0, 1)
        self.live[row] = True
        return row

    def load(self, row: int, counted: Mapping[str, int]) -> None:
        """What the store has counted of a row's content."""
        self.counts[row] = [counted.get(name, 0) for name in COUNTS]
        for purse in self.purses.values():
            purse.heated[row] = 0
        for name, amount in counted.items():
            what, purse_name = purse_of(name)
            if purse_name and what == "heated":
                self.purse(purse_name).heated[row] = amount

    def purse(self, name: str) -> Purse:
        """An arm's."""
        found = self.purses.get(name)
        if found is None:
            found = self.purses[name] = Purse(len(self.live))
        return found

    def left_in(self, purse: str) -> Ints:
        """Heated impressions of a purse's grants that this server may still show, by row; ``""``: everybody's."""
        return self.purse(purse).left if purse else self.left

    def keep_back(self) -> None:
        """Nothing is to be heated by this server from now on."""
        self.left[:] = 0
        for purse in self.purses.values():
            purse.left[:] = 0

    def spent(self, purse: str, rows: Ints) -> Ints:
        """Heated impressions that a purse paid for; ``""``: all that no arm's own did."""
        if purse:
            return self.purse(purse).heated[rows]
        return self.counts[rows, COLUMN["heated"]] - sum(one.heated[rows] for one in self.purses.values())

    def spend(self, purse: str, rows: npt.NDArray[Any]) -> None:
        """Heated impressions, counted already, were shown out of an arm's purse; a row may come more than once."""
        one = self.purse(purse)
        np.add.at(one.heated, rows, 1)
        np.add.at(one.unsaved, rows, 1)

    def new_counts(self, most: int) -> dict[str, dict[str, int]]:
        """What the store has not counted yet, by content, up to ``most`` of each: to be added to its counters."""
        rows = np.flatnonzero(self.unsaved.any(-1))
        new = np.clip(self.unsaved[rows], -most, most)
        self.unsaved[rows] -= new
        out: dict[str, dict[str, int]] = {}
        for row, deltas in zip(rows.tolist(), new.tolist(), strict=True):
            out[self.rows.names[row]] = {name: n for name, n in zip(COUNTS, deltas, strict=True) if n}
        for name, purse in self.purses.items():
            for row in np.flatnonzero(purse.unsaved).tolist():
                out.setdefault(self.rows.names[row], {})[in_purse("heated", name)] = int(purse.unsaved[row])
            purse.unsaved[:] = 0
        return out

    def add_unsaved(self, row: int) -> None:
        """On top of what the store has counted, what it has not yet."""
        self.counts[row] += self.unsaved[row]
        for purse in self.purses.values():
            purse.heated[row] += purse.unsaved[row]

    def discard(self) -> None:
        """Drop what the store has not counted yet."""
        self.unsaved[:] = 0
        for purse in self.purses.values():
            purse.unsaved[:] = 0

    def count(self, row: int, column: int, amount: int) -> None:
        self.counts[row, column] += amount
        self.unsaved[row, column] += amount

    def count_each(self, rows: npt.NDArray[Any], columns: npt.NDArray[Any]) -> None:
        """One more in each column of each row; a row may come more than once."""
        where = rows * len(COUNTS) + columns
        np.add.at(self.counts.reshape(-1), where, 1)
        np.add.at(self.unsaved.reshape(-1), where, 1)

    def forget(self, name: str) -> None:
        row = self.rows.drop(name)
        if row is not None:
            self.info.pop(row, None)
            self.live[row] = False
            self.embedding[row], self.tag_bits[row] = 0.0, 0
            self.left[row] = self.unsaved[row] = 0
            for purse in self.purses.values():
                purse.clear(row)

    @property
    def all_rows(self) -> npt.NDArray[np.int64]:
        """Rows of live contents, in order of row."""
        return np.flatnonzero(self.live)


def bits_of(tags: Sequence[str]) -> np.uint64:
    """A bit for each tag's hash. Tags that share one count as the same, as bits of a small Bloom filter do."""
    keys = np.asarray([key_of(f"tag:{tag}") for tag in tags], np.uint32)
    places = place_of(keys, records.TAGS)
    return np.bitwise_or.reduce(np.uint64(1) << places.astype(np.uint64), initial=np.uint64(0))


def embedding_of(content: Content) -> Floats:
    """Unit vector f32 ``[DIMS]``: the content's own, folded to ``DIMS``, else hashed from its tags and creator.

    Feature hashing (Weinberger et al. 2009, eq. 3): each feature adds its sign at its place. Inner products of folded
    vectors are unbiased estimates of the originals'. Up to ``DIMS`` numbers nothing is folded and nothing lost.
    """
    out = np.zeros(DIMS, np.float32)
    if content.embedding:
        given = np.asarray(content.embedding, np.float64)
        # The largest number becomes 1: only the direction counts, and squares of very large ones would be infinite.
        given = (given / max(float(np.abs(given).max()), 5e-324)).astype(np.float32)
        if len(given) <= DIMS:
            out[: len(given)] = given
        else:
            keys = np.arange(len(given), dtype=np.uint32)
            np.add.at(out, place_of(keys), sign_of(keys) * given)
    else:
        features = [*(f"tag:{tag}" for tag in content.tags), f"creator:{content.creator_id}"]
        # A tag says more of what a content is about than who made it.
        weights = [1.0] * len(content.tags) + [0.3 if content.tags else 1.0]
        keys = np.asarray([key_of(feature) for feature in features], np.uint32)
        # Four places a feature, so that two that collide in one still differ in the others; one sign, so that none
        # cancels itself out.
        np.add.at(out, place_of(keys[:, None] + FOUR), (sign_of(keys) * np.asarray(weights, np.float32))[:, None])
    length = math.sqrt(float(out @ out))
    return out / np.float32(length) if length > 0 else out


def place_of(keys: npt.NDArray[np.uint32], many: int = DIMS) -> npt.NDArray[np.uint32]:
    """Places in [0, many) that keys hash to. Mixed: a CRC is linear, and names of one length would collide alike."""
    return (mix32(np, keys) >> np.uint32(8)) % np.uint32(many)


def sign_of(keys: npt.NDArray[np.uint32]) -> Floats:
    """1 or -1, as keys hash."""
    return np.where(mix32(np, keys) >> np.uint32(31), -1.0, 1.0).astype(np.float32)


def rows_of(rows: Rows, names: Sequence[str] | Iterable[str]) -> list[int]:
    """Rows of ids, ``NOBODY`` where there is none."""
    get = rows.at.get
    return [get(name, NOBODY) for name in names]
