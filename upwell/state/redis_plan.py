"""A batch as arguments of ``lua/write.lua``."""

from __future__ import annotations

from typing import Any

import msgspec

from upwell.state.batch import BULK_KINDS, Batch, Kind

pack = msgspec.msgpack.Encoder().encode


def plan(batch: Batch) -> list[bytes]:
    """The plan in MessagePack, then the bodies in its order: Redis' MessagePack knows text, not bytes."""
    bodies: list[bytes] = []
    what = {
        "offsets": {p: (str(expected), str(next)) for p, (expected, next) in batch.offsets.items()},
        "fence": (batch.fence.name, str(batch.fence.token)) if batch.fence else None,
        "keep": str(batch.keep),
        "kinds": [_part(batch, kind, bodies) for kind in batch.kinds()],
    }
    return [pack(what), *bodies]


def _part(batch: Batch, kind: Kind, bodies: list[bytes]) -> dict[str, Any]:
    puts, appends = batch.puts.get(kind, {}), batch.appends.get(kind, {})
    owners, ttl = batch.owners.get(kind, {}), batch.ttl_s.get(kind)
    bodies += [_framed(body, owners.get(id, "")) for id, body in puts.items()]
    bodies += [entry for entries in appends.values() for entry in entries]
    return {
        "kind": kind,
        "indexed": kind not in BULK_KINDS,
        "ttl_ms": None if ttl is None else max(1, round(ttl * 1_000)),
        "deletes": batch.deletes.get(kind, ()),
        "puts": list(puts),
        "owners": owners,
        "adds": {id: {n: str(d) for n, d in deltas.items()} for id, deltas in batch.adds.get(kind, {}).items()},
        "appends": [(id, len(entries)) for id, entries in appends.items()],
    }


def _framed(body: bytes, owner: str) -> bytes:
    name = owner.encode()
    return bytes((len(name),)) + name + body
