"""What the judge knows: evidence of contents, creators and accounts by name, and which visits it has counted.

Plain data beside arrays: saved with the offsets that it is the state of.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from scipy import sparse

from upwell.agents import arrays
from upwell.model import Content, Interaction
from upwell.regulator.trust import evidence, rings
from upwell.regulator.trust.evidence import AccountEvidence, ContentEvidence, Events
from upwell.service import wire
from upwell.service.keys import digest_of, organic_key
from upwell.service.records import Place, key_of, merge

KIND, VERSION = "judge", 2
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
OPEN = 200_000
"""Slates, and visits without one, whose further events merge with those before, at most."""
EARLY, EARLY_EVENTS = 50_000, 200
"""Decisions whose events wait for them, at most, and of each."""
LEAST = 0.25
"""Visits below which they are forgotten."""
ROWS = 4_096
"""What is new, gathered before it is counted."""
TAGS = 1 << 20


class Names:
    """Rows of names, in the order in which they came."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.names = list(names)
        self.at = {name: row for row, name in enumerate(self.names)}

    def row(self, name: str) -> int:
        """The row of a name, a new one where it has none."""
        row = self.at.get(name)
        if row is None:
            row = self.at[name] = len(self.names)
            self.names.append(name)
        return row

    def __len__(self) -> int:
        return len(self.names)


class Seen(msgspec.Struct, array_like=True):
    """A slate, or a visit without one, and what was counted of it."""

    user: str
    contents: tuple[str, ...]
    direct: bool
    places: dict[int, Place] = {}


class Lists(msgspec.Struct):
    """What is no array."""

    seen: list[tuple[str, Seen]]
    early: dict[str, list[Interaction]]
    day: int


class Known:
    """``decided``, ``told`` and ``erase`` as the log has it; ``count`` before anything is read off."""

    def __init__(self) -> None:
        self.contents, self.creators, self.accounts = Names(), Names(), Names()
        self.creator_of, self.tag_of = list[int](), list[int]()  # of contents
        self.since_ms = list[int]()  # accounts' first days
        self.of_contents = evidence.none_of_contents(np, 0)
        self.of_accounts = evidence.none_of_accounts(np, 0)
        self.visits: Any = sparse.csr_matrix((0, 0), dtype=np.float32)  # [A, M], direct visits, fading
        self._visited: list[tuple[int, int]] = []  # those that are not in there yet
        self.seen: OrderedDict[str, Seen] = OrderedDict()
        self.early: dict[str, list[Interaction]] = {}
        self.day = 0
        self._new: list[tuple[Any, ...]] = []

    # ---- what comes in

    def content(self, content: Content) -> None:
        """A content as it is registered."""
        row = self.contents.row(content.id)
        creator = self.creators.row(content.creator_id)
        tag = key_of(f"tag:{content.tags[0]}") % TAGS if content.tags else 0
        if row == len(self.creator_of):
            self.creator_of.append(creator)
            self.tag_of.append(tag)
        self.creator_of[row], self.tag_of[row] = creator, tag

    def unknown(self, ids: Iterable[str]) -> list[str]:
        """Contents that are to be registered first."""
        return sorted({id for id in ids if id not in self.contents.at})

    def account(self, user: str, created_ms: int) -> int:
        """The row of an account, known or new; the earliest time at which it is said to have been there counts."""
        row = self.accounts.row(user)
        if row == len(self.since_ms):
            self.since_ms.append(created_ms)
        self.since_ms[row] = min(self.since_ms[row], created_ms)
        return row

    def decided(self, line: wire.Logged) -> None:
        """A slate was shown."""
        if line.decision_id in self.seen:
            return
        places = line.places if not line.instead else []  # in the shadow something else was shown
        seen = Seen(line.user_id, tuple(place.id for place in places), False)
        self._remember(line.decision_id, seen)
        account = self.account(line.user_id, line.ts)
        for id in seen.contents:
            self._note(account, id, line.ts, False, (True, False, False, False))
        for event in self.early.pop(line.decision_id, []):
            self.told(event)

    def told(self, event: Interaction) -> None:
        """What a user did. Of a decision that has not come in it waits; of one that is forgotten it is nothing."""
        key = event.decision_id or organic_key(event)
        seen = self.seen.get(key)
        if seen is None and event.decision_id is None:
            seen = Seen(event.user_id, (event.content_id,), True)
            self._remember(key, seen)
        if seen is None:
            waiting = self.early.setdefault(key, [])
            if len(waiting) < EARLY_EVENTS:
                waiting.append(event)
            while len(self.early) > EARLY:
                del self.early[next(iter(self.early))]
            return
        if event.user_id != seen.user or event.content_id not in seen.contents:
            return
        place = seen.places.setdefault(seen.contents.index(event.content_id), Place())
        before = flags(place)
        merge(place, event)
        new = tuple(now and not then for now, then in zip(flags(place), before, strict=True))
        if any(new):
            self._note(
                self.account(event.user_id, event.ts), event.content_id, event.ts, seen.direct, (False, *new)
            )  # fmt: skip

    def _remember(self, key: str, seen: Seen) -> None:
        self.seen[key] = seen
        while len(self.seen) > OPEN:
            self.seen.popitem(last=False)

    def _note(self, account: int, content: str, ts: int, direct: bool, told: tuple[bool, ...]) -> None:
        row = self.contents.at.get(content)
        if row is None:  # taken down since, or never registered
            return
        if ts // DAY_MS > self.day:
            days = min(ts // DAY_MS - self.day, 30) if self.day else 0
            visits = self.visited()
            visits.data *= np.float32(rings.KEPT**days)
            visits.data[visits.data < LEAST] = 0.0
            visits.eliminate_zeros()
            self.day = ts // DAY_MS
        if direct and told[1]:
            self._visited.append((account, row))
        self._new.append((account, row, self.creator_of[row], self.tag_of[row], ts // HOUR_MS, direct, *told))

    def erase(self, digest: str) -> None:
        """Forget a user (``keys.digest_of``), all of whom was counted: the account's row stays, nobody's."""
        for user in [user for user in self.accounts.at if digest_of(user) == digest]:
            row = self.accounts.at.pop(user)
            self.accounts.names[row] = ""
            self.of_accounts = evidence.forgotten(np, self.of_accounts, np.arange(len(self.of_accounts.clicks)) == row)
            visits = self.visited()
            visits.data[visits.indptr[row] : visits.indptr[row + 1]] = 0.0
            visits.eliminate_zeros()
        for key in [key for key, seen in self.seen.items() if digest_of(seen.user) == digest]:
            del self.seen[key]
        for key in [key for key, events in self.early.items() if digest_of(events[0].user_id) == digest]:
            del self.early[key]

    # ---- what is known

    @property
    def due(self) -> bool:
        """Whether enough is new to be counted."""
        return len(self._new) >= ROWS

    def count(self, content_doubt: npt.NDArray[np.float32] | None) -> None:
        """Count what is new, with contents' probabilities to cheat as far as they are known."""
        self.of_contents = room(self.of_contents, len(self.contents), evidence.none_of_contents)
        self.of_accounts = room(self.of_accounts, len(self.accounts), evidence.none_of_accounts)
        if not self._new:
            return
        columns = [np.array(column) for column in zip(*self._new, strict=True)]
        self._new = []
        doubt = sized(content_doubt, len(self.contents))
        self.of_contents, self.of_accounts = evidence.learn(
            np, self.of_contents, self.of_accounts, Events(*columns), doubt
        )

    def visited(self) -> Any:
        """Direct visits of accounts to contents, a SciPy CSR matrix ``[A, M]``."""
        shape = len(self.accounts), len(self.contents)
        if self.visits.shape != shape:
            self.visits.resize(shape)
        if self._visited:
            at = np.array(self._visited, np.int64)
            new = sparse.coo_matrix((np.ones(len(at), np.float32), (at[:, 0], at[:, 1])), shape)
            self.visits, self._visited = (self.visits + new.tocsr()).tocsr(), []
        return self.visits

    def topics(self) -> npt.NDArray[np.int64]:
        """Each creator's topic ``[K]``: the first tag of their last content."""
        topic = np.zeros(len(self.creators), np.int64)
        topic[self.creator_of] = self.tag_of
        return np.unique(topic, return_inverse=True)[1]

    # ---- kept

    def pack(self) -> bytes:
        """All of it, counted."""
        lists = Lists(list(self.seen.items()), self.early, self.day)
        visits = self.visited()
        named = {
            **{f"content.{name}": column for name, column in self.of_contents._asdict().items()},
            **{f"account.{name}": column for name, column in self.of_accounts._asdict().items()},
            "creator_of": np.array(self.creator_of, np.int64),
            "tag_of": np.array(self.tag_of, np.int64),
            "since_ms": np.array(self.since_ms, np.int64),
            "visits.data": visits.data,
            "visits.indices": visits.indices,
            "visits.indptr": visits.indptr,
            "lists": np.frombuffer(msgspec.msgpack.encode(lists), np.uint8),
        }
        about = {"contents": self.contents.names, "creators": self.creators.names, "accounts": self.accounts.names}
        return arrays.pack(KIND, VERSION, named, about)


def unpacked(body: bytes) -> Known:
    """What ``pack`` packed. Raises BadRequest where it is of another version of Upwell."""
    named, about = arrays.unpack(body, KIND, VERSION, KIND)
    known = Known()
    known.contents, known.creators = Names(about["contents"]), Names(about["creators"])
    known.accounts = Names(about["accounts"])
    known.accounts.at.pop("", None)  # who was erased
    known.creator_of, known.tag_of, known.since_ms = (
        named[name].tolist() for name in ("creator_of", "tag_of", "since_ms")
    )
    known.of_contents = ContentEvidence(*(named[f"content.{name}"] for name in ContentEvidence._fields))
    known.of_accounts = AccountEvidence(*(named[f"account.{name}"] for name in AccountEvidence._fields))
    shape = len(known.accounts), len(known.contents)
    known.visits = sparse.csr_matrix(tuple(named[f"visits.{part}"] for part in ("data", "indices", "indptr")), shape)
    lists = msgspec.msgpack.decode(named["lists"].tobytes(), type=Lists)
    known.seen, known.early, known.day = OrderedDict(lists.seen), lists.early, lists.day
    return known


def flags(place: Place) -> tuple[bool, bool, bool]:
    """What is counted of a place: clicked, watched, and shared or bought after that."""
    return place.clicked, place.valid, place.valid and (place.shared or place.purchased or place.value > 0.0)


def room(known: Any, rows: int, none: Any) -> Any:
    """Evidence with as many rows, and nobody's after them."""
    have = len(known[0]) - 1
    if have >= rows:
        return known
    blank = none(np, rows)
    return type(known)(*(np.concatenate([old[:-1], new[have:]]) for old, new in zip(known, blank, strict=True)))


def sized(doubt: npt.NDArray[np.float32] | None, rows: int) -> npt.NDArray[np.float32]:
    """Probabilities ``[rows + 1]``, of whoever came since 0."""
    out = np.zeros(rows + 1, np.float32)
    if doubt is not None:
        out[: len(doubt) - 1] = doubt[:-1]
    return out
