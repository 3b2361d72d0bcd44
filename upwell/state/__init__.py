"""The state port and its stores: what the service remembers, and how it outlives a crash."""

from __future__ import annotations

import time
from collections.abc import Callable

from upwell.errors import BadRequest
from upwell.state.batch import BULK_KINDS, KINDS, USER_KINDS, Batch, Kind, Lease
from upwell.state.errors import Conflict, Fenced, StoreDown
from upwell.state.port import EVERYTHING, Changes, Page, Store, Watcher, pages

__all__ = [
    "BULK_KINDS",
    "EVERYTHING",
    "KINDS",
    "USER_KINDS",
    "Batch",
    "Changes",
    "Conflict",
    "Fenced",
    "Kind",
    "Lease",
    "Page",
    "Store",
    "StoreDown",
    "Watcher",
    "open_store",
    "pages",
]


def open_store(
    url: str, timeout_s: float = 5.0, clock: Callable[[], float] = time.time, prefix: str = "upwell:"
) -> Store:
    """The store at ``memory:``, ``sqlite:PATH`` or ``redis://…`` (``rediss://…`` with TLS).

    ``timeout_s`` bounds every wait for the backend. ``clock`` (Unix seconds) decides on expiry, save in Redis, which
    has its own; ``prefix`` starts every key in Redis. Opening Redis connects to nothing yet. BadRequest: no such store.
    """
    scheme, _, rest = url.partition(":")
    if scheme == "memory" and not rest:
        from upwell.state.memory import MemoryStore

        return MemoryStore(clock=clock)
    if scheme == "sqlite" and rest:
        from upwell.state.sqlite import SqliteStore

        return SqliteStore(rest, timeout_s, clock)
    if scheme in ("redis", "rediss") and rest.startswith("//"):
        try:
            from upwell.state.redis import RedisStore
        except ImportError:
            raise BadRequest("a store in Redis needs: pip install 'upwell[redis]'") from None
        return RedisStore(url, timeout_s, prefix)
    # Not what was given: it may hold a password.
    raise BadRequest("unknown store: give memory:, sqlite:PATH or redis://HOST:PORT")
