"""A user's last steps in the order of their time, so that what comes in late counts as if it had come in time.

A worker gets a user's slates and clicks by several partitions and from several servers, and after an outage some come
in long after newer ones. Order makes the mind. So beside each record it keeps the record as it was a while ago and the
steps since then: a step that comes in late is put where it belongs, and from there on all is folded again. Five minutes
back that gives the record, byte for byte, that the same steps in order of time would have given; a step that comes in
later still counts as the first of those that are kept.
"""

from __future__ import annotations

from bisect import insort_right
from collections.abc import Callable, Iterator

import msgspec

from upwell.service import records
from upwell.service.steps import SLATE, Step
from upwell.service.tables import Users

VERSION = 1
KEPT_MS = 300_000
"""How far back a late step is put where it belongs, by the time of the user's newest one; up to twice that is kept."""
MOST = 512
"""Steps kept of a user. The last half of them is never given up, the rest is where they are more than that in
``KEPT_MS``."""


Shown = tuple[str, Step]
"""To whom, and the slate."""


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
    """Trails of the users in memory who were here lately. Records are what all steps come to after ``settle``."""

    def __init__(self, users: Users, play: Callable[[str, Step], None], show: Callable[[list[Shown]], None]) -> None:
        """``play`` changes a user's record by a step, ``show`` records of different users by a slate each."""
        self._users, self._play, self._show = users, play, show
        self._of: dict[str, Trail] = {}
        self._coming: dict[str, list[Step]] = {}  # not played yet, in their order
        self._stale = set[str]()  # of whom a step came in late: all of the trail is played again

    def add(self, user: str, step: Step) -> None:
        """One more step of a user, late or in time. It is played by ``settle``."""
        trail = self._of.get(user)
        if trail is None:
            row = self._users.rows.at.get(user)
            trail = self._of[user] = Trail(None if row is None else self._users.record[row].tobytes())
        coming = self._coming.setdefault(user, [])
        if trail.steps and step.order < trail.steps[-1].order:
            coming = self._again(user, trail)
        if coming and step.order < coming[-1].order:
            insort_right(coming, step, key=lambda one: one.order)
        else:
            coming.append(step)

    def sooner(self, user: str, click: Step) -> None:
        """A click was told of; where it is known already, the first that tells of it is the one that counts."""
        trail = self._of.get(user)
        if trail is None:
            return
        for steps in (trail.steps, self._coming.get(user, [])):
            found = next((step for step in steps if step[1:4] == click[1:4]), None)
            if found is None:
                continue
            if click.at_ms < found.at_ms:
                (self._again(user, trail) if steps is trail.steps else steps).remove(found)
                self.add(user, click)
            return

    def _again(self, user: str, trail: Trail) -> list[Step]:
        """Let all that was played come once more; returns it with what comes anyway."""
        coming = self._coming[user] = [*trail.steps, *self._coming.get(user, [])]
        trail.steps, trail.later = [], None
        self._stale.add(user)
        return coming

    def lacking(self) -> Iterator[str]:
        """Slates that ``settle`` will ask for, and whose contents are not known here."""
        for user in self._stale:
            yield from (step.key for step in self._coming[user] if step.kind == SLATE and step.ids is None)

    def settle(self) -> None:
        """Play what has come, from where each trail begins for who got something late."""
        for user in self._stale:
            base = self._of[user].base
            if base is None:
                self._users.forget(user)
            else:
                self._users.put(user, records.read_user(base))
        coming, self._coming = self._coming, {}
        self._stale.clear()
        left = {user: iter(steps) for user, steps in coming.items()}
        while left:  # in each round up to a slate of every user, so that all of these are one step of arrays
            slates: list[Shown] = []
            for user, steps in list(left.items()):
                for step in steps:
                    self._keep(user, step)
                    if step.kind == SLATE:
                        slates.append((user, step))
                        break
                    self._play(user, step)
                else:
                    del left[user]
            if slates:
                self._show(slates)

    def _keep(self, user: str, step: Step) -> None:
        """A step that is about to be played goes to the trail; the oldest are given up where they are too old or too
        many."""
        trail = self._of[user]
        steps = trail.steps
        if trail.later is None and steps and self._enough(steps, 0, step):
            trail.later = len(steps), self._now(user)
        while trail.later is not None and self._enough(steps, trail.later[0], step):
            count, trail.base = trail.later
            del steps[:count]
            trail.later = (len(steps), self._now(user)) if steps else None
        steps.append(step)

    def _enough(self, steps: list[Step], first: int, newest: Step) -> bool:
        """Whether those from ``first`` on are as many as must be kept, or all before it too old to be of use."""
        return len(steps) - first >= MOST // 2 or newest.at_ms - steps[max(first - 1, 0)].at_ms > KEPT_MS

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
        self._coming.pop(user, None)
        self._stale.discard(user)

    def sweep(self, now_ms: int) -> None:
        """Give up trails of users who have not been here for so long that nothing of before can come in any more."""
        gone = [user for user, trail in self._of.items() if now_ms - trail.steps[-1].at_ms > 2 * KEPT_MS]
        for user in gone:
            self.forget(user)
