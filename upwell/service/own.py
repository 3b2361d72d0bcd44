"""Factors of users' own on their dials, which the learner finds (``online.adaptation``), as servers hear of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from upwell.agents.user import CORRECTIONS, UserDials
from upwell.service.tables import Floats, Users
from upwell.state.batch import KEEP, Batch, Kind
from upwell.state.port import Store

KIND: Kind = "own"
BYTES = 4 * len(CORRECTIONS)
ID = OFFSET = "own"
"""Of the list of users whose factors changed (kind ``meta``), and of the offset that counts it."""


def told(batch: Batch, number: int, users: Sequence[str]) -> None:
    """Let servers hear that these users' factors are others. ``number``: of such tidings so far."""
    if users:
        batch.append("meta", ID, *(user.encode() for user in users))
        batch.advance(OFFSET, number, number + len(users))


class Heard:
    """Brings what has changed to users in memory."""

    def __init__(self, store: Store) -> None:
        self._store, self._number = store, 0

    def due(self, offsets: dict[str, int]) -> bool:
        """Whether anything has changed since the last look."""
        return offsets.get(OFFSET, 0) != self._number

    def look(self, offsets: dict[str, int], here: Iterable[str]) -> dict[str, bytes]:
        """Factors that have changed since the last look, of users who are ``here``. Raises StoreDown."""
        number = offsets.get(OFFSET, 0)
        new = number - self._number
        if not new:
            return {}
        # Of the list the latest are kept: with more than that, anybody's may be others.
        wanted = set(here)
        if new <= KEEP:
            wanted &= {name.decode() for name in self._store.tail("meta", ID, new)}
        found = read(self._store, sorted(wanted))
        self._number = number
        return found


def read(store: Store, users: Sequence[str]) -> dict[str, bytes]:
    """Factors that the store has. Raises StoreDown."""
    bodies = store.get(KIND, users) if users else []
    return {user: body for user, body in zip(users, bodies, strict=True) if body is not None}


def take(users: Users, found: dict[str, bytes]) -> None:
    """Go by these from the next request on. What is of another make is passed over: it is the learner's to renew."""
    for user, body in found.items():
        row = users.rows.at.get(user)
        if row is None or len(body) != BYTES:
            continue
        factors = np.frombuffer(body, np.float32)
        if np.isfinite(factors).all():
            users.own[row] = factors


def turned(dials: UserDials, factors: Floats) -> UserDials:
    """Dials of users ``[B]`` with their own factors f32 ``[B, 7]``."""
    if (factors == 1.0).all():
        return dials
    return dials._replace(**{name: getattr(dials, name) * factors[:, i] for i, name in enumerate(CORRECTIONS)})
