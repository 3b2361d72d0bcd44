"""The state port: what the service asks of a store. Adapters: memory, SQLite, Redis; one suite tests all three.

Every method is safe to call from several threads and answers within the store's timeout: with ``StoreDown`` when the
backend cannot be reached. Reads can be repeated freely. A write can be repeated when it moves an offset: the
comparison tells whether it took place (see ``Conflict``). A store is opened after a fork, never carried across one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import Final, Generic, Literal, NamedTuple, Protocol, TypeVar

from upwell.state.batch import Batch, Kind, Lease

T = TypeVar("T")
REMEMBERED = 1_024  # writes kept for watchers in memory and SQLite; one further behind is told EVERYTHING


class Everything(Enum):
    """The type of ``EVERYTHING``, so that ``is EVERYTHING`` narrows a union."""

    EVERYTHING = "everything"


EVERYTHING: Final = Everything.EVERYTHING
Changes = set[tuple[Kind, str]] | Literal[Everything.EVERYTHING]


class Page(NamedTuple, Generic[T]):
    """A part of a scan. ``after`` continues it; None: that was the last. A page may be empty before the last."""

    items: list[tuple[str, T]]
    after: str | None


class Watcher(Protocol):
    """Tells a cache what OTHERS changed. For one thread at a time."""

    def poll(self, timeout_s: float) -> Changes:
        """What others changed since the last call (at first: since ``watch``), waiting up to ``timeout_s`` for it.

        EVERYTHING: the track was lost, so forget all that is cached. A change made by both at about the same time may
        be reported too. Expiry is not reported. ``StoreDown``: nothing is known at present; EVERYTHING will follow.
        """
        ...

    def close(self) -> None:
        """Ends the watch."""
        ...


class Store(Protocol):
    """Records, counters and lists under a kind and an id; offsets by partition; leases by name."""

    commands: Counter[str]
    """Commands sent to the backend since opening, by name."""

    def get(self, kind: Kind, ids: Sequence[str]) -> list[bytes | None]:
        """Records in the order asked, None where there is none; one round trip."""
        ...

    def counters(self, kind: Kind, ids: Sequence[str]) -> list[dict[str, int]]:
        """Counters in the order asked, empty where there are none; one round trip."""
        ...

    def tail(self, kind: Kind, id: str, n: int) -> list[bytes]:
        """The last ``n`` entries of a list, oldest first."""
        ...

    def scan(self, kind: Kind, after: str = "", limit: int = 1_000) -> Page[bytes]:
        """Records of a kind, page by page (about ``limit`` each), in id order.

        What is there throughout the scan is in it. Redis: a kind in ``BULK_KINDS`` comes in no order, and an id may
        come twice. ``after``: "" or the last page's.
        """
        ...

    def scan_counters(self, kind: Kind, after: str = "", limit: int = 1_000) -> Page[dict[str, int]]:
        """Counters of a kind; else like ``scan``."""
        ...

    def offsets(self) -> dict[str, int]:
        """The next offset by partition."""
        ...

    def write(self, batch: Batch) -> None:
        """All of the batch, durably, or nothing: ``Conflict``, ``Fenced``, ``StoreDown``, ValueError."""
        ...

    def erase(self, owner: str) -> int:
        """Removes all that is stored of a user; returns how many records, counters and lists.

        These are the ids of ``USER_KINDS`` equal to ``owner`` and the ids of records owned, with their counters and
        lists. No answer holds them from now on; see ``scrub`` for the bytes on disk.
        """
        ...

    def acquire(self, name: str, owner: str, ttl_s: float) -> Lease | None:
        """A lease for ``ttl_s`` seconds of real time, or None while another owner holds it.

        The same owner gets it anew with a higher token, so that a restarted process need not wait for its former
        self, which is fenced by that.
        """
        ...

    def renew(self, lease: Lease, ttl_s: float) -> bool:
        """Holds a lease for another ``ttl_s`` seconds; False: it is lost."""
        ...

    def release(self, lease: Lease) -> None:
        """Gives a lease up, if it is still held."""
        ...

    def watch(self, kinds: Sequence[Kind]) -> Watcher:
        """Changes of these kinds by other stores opened on the same data. Every change from now on is reported."""
        ...

    def sweep(self) -> int:
        """Removes what has expired, where the backend does not by itself; returns how much. Cheap: every minute."""
        ...

    def scrub(self) -> None:
        """Rewrites the files so that no byte of what was erased is left in them. Costly: once a night."""
        ...

    def stats(self) -> dict[str, int]:
        """Figures for metrics: ``bytes`` at least."""
        ...

    def healthy(self) -> bool:
        """Whether the backend answers. Never raises."""
        ...

    def close(self) -> None:
        """Lets go of the backend; twice does no harm. Watchers are closed on their own."""
        ...


def pages(read: Callable[[Kind, str, int], Page[T]], kind: Kind, limit: int = 1_000) -> Iterator[tuple[str, T]]:
    """All items of a scan: ``for id, body in pages(store.scan, "content")``."""
    after: str | None = ""
    while after is not None:
        items, after = read(kind, after, limit)
        yield from items
