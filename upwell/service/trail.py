"""A user's last steps in the order of their time, so that what comes in late counts as if it had come in time.

A worker gets a user's slates and clicks by several partitions and from several servers, and after an outage some come
in long after newer ones. Order makes the mind. So beside each record it keeps the record as it was a while ago and the
steps since then: a step that comes in late is put where it belongs, and from there on all is folded again. Two minutes
back that gives the record, byte for byte, that the same steps in order of time would have given; a step that comes in
later still counts as the first of those that are kept.
"""

from __future__ import annotations

from bisect import insort_right
from collections.abc import Callable, Iterator

import msgspec

from upwell.service import records
from upwell.service.steps import CLICK, SLATE, Step
from upwell.service.tables import Users

VERSION = 1
KEPT_MS = 120_000
"""How far back a late step is put where it belongs, by the time of the user's newest one; up to twice that is kept."""
MOST = 256
"""Steps kept of a user. The last half of them is never given up, the rest is where they are more than that in
``KEPT_MS``."""


class Trail:
    """``base``: the record before the first of ``steps``; None: there was none. ``later``: how many of the steps come
    before it, and the record then: the next base."""

    __slots__ = ("base", "later", "steps")

    def __init__(self, base: bytes | None) -> None:
        self.base = base
        self.steps: list[Step] = []
        self.later: tuple[int, bytes] | None = None


class Kept(msgspec.Struct, array_like=True):
    """A trail as it is stored."""

    version: int
    base: bytes | None
    steps: list[tuple[int, int, str, str, float]]
    count: int = 0
    later: bytes = b""


encoder = msgspec.msgpack.Encoder()
decoder = msgspec.msgpack.Decoder(Kept)


class Trails:
    """Trails of the users in memory who were here lately. Records are brought up to date by ``settle``."""

    def __init__(self, users: Users, play: Callable[[str, Step], None]) -> None:
        """``play`` changes a user's record by a step."""
        self._users, self._play = users, play
        self._of: dict[str, Trail] = {}
        self._stale = set[str]()  # of whom a step came in late: the record is not what the steps come to

    def add(self, user: str, step: Step) -> None:
        """One more step of a user, late or in time."""
        trail = self._of.get(user)
        if trail is None:
            trail = self._of[user] = Trail(self._record(user))
        if user in self._stale or (trail.steps and step.order < trail.steps[-1].order):
            self._insert(user, trail, step)
        else:
            self._append(user, trail, step)

    def sooner(self, user: str, key: str, content: str, at_ms: int) -> None:
        """A click that is known was told of again: it is as old as the first that tells of it."""
        trail = self._of.get(user)
        if trail is None:
            return
        for i, step in enumerate(trail.steps):
            if step.kind >= CLICK and (step.key, step.content) == (key, content):
                if at_ms < step.at_ms:
                    del trail.steps[i]
                    self._insert(user, trail, step._replace(at_ms=at_ms))
                return

    def _insert(self, user: str, trail: Trail, step: Step) -> None:
        insort_right(trail.steps, step, key=lambda one: one.order)
        self._stale.add(user)

    def _append(self, user: str, trail: Trail, step: Step) -> None:
        """The newest step: played, and the oldest are given up where they are too old or too many."""
        steps = trail.steps
        if trail.later is None and steps and self._enough(steps, 0, step):
            trail.later = len(steps), self._now(user)
        while trail.later is not None and self._enough(steps, trail.later[0], step):
            count, trail.base = trail.later
            del steps[:count]
            trail.later = (len(steps), self._now(user)) if steps else None
        steps.append(step)
        self._play(user, step)

    def _enough(self, steps: list[Step], first: int, newest: Step) -> bool:
        """Whether those from ``first`` on are as many as must be kept, or all before it too old to be of use."""
        return len(steps) - first >= MOST // 2 or newest.at_ms - steps[max(first - 1, 0)].at_ms > KEPT_MS

    def lacking(self) -> Iterator[str]:
        """Slates that ``settle`` will ask for, and whose contents are not known here."""
        for user in self._stale:
            yield from (step.key for step in self._of[user].steps if step.kind == SLATE and step.ids is None)

    def settle(self) -> None:
        """Fold anew what came in late."""
        for user in self._stale:
            trail = self._of[user]
            steps, trail.steps, trail.later = trail.steps, [], None
            if trail.base is None:
                self._users.forget(user)
            else:
                self._users.put(user, records.read_user(trail.base))
            for step in steps:
                self._append(user, trail, step)
        self._stale.clear()

    def _record(self, user: str) -> bytes | None:
        row = self._users.rows.at.get(user)
        return None if row is None else self._users.record[row].tobytes()

    def _now(self, user: str) -> bytes:
        return self._users.record[self._users.rows.at[user]].tobytes()

    def load(self, user: str, body: bytes) -> None:
        """A trail from the store. Raises ValueError on one of a version that this one does not know."""
        kept = decoder.decode(body)
        if kept.version != VERSION:
            raise ValueError(f"trail of version {kept.version}: made by a newer Upwell")
        trail = self._of[user] = Trail(kept.base)
        trail.steps = [Step(*step) for step in kept.steps]
        trail.later = (kept.count, kept.later) if kept.count else None

    def stored(self, user: str) -> bytes | None:
        """A user's trail for the store; None where there is none."""
        trail = self._of.get(user)
        if trail is None:
            return None
        count, later = trail.later or (0, b"")
        return encoder.encode(Kept(VERSION, trail.base, [step[:5] for step in trail.steps], count, later))

    def forget(self, user: str) -> None:
        """Nothing is known of the user any more."""
        self._of.pop(user, None)
        self._stale.discard(user)

    def sweep(self, now_ms: int) -> None:
        """Give up trails of users who have not been here for so long that nothing of before can come in any more."""
        gone = [user for user, trail in self._of.items() if now_ms - trail.steps[-1].at_ms > 2 * KEPT_MS]
        for user in gone:
            self.forget(user)
