"""The store in Redis (7 or later), for several machines. One server: a batch must be atomic, so no Redis Cluster.

Keys, after the prefix: ``KIND:r:ID`` a record (a byte with the length of its owner's id, that id, the body),
``KIND:c:ID`` counters (hash), ``KIND:l:ID`` a list, ``ids:KIND`` the ids of a kind outside ``BULK_KINDS`` (sorted set),
``owned:USER`` what a user owns (sorted set by expiry), ``offsets`` (hash), ``lease:NAME`` and ``tokens``.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from typing import Any

from upwell.errors import BadRequest
from upwell.state.batch import BULK_KINDS, USER_KINDS, Batch, Kind, Lease
from upwell.state.errors import Conflict, Fenced, StoreDown
from upwell.state.port import Page, Watcher
from upwell.state.redis_link import RedisLink
from upwell.state.redis_plan import plan
from upwell.state.redis_watch import RedisWatcher


class RedisStore:
    """See ``Store``. Time is the server's. BadRequest: the URL is none, or the prefix has odd characters."""

    def __init__(self, url: str, timeout_s: float = 5.0, prefix: str = "upwell:") -> None:
        if not re.fullmatch(r"[\w:.{}-]+", prefix, re.ASCII):
            raise BadRequest(f"prefix {prefix!r}: letters, digits and _ : . - {{ }} only")
        self.prefix = prefix
        self.id = secrets.token_hex(8)  # tells our own changes from others'
        self._link = RedisLink(url, timeout_s)
        self.commands = self._link.commands

    def __repr__(self) -> str:
        return f"RedisStore({self._link.where!r}, prefix={self.prefix!r})"

    def get(self, kind: Kind, ids: Sequence[str]) -> list[bytes | None]:
        if not ids:
            return []
        found: list[bytes | None] = self._link.run("MGET", *self._keys(kind, "r", ids))
        return [None if record is None else _body(record) for record in found]

    def counters(self, kind: Kind, ids: Sequence[str]) -> list[dict[str, int]]:
        if not ids:
            return []
        return [_counters(flat) for flat in self._link.script("counters", *self._keys(kind, "c", ids))]

    def tail(self, kind: Kind, id: str, n: int) -> list[bytes]:
        return self._link.run("LRANGE", *self._keys(kind, "l", [id]), -n, -1) if n > 0 else []

    def scan(self, kind: Kind, after: str = "", limit: int = 1_000) -> Page[bytes]:
        if kind not in BULK_KINDS:
            after, found = self._indexed(kind, "r", after, limit)
            return Page([(id, _body(record)) for id, record in found], after or None)
        ids, after = self._some(kind, "r", after, limit)
        found = zip(ids, self.get(kind, ids), strict=True)
        return Page([(id, body) for id, body in found if body is not None], after or None)

    def scan_counters(self, kind: Kind, after: str = "", limit: int = 1_000) -> Page[dict[str, int]]:
        if kind not in BULK_KINDS:
            after, found = self._indexed(kind, "c", after, limit)
            return Page([(id, _counters(flat)) for id, flat in found], after or None)
        ids, after = self._some(kind, "c", after, limit)
        found = zip(ids, self.counters(kind, ids), strict=True)
        return Page([(id, counters) for id, counters in found if counters], after or None)

    def offsets(self) -> dict[str, int]:
        stored: dict[bytes, bytes] = self._link.run("HGETALL", f"{self.prefix}offsets")
        return {partition.decode(): int(next) for partition, next in stored.items()}

    def write(self, batch: Batch) -> None:
        batch.check()
        said: list[bytes] = self._link.script("write", self.prefix, self.id, *plan(batch))
        if said[0] == b"conflict":
            partition = said[1].decode()
            raise Conflict(partition, batch.offsets[partition][0], int(said[2]))
        if said[0] == b"fenced" and batch.fence:
            raise Fenced(batch.fence.name, batch.fence.token)

    def erase(self, owner: str) -> int:
        return self._link.script("erase", self.prefix, self.id, owner, *USER_KINDS)

    def acquire(self, name: str, owner: str, ttl_s: float) -> Lease | None:
        token: int = self._link.script("lease", self.prefix, name, "acquire", owner, _ms(ttl_s))
        return Lease(name, owner, token) if token else None

    def renew(self, lease: Lease, ttl_s: float) -> bool:
        return bool(self._link.script("lease", self.prefix, lease.name, "renew", lease.token, _ms(ttl_s)))

    def release(self, lease: Lease) -> None:
        self._link.script("lease", self.prefix, lease.name, "release", lease.token)

    def watch(self, kinds: Sequence[Kind]) -> Watcher:
        return RedisWatcher(self._link, self.prefix, self.id, kinds)

    def sweep(self) -> int:
        """Redis expires by itself."""
        return 0

    def scrub(self) -> None:
        """Has the server write its files anew, in the background; ``StoreDown`` while it is doing so already."""
        persistent: dict[str, Any] = self._link.run("INFO", "persistence")
        self._link.run("BGREWRITEAOF" if persistent["aof_enabled"] else "BGSAVE")

    def stats(self) -> dict[str, int]:
        return {"bytes": self._link.run("INFO", "memory")["used_memory"], "keys": self._link.run("DBSIZE")}

    def healthy(self) -> bool:
        try:
            return bool(self._link.run("PING"))
        except StoreDown:
            return False

    def close(self) -> None:
        self._link.close()

    def _keys(self, kind: Kind, facet: str, ids: Sequence[str]) -> list[str]:
        base = f"{self.prefix}{kind}:{facet}:"
        return [base + id for id in ids]

    def _indexed(self, kind: Kind, facet: str, after: str, limit: int) -> tuple[str, list[tuple[str, Any]]]:
        last, flat = self._link.script("scan", self.prefix, kind, facet, after, limit)
        return last.decode(), [(id.decode(), value) for id, value in zip(flat[::2], flat[1::2], strict=True)]

    def _some(self, kind: Kind, facet: str, after: str, limit: int) -> tuple[list[str], str]:
        """Ids of a kind that is most of the key space, so that SCAN meets little else."""
        base = f"{self.prefix}{kind}:{facet}:"
        cursor, keys = self._link.run("SCAN", after or "0", "MATCH", f"{base}*", "COUNT", limit)
        return [key.decode().removeprefix(base) for key in keys], str(cursor) if cursor else ""


def _body(record: bytes) -> bytes:
    return record[1 + record[0] :]


def _counters(flat: list[bytes]) -> dict[str, int]:
    return {name.decode(): int(value) for name, value in zip(flat[::2], flat[1::2], strict=True)}


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1_000))
