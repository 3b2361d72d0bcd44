"""Who decides for whom while experiments run: what a process goes by, read again when the record has changed."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from upwell.agents import network
from upwell.errors import BadRequest
from upwell.model import Weights
from upwell.regulator.assignment import NONE, Reach, Table, tables, unit_id
from upwell.regulator.designs import washes_out
from upwell.regulator.layers import Arm, Experiment
from upwell.regulator.targeting import Traits
from upwell.service import experiments, learned, versions, wire
from upwell.service.experiments import NO_GUARDS, Experiments, Guards, Held
from upwell.service.learned import Learned
from upwell.service.settings import Settings
from upwell.state.port import Store

log = logging.getLogger(__name__)


class Signed(NamedTuple):
    """Weights, and what decisions under them are signed with."""

    version: str
    weights: Weights


class Play(NamedTuple):
    """How an arm's users are decided for; the defaults are as without an experiment."""

    mode: str = ""
    learned: Learned | None = None
    exploration: float = 1.0
    heating: bool = True
    purse: str = ""  # what they are heated from: see ``Split``
    reach: Reach | None = None  # None: all contents
    weights: Signed | None = None  # None: those in force
    guards: Guards = NO_GUARDS

    def guarded(self, settings: Settings) -> Settings:
        """The service's settings with the arm's guards."""
        if self.guards == NO_GUARDS:
            return settings
        given = msgspec.structs.asdict(self.guards)
        return settings.model_copy(update={name: value for name, value in given.items() if value is not None})


AS_IS = Play()


NOTHING: Mapping[str, Any] = {}


class Split(NamedTuple):
    """The experiment whose arms have money of their own, as it runs now.

    Each arm has a *purse*: of the pool and of each content's account what its share is, as of users; co-diverted, the
    whole accounts of contents that are dealt to it. Who is in no arm has the rest. ``stage``: see ``Held``. ``plays``:
    by arm, each with its purse's name.
    """

    experiment: Experiment
    stage: int
    plays: tuple[Play, ...]


class Part(NamedTuple):
    """Requests that are decided alike: their places in the batch, and what they were exposed to each."""

    play: Play
    at: list[int]
    exposures: list[tuple[wire.Exposure, ...]]


class Arms:
    """The experiments that run, ready to be asked."""

    def __init__(self, store: Store, base: Learned | None, holdout: float) -> None:
        """``base``: the settings' policy; None: the rules, of which there are no versions."""
        self.store, self.base, self.holdout = store, base, holdout
        self._number = -1
        self._tables: tuple[Table, ...] = ()
        self._plays: dict[tuple[str, str], Play] = {}
        self._held: dict[str, Held] = {}
        self.targeted = False  # whether any experiment asks for attributes of users
        self.split: Split | None = None

    def look(self, offsets: dict[str, int]) -> bool:
        """Hear of changes; whether there were any. ``offsets``: the store's. Raises StoreDown."""
        number = offsets.get(experiments.OFFSET, 0)
        if number == self._number:
            return False
        self._number, found = experiments.read(self.store)
        self._take(found)
        return True

    def _take(self, found: Experiments) -> None:
        made = tables(found.layers(), self.holdout)
        reaches = {
            (experiment.name, arm.name): Reach(table, code)
            for table in tables(found.layers(), 0.0)
            for code, (experiment, arm) in enumerate(table.arms)
            if experiment.design == "co_diverted"
        }
        self._plays = {
            (one.name, arm.name): AS_IS
            if one.warming
            else self._play(one.plan.experiment, arm, reaches.get((one.name, arm.name)))
            for one in found.running
            for arm in one.plan.experiment.arms
        }
        acting = (one for one in found.running if not one.warming)
        self.split = next((self._split(one) for one in acting if one.plan.experiment.splits_money), None)
        self._held = {one.name: one for one in found.running}
        self._tables = made
        self.targeted = any(one.plan.experiment.targets for one in found.running)

    def _split(self, held: Held) -> Split:
        experiment = held.plan.experiment
        return Split(experiment, held.stage, tuple(self._plays[held.name, arm.name] for arm in experiment.arms))

    def _play(self, experiment: Experiment, arm: Arm, reach: Reach | None) -> Play:
        given, found = experiments.treatment_of(arm), None
        mode = given.mode
        if given.policy is not None:
            try:
                found, mode = self._learned(given.policy), "policy"
            except BadRequest as error:
                log.error("experiment %s, arm %s: %s; it decides as without it", experiment.name, arm.name, error)
        own = f"{experiment.name}/{arm.name}"
        weights = Signed(own, given.weights) if given.weights is not None else None
        purse = own if experiment.splits_money else ""
        return Play(mode, found, given.exploration, given.heating, purse, reach, weights, given.guards)

    def _learned(self, version: str) -> Learned:
        """A version that the store has, or a policy that is shipped: by name, never by path."""
        if version in network.shipped_names():
            found = learned.load(version)
            assert found is not None
            return found
        if self.base is None:
            raise BadRequest("the agents play by their rules: there are no versions of a policy")
        return versions.learned_of(self.store, self.base, version)

    @property
    def any(self) -> bool:
        return bool(self._tables)

    def parts(
        self, users: Sequence[str], visited_ms: Sequence[int], known: Sequence[Mapping[str, Any]], now_ms: int
    ) -> list[Part]:
        """A batch in parts that are decided alike.

        Args:
            users, visited_ms: who asks ``[B]``, and when they were last shown a slate, Unix ms.
            known: their attributes, where there are targets (``targeted``).
        """
        found: dict[tuple[object, ...], Part] = {}
        for i, (user, last_ms, its) in enumerate(zip(users, visited_ms, known, strict=True)):
            play, exposures = self.of(user, last_ms, now_ms, its)
            part = found.setdefault((*play[:1], id(play.learned), *play[2:]), Part(play, [], []))
            part.at.append(i)
            part.exposures.append(exposures)
        return list(found.values())

    def of(
        self, user: str, visited_ms: int, now_ms: int, known: Mapping[str, Any] = NOTHING
    ) -> tuple[Play, tuple[wire.Exposure, ...]]:
        """How a user is decided for, and what that exposes them to. Layers set different things (``begin``)."""
        unit, play, exposures = unit_id(user), AS_IS, list[wire.Exposure]()
        for table in self._tables:
            code = table.arm_of(unit, now_ms // 1_000, (unit, unit), Traits(known))
            if code == NONE:
                continue
            experiment, arm = table.arms[code]
            own = self._plays[experiment.name, arm.name]
            play = Play(
                own.mode or play.mode, own.learned or play.learned, own.exploration * play.exploration,
                own.heating and play.heating, own.purse or play.purse, own.reach or play.reach,
                own.weights or play.weights, own.guards if own.guards != NO_GUARDS else play.guards,
            )  # fmt: skip
            held = self._held[experiment.name]
            if not washes_out(experiment, now_ms // 1_000):
                first = visited_ms < held.since_ms
                exposures.append(wire.Exposure(experiment.name, held.stage, arm.name, first))
        return play, tuple(exposures)


def dealt(
    found: Experiments, name: str, holdout: float, users: Sequence[str], known: Sequence[Mapping[str, Any]], now_ms: int
) -> list[str | None]:
    """The arm of an experiment that decides for each user now; None where none does, as while it warms up.

    ``known``: their attributes, for targets.
    """
    for table in tables(found.layers(), holdout) if not found.of(name).warming else ():
        if any(experiment.name == name for experiment, _ in table.arms):
            units, at_s = map(unit_id, users), now_ms // 1_000
            codes = [table.arm_of(unit, at_s, (unit, unit), Traits(of)) for unit, of in zip(units, known, strict=True)]
            found_in = [None if code == NONE else table.arms[code] for code in codes]
            return [one[1].name if one is not None and one[0].name == name else None for one in found_in]
    return [None] * len(users)  # it is over, or warms up
