"""Who belongs to which arm: one salted hash for the holdout, experiments and the service."""

from __future__ import annotations

import hashlib

from upwell.agents.xp import Array, Namespace, hash_uniform


def assign(xp: Namespace, unit: Array, salt: int) -> Array:
    """A uniform in (0, 1) for each integer unit id: the same id and salt always give the same number.

    Different salts give independent numbers. A unit is in a share ``p`` when its number is below ``p``.
    """
    return hash_uniform(xp, salt, unit)


def unit_id(name: str) -> int:
    """32-bit integer of a string id (BLAKE2b of its UTF-8 bytes), for ``assign``."""
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8"), digest_size=4).digest(), "little")
