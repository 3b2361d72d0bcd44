"""Who belongs to which arm: one salted hash for the holdout, experiments and the service.

Assignment has no state. It is a function of a unit's number, names as salts, and the experiment's definition, so that
every server and the world agree, and a restart changes nothing. A unit falls into a bucket of the layer, which an
experiment owns or none, and by another salt into a bucket of the experiment. There each arm has a lane as wide as its
``room``, of which it holds the first part, as wide as its ``share``:

    |a a a . . . . . . .|b b b b . . . . . .|        share .15 and .2, room .5 each; whoever falls on a dot is in no arm

A ramp moves the end of what an arm holds. Widened, others come in and nobody leaves or changes arms; narrowed, the
last ones in go first, into no arm, and come back with the next widening. An experiment's range of its layer may grow at
either end with as little harm. Whatever else changes (a room, the arms' order, a name) deals anew: that is another
experiment. Three arms that could grow into each other's place would take a memory of who came when.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from upwell.agents.xp import Array, Namespace, absorb, absorbed, hash_bits, hash_uniform, uniform
from upwell.errors import BadRequest
from upwell.regulator.layers import BUCKETS, Arm, Experiment, Layer, distinct
from upwell.regulator.targeting import UNKNOWN, Target, Traits, meets

HOLDOUT_SALT = 7_001
"""Of the permanent holdout: the same users whatever is tried."""

HELD_STATE = absorbed(HOLDOUT_SALT)

NONE = -1
"""No arm: the platform goes on as it does without experiments."""


def assign(xp: Namespace, unit: Array, salt: int) -> Array:
    """A uniform in (0, 1) for each integer unit id: the same id and salt always give the same number.

    Different salts give independent numbers. A unit is in a share ``p`` when its number is below ``p``.
    """
    return hash_uniform(xp, salt, unit)


def unit_id(name: str) -> int:
    """32-bit integer of a string id (BLAKE2b of its UTF-8 bytes), for ``assign``."""
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8"), digest_size=4).digest(), "little")


def below(share: float) -> int:
    """``assign(unit, salt) < share`` in integers: where ``absorb(absorbed(salt), unit)`` is below this number."""
    steps = range(1 << 24)
    return bisect_left(steps, np.float32(share), key=lambda n: uniform(np, np.uint32(n << 8))) << 8


class Table:
    """A layer, ready to be asked who is in which of its ``arms``: codes are places in that tuple, or ``NONE``.

    ``arms_of`` answers for arrays, ``arm_of`` for one request: the same answers, from the same tables. Neither gives an
    arm to a user of the holdout.
    """

    def __init__(self, layer: Layer, holdout: float) -> None:
        """``holdout``: share of users who are in no experiment."""
        every = layer.experiments
        self.arms: tuple[tuple[Experiment, Arm], ...] = tuple((one, arm) for one in every for arm in one.arms)
        self._name, self._holdout, self._salt = layer.name, holdout, unit_id(f"layer:{layer.name}")
        self._clustered = any(one.design == "co_diverted" for one in every)
        # By bucket of the layer, its experiment; by experiment and its bucket, the arm. The last row is nobody's.
        self._owner = np.full(BUCKETS, NONE, np.int16)
        self._codes = np.full((len(every) + 1, BUCKETS), NONE, np.int16)
        self._salts = np.asarray([*(unit_id(f"experiment:{one.name}") for one in every), 0], np.uint32)
        self._slots = np.asarray([*(one.slot_s for one in every), 0], np.uint32)
        self._targets: list[tuple[range, tuple[Target, ...]]] = []  # with the codes of the experiment's arms
        code = 0
        for n, one in enumerate(every):
            self._owner[slice(*one.buckets)] = n
            self._targets.append((range(code, code + len(one.arms)), one.targets))
            for lane, width in zip(one.lanes, one.widths, strict=False):
                self._codes[n, lane : lane + width] = code
                code += 1
        # The same for ``arm_of``: Python reads lists three times as fast as arrays.
        self._limit, self._state = below(holdout), absorbed(self._salt)
        self._owners, self._rows, self._slot_s = self._owner.tolist(), self._codes.tolist(), self._slots.tolist()
        self._states = [absorbed(salt) for salt in self._salts.tolist()]
        self._wants = [one.targets for one, _ in self.arms]

    def arms_of(
        self, xp: Namespace, user: Array, at_s: Array = 0, clusters: tuple[Array, Array] | None = None,
        traits: Traits = UNKNOWN,
    ) -> Array:  # fmt: skip
        """Which arm decides for each user, content and time.

        Args:
            user: integer ids, of which the last 32 bits count; these, what follows and the attributes broadcast.
            at_s: whole Unix seconds below 2^32; for switchbacks.
            clusters: of the user and of the content, integer ids; for co-diverted experiments.
            traits: what targets ask about.

        Returns:
            codes, int16 of the broadcast shape.

        Raises:
            BadRequest: clusters are needed and not given.
        """
        mine, theirs = self._units(user, clusters)
        arm = self._dealt(xp, mine, at_s)
        if self._clustered:
            arm = xp.where(self._dealt(xp, theirs, at_s) == arm, arm, NONE)
        for codes, targets in self._targets:
            if targets:
                others = (arm < codes.start) | (arm >= codes.stop)
                arm = xp.where(others | meets(targets, traits), arm, NONE)
        return xp.where(assign(xp, user, HOLDOUT_SALT) < self._holdout, NONE, arm)

    def arm_of(
        self, user: int, at_s: int = 0, clusters: tuple[int, int] | None = None, traits: Traits = UNKNOWN
    ) -> int:
        """``arms_of`` for one user, content and time, in Python's integers."""
        if absorb(HELD_STATE, user) < self._limit:
            return NONE
        mine, theirs = self._units(user, clusters)
        arm = self._dealt_one(mine, at_s)
        if arm == NONE or (self._clustered and self._dealt_one(theirs, at_s) != arm):
            return NONE
        targets = self._wants[arm]
        return arm if not targets or meets(targets, traits) else NONE

    def _units(self, user: Array, clusters: tuple[Array, Array] | None) -> tuple[Array, Array]:
        if not self._clustered:
            return user, user
        if clusters is None:
            raise BadRequest(f"layer {self._name}: its experiments split clusters, and none are given")
        return clusters

    def _dealt(self, xp: Namespace, unit: Array, at_s: Array) -> Array:
        """Codes by a unit's number (a slot's, where an experiment has slots), whatever its targets."""
        owner = xp.asarray(self._owner)[hash_bits(xp, self._salt, unit) % xp.uint32(BUCKETS)]
        if self._slots.any():
            slot_s = xp.asarray(self._slots)[owner]
            slot = xp.asarray(at_s, dtype=xp.uint32) // xp.maximum(slot_s, xp.uint32(1))
            unit = xp.where(slot_s > 0, slot, xp.asarray(unit).astype(xp.uint32))
        bucket = hash_bits(xp, xp.asarray(self._salts)[owner], unit) % xp.uint32(BUCKETS)
        return xp.asarray(self._codes)[owner, bucket]

    def _dealt_one(self, unit: int, at_s: int) -> int:
        owner = self._owners[absorb(self._state, unit) % BUCKETS]
        if owner == NONE:
            return NONE
        slot_s = self._slot_s[owner]
        return self._rows[owner][absorb(self._states[owner], at_s // slot_s if slot_s else unit) % BUCKETS]


class Reach(NamedTuple):
    """Contents that the users of a co-diverted arm are shown: those that are dealt to it."""

    table: Table  # nobody held out of it: contents are not
    code: int

    def has(self, units: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
        """Whether contents are among them, by their ``unit_id``."""
        return self.table.arms_of(np, units, 0, (units, units)) == self.code


def tables(layers: Iterable[Layer], holdout: float) -> tuple[Table, ...]:
    """One table a layer. Raises BadRequest for a layer's or an experiment's name that comes twice."""
    layers = tuple(layers)
    distinct("layer", (layer.name for layer in layers))
    distinct("experiment", (one.name for layer in layers for one in layer.experiments))
    return tuple(Table(layer, holdout) for layer in layers)
