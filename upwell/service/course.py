"""The record of goals in the store, and what a process goes by.

Changed by comparison, so that operators, the proposer, the guard and the clock do not undo what another did; each
change stands in the audit log by the same write.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import msgspec

from upwell.model import Weights
from upwell.service import audit, compared
from upwell.service.goals import Goals, InForce, first, weights_of
from upwell.state.batch import Batch
from upwell.state.port import Store

ID = OFFSET = "goals"
"""Of the record (kind ``meta``), and of the offset that counts its changes."""
encoder = msgspec.msgpack.Encoder()  # and not JSON, which knows no infinity: intervals of one platform are infinite
decoder = msgspec.msgpack.Decoder(Goals)


def read(store: Store, base: Weights) -> tuple[int, Goals]:
    """The record as it is, and the number of its last change. Raises StoreDown.

    ``base``: the settings' weights. Where these are others than before, they hold as soon as no goal is in force.
    """
    number = store.offsets().get(OFFSET, 0)  # first: what is newer than its number is not written over
    (body,) = store.get("meta", [ID])
    goals = decoder.decode(body) if body is not None else first(base)
    goals.base = base
    if not goals.force and goals.now.weights != base:
        goals.versions.append(InForce(goals.now.number + 1, base))
    return number, goals


def put(batch: Batch, number: int, goals: Goals) -> None:
    """Add a change of the record, and what the audit log says of it, to a batch.

    Writing it raises Conflict where the record has changed since ``number``.
    """
    goals.forget()
    told, goals.told = goals.told, []
    batch.put("meta", ID, encoder.encode(goals))
    audit.tell(batch, *told)
    batch.advance(OFFSET, number, number + 1)


class Course:
    """What a process goes by, read again when the record has changed; and by the clock in between."""

    def __init__(self, store: Store, weights: tuple[float, float, float]) -> None:
        """``weights``: the settings'."""
        self.store, self.base = store, weights_of(weights)
        self._number, self._goals = -1, first(self.base)
        self._looking = threading.Lock()  # of two at a time, the slower must not go back to what it read first

    def look(self, offsets: dict[str, int], now_ms: int) -> None:
        """Hear of changes, and write down what began or ended by the clock. ``offsets``: the store's.

        Raises StoreDown.
        """
        with self._looking:
            if offsets.get(OFFSET, 0) != self._number:
                self._number, self._goals = read(self.store, self.base)
            if self._goals.due(now_ms):
                self._number, self._goals = self._write(lambda goals: None, now_ms)

    def here(self, now_ms: int) -> InForce:
        """What holds by now, as far as this process has heard."""
        return self.goals(now_ms).now

    def goals(self, now_ms: int) -> Goals:
        """All of it, as far as this process has heard."""
        return self._goals.at(now_ms)

    def read(self, now_ms: int) -> Goals:
        """All of it as the store has it. Raises StoreDown."""
        return read(self.store, self.base)[1].at(now_ms)

    def change(self, change: Callable[[Goals], object], now_ms: int) -> Goals:
        """Change goals. Raises StoreDown, what ``change`` raises, and Refused 409."""
        return self._write(change, now_ms)[1]

    def _write(self, change: Callable[[Goals], object], now_ms: int) -> tuple[int, Goals]:
        def attempt(batch: Batch) -> tuple[int, Goals]:
            number, goals = read(self.store, self.base)
            goals.settle(now_ms)
            change(goals)
            if not goals.told:  # another was faster
                return number, goals
            put(batch, number, goals)
            return number + 1, goals

        return compared.change(self.store, attempt, "goals")
