"""One atomic, durable write, and the names it may use."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, get_args

Kind = Literal["user", "history", "trail", "own", "content", "grant", "decision", "request", "meta", "member"]
KINDS: tuple[Kind, ...] = get_args(Kind)
# Keyed by a user's id: erased with the user, no owner needed.
USER_KINDS: tuple[Kind, ...] = ("user", "history", "trail", "own")
BULK_KINDS: tuple[Kind, ...] = (
    "user",
    "history",
    "trail",
    "own",
    "decision",
    "request",
)  # too many to keep an index of

KEEP = 1_000  # entries of a list
ID_BYTES = 512  # wider than the domain's ids, so that an id may join several
OWNER_BYTES = 255  # an owner is a user's id
DELTA_MAX = 2**40  # a counter is a signed 64-bit integer: eight million of the largest steps fit


class Lease(NamedTuple):
    """The right to a name for a while. ``token`` rises with each new holder, and never falls."""

    name: str
    owner: str
    token: int


@dataclass(slots=True)
class Batch:
    """All of it is written, or nothing. Applied in the order deletes, puts, adds, appends.

    A kind and an id name three separate things: a record (bytes), counters (integers by name) and a list (bytes,
    oldest first). ``deletes`` removes all three. ``owners`` names the user whose erasure removes a record put here;
    a put without one makes the record nobody's. ``ttl_s`` (seconds, by kind) holds for all that is written of a kind:
    it expires that long after this write. A put without it never expires; adds and appends without it leave the
    expiry as it was. ``offsets`` are (expected, next) by partition, an absent one counting as 0.
    """

    puts: dict[Kind, dict[str, bytes]] = field(default_factory=dict[Kind, dict[str, bytes]])
    owners: dict[Kind, dict[str, str]] = field(default_factory=dict[Kind, dict[str, str]])
    ttl_s: dict[Kind, float] = field(default_factory=dict[Kind, float])
    deletes: dict[Kind, set[str]] = field(default_factory=dict[Kind, set[str]])
    adds: dict[Kind, dict[str, dict[str, int]]] = field(default_factory=dict[Kind, dict[str, dict[str, int]]])
    appends: dict[Kind, dict[str, list[bytes]]] = field(default_factory=dict[Kind, dict[str, list[bytes]]])
    keep: int = KEEP
    offsets: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    fence: Lease | None = None

    def put(self, kind: Kind, id: str, body: bytes, owner: str | None = None) -> None:
        """Replaces a record."""
        self.puts.setdefault(kind, {})[id] = body
        owners = self.owners.setdefault(kind, {})
        owners.pop(id, None)
        if owner is not None:
            owners[id] = owner

    def withdraw(self, kind: Kind, id: str) -> None:
        """Removes what this batch or one before it put."""
        self.puts.get(kind, {}).pop(id, None)
        self.owners.get(kind, {}).pop(id, None)
        self.delete(kind, id)

    def delete(self, kind: Kind, *ids: str) -> None:
        """Removes record, counters and list."""
        self.deletes.setdefault(kind, set()).update(ids)

    def add(self, kind: Kind, id: str, deltas: dict[str, int]) -> None:
        """Adds to counters; an absent one counts as 0."""
        counters = self.adds.setdefault(kind, {}).setdefault(id, {})
        for name, delta in deltas.items():
            counters[name] = counters.get(name, 0) + delta

    def append(self, kind: Kind, id: str, *entries: bytes) -> None:
        """Adds to the end of a list; its oldest entries beyond ``keep`` fall off."""
        self.appends.setdefault(kind, {}).setdefault(id, []).extend(entries)

    def advance(self, partition: str, expected: int, next: int) -> None:
        """Moves a partition's offset, if it is the expected one."""
        self.offsets[partition] = (expected, next)

    def kinds(self) -> list[Kind]:
        """The kinds that it touches."""
        return [k for k in KINDS if k in self.puts or k in self.deletes or k in self.adds or k in self.appends]

    def touched(self) -> dict[Kind, set[str]]:
        """The ids that it changes, by kind."""
        parts = (self.puts, self.deletes, self.adds, self.appends)
        return {kind: {id for part in parts for id in part.get(kind, ())} for kind in self.kinds()}

    def check(self) -> None:
        """Raises ValueError for what no store could keep: better here than half-way through a write."""
        for part in (self.puts, self.owners, self.ttl_s, self.deletes, self.adds, self.appends):
            if unknown := part.keys() - set(KINDS):
                raise ValueError(f"unknown kind {sorted(unknown)[0]}: one of {', '.join(KINDS)}")
        for ids in self.touched().values():
            check_ids(ids)
        for kind, owners in self.owners.items():
            check_ids(owners.values(), OWNER_BYTES)
            if owners.keys() - self.puts.get(kind, {}).keys():
                raise ValueError(f"owners of {kind}: only a record put in the same batch can have one")
        if any(ttl <= 0 for ttl in self.ttl_s.values()) or self.keep < 1:
            raise ValueError("ttl_s and keep must be above 0")
        for counters in self.adds.values():
            for deltas in counters.values():
                if any(abs(delta) > DELTA_MAX for delta in deltas.values()):
                    raise ValueError(f"a counter moves by at most {DELTA_MAX} at once")


def check_ids(ids: Iterable[str], most: int = ID_BYTES) -> None:
    """Raises ValueError for an empty or overlong id."""
    for id in ids:
        if not id or (len(id) > most // 4 and len(id.encode()) > most):
            raise ValueError(f"ids have 1 to {most} bytes: {id[:80]!r}")
