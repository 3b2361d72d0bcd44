"""Versions of the policy: where each came from, who gets which, and what became of it.

One record in the store, changed by comparison, so that an operator and the learner do not undo what the other did;
networks stand beside it. The settings' own policy is the base. Where the settings name another one than the record
goes by, the record is void: who deploys a policy by hand wants that one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal, NamedTuple

import msgspec

from upwell.agents import network
from upwell.errors import BadRequest
from upwell.service import audit, compared
from upwell.service.audit import LEARNER, Who
from upwell.service.errors import Refused
from upwell.service.learned import Learned, Trial
from upwell.state.batch import Batch
from upwell.state.port import Store

log = logging.getLogger(__name__)

ID = OFFSET = "policies"
"""Of the record (kind ``meta``), and of the offset that counts its changes."""
KEPT = 100
"""Versions; of more, the oldest that nobody has are forgotten."""


class Event(msgspec.Struct, frozen=True):
    """What became of a version."""

    at_ms: int
    what: Literal["base", "gated_out", "on_trial", "widened", "live", "rolled_back", "replaced"]
    why: str = ""
    share: float = 0.0  # of users who get it from then on


class Version(msgspec.Struct):
    """A version and its life so far."""

    id: str
    parent: str
    history: list[Event]

    @property
    def state(self) -> str:
        return self.history[-1].what


class Policies(msgspec.Struct):
    """Who gets which version. Methods change it, and raise Refused where that cannot be."""

    base: str
    live: str
    before: list[str] = []  # live ones before it, oldest first: what a rollback goes back to
    trial: str = ""  # "": none
    share: float = 0.0  # of users, on trial
    stage: int = 0  # counts the shares that trials had: a new one, and tallies begin anew
    versions: list[Version] = []  # oldest first
    told: list[audit.Entry] = []  # of changes that are not written yet

    def of(self, id: str) -> Version:
        """A version. Raises Refused 404."""
        found = next((one for one in self.versions if one.id == id), None)
        if found is None:
            raise Refused(404, "not_found", f"no version '{id}'", "id")
        return found

    def gated_out(self, id: str, why: str, at_ms: int, who: Who = LEARNER) -> None:
        """A new version that no user gets."""
        self._new(id, Event(at_ms, "gated_out", why), who)

    def try_out(self, id: str, share: float, why: str, at_ms: int, who: Who = LEARNER) -> None:
        """A new version that some users get. Raises Refused 409 where one is on trial already."""
        if self.trial:
            raise Refused(409, "conflict", f"{self.trial} is on trial", "id")
        self._new(id, Event(at_ms, "on_trial", why, share), who)
        self.trial, self.share, self.stage = id, share, self.stage + 1

    def widen(self, share: float, why: str, at_ms: int, who: Who = LEARNER) -> None:
        """More users get the version on trial; with all of them it is the live one. Raises Refused 409."""
        version = self._on_trial()
        if share >= 1.0:
            self.activate(version.id, why, at_ms, who)
        else:
            self._note(version, Event(at_ms, "widened", why, share), who)
            self.share, self.stage = share, self.stage + 1

    def roll_back(self, why: str, at_ms: int, who: Who = LEARNER) -> str:
        """End the trial, or else go back to the version that was live before. Returns who lost its users.

        Raises Refused 409 where there is nothing to go back to.
        """
        if self.trial:
            gone = self._on_trial()
            self.trial, self.share, self.stage = "", 0.0, self.stage + 1
        elif self.before:
            gone, back = self.of(self.live), self.of(self.before.pop())
            self.live, self.stage = back.id, self.stage + 1
            self._note(back, Event(at_ms, "live", f"in place of {gone.id}", 1.0), who)
        else:
            raise Refused(409, "conflict", "no version was live before this one")
        self._note(gone, Event(at_ms, "rolled_back", why), who)
        return gone.id

    def activate(self, id: str, why: str, at_ms: int, who: Who = LEARNER) -> None:
        """All users get a version from now on; a trial of another ends. Raises Refused 404."""
        version = self.of(id)
        if id == self.live:
            return
        if self.trial and self.trial != id:
            self._note(self.of(self.trial), Event(at_ms, "rolled_back", f"{id} was made live meanwhile"), who)
        self._note(self.of(self.live), Event(at_ms, "replaced", f"by {id}"), who)
        self._note(version, Event(at_ms, "live", why, 1.0), who)
        self.before = [one for one in self.before if one != id] + [self.live]
        self.live, self.trial, self.share, self.stage = id, "", 0.0, self.stage + 1

    def _new(self, id: str, event: Event, who: Who) -> None:
        self.versions.append(Version(id, self.live, []))
        self._note(self.versions[-1], event, who)

    def _note(self, version: Version, event: Event, who: Who) -> None:
        version.history.append(event)
        detail = {"share": event.share} if event.share else {}
        told = audit.Entry(event.at_ms, who.key, f"policy_{event.what}", version.id, who.name, event.why, detail)
        self.told.append(told)

    def _on_trial(self) -> Version:
        if not self.trial:
            raise Refused(409, "conflict", "no version is on trial")
        return self.of(self.trial)

    def forget(self) -> list[str]:
        """Drop the oldest beyond ``KEPT`` that nobody has or may go back to; returns which."""
        kept = {self.base, self.live, self.trial, *self.before[-KEPT // 4 :]}
        over = [one.id for one in self.versions if one.id not in kept][: max(len(self.versions) - KEPT, 0)]
        self.versions = [one for one in self.versions if one.id not in over]
        self.before = [one for one in self.before if one not in over]
        return over


def first(base: str, at_ms: int) -> Policies:
    """Before anything was learned."""
    return Policies(base, base, versions=[Version(base, "", [Event(at_ms, "base", "named by the settings", 1.0)])])


decoder = msgspec.json.Decoder(Policies)


def body_id(version: str) -> str:
    """Where a version's networks stand (kind ``meta``)."""
    return f"policy {version}"


def read(store: Store, base: str, now_ms: int) -> tuple[int, Policies]:
    """The record as it is, and the number of its last change. Raises StoreDown."""
    number = store.offsets().get(OFFSET, 0)  # first: what is newer than its number is not written over
    (body,) = store.get("meta", [ID])
    found = decoder.decode(body) if body is not None else None
    return number, found if found is not None and found.base == base else first(base, now_ms)


def learned_of(store: Store, base: Learned, id: str) -> Learned:
    """The networks of a version. Raises StoreDown, and BadRequest where the store has none that can be played here."""
    if id == base.version:
        return base
    (body,) = store.get("meta", [body_id(id)])
    if body is None:
        raise BadRequest(f"{id}: its networks are not in the store")
    return Learned(network.unpack_policy(body, id), id)


def put(batch: Batch, number: int, policies: Policies, networks: dict[str, bytes]) -> None:
    """Add a change of the record, and what the audit log says of it, to a batch.

    ``networks``: of versions that are new, as ``pack_policy`` packs them.

    Writing it raises Conflict where the record has changed since ``number``.
    """
    batch.delete("meta", *(body_id(id) for id in policies.forget()))
    told, policies.told = policies.told, []
    batch.put("meta", ID, msgspec.json.encode(policies))
    audit.tell(batch, *told)
    for id, body in networks.items():
        batch.put("meta", body_id(id), body)
    batch.advance(OFFSET, number, number + 1)


class Chosen(NamedTuple):
    """Who decides: for all users, and for those who get the version on trial."""

    live: Learned
    trial: Trial | None


class Versions:
    """What a process goes by, read again when the record has changed."""

    def __init__(self, store: Store, base: Learned | None) -> None:
        """``base``: the settings' policy; None: the rules, of which there are no versions."""
        self.store, self.base = store, base
        self._number = -1

    def look(self, offsets: dict[str, int]) -> Chosen | None:
        """Who decides from now on; None where nothing has changed. ``offsets``: the store's. Raises StoreDown."""
        if self.base is None:
            return None
        number = offsets.get(OFFSET, 0)
        if number == self._number:
            return None
        _, policies = read(self.store, self.base.version, 0)
        try:
            live = learned_of(self.store, self.base, policies.live)
            trial = None
            if policies.trial:
                trial = Trial(learned_of(self.store, self.base, policies.trial), policies.share)
        except BadRequest as error:
            log.error("a version of the policy cannot be read: %s; what was played goes on", error)
            self._number = number
            return None
        self._number = number
        return Chosen(live, trial)

    def forget(self) -> None:
        """Tell all with the next look, changed or not."""
        self._number = -1

    def read(self, now_ms: int) -> Policies:
        """Who gets which version. Raises StoreDown, and Refused 409 where there are none."""
        return read(self.store, self._base, now_ms)[1]

    def change(self, change: Callable[[Policies], object], now_ms: int) -> Policies:
        """Change who gets which version. Raises StoreDown, what ``change`` raises, and Refused 409."""

        def attempt(batch: Batch) -> Policies:
            number, policies = read(self.store, self._base, now_ms)
            change(policies)
            put(batch, number, policies, {})
            return policies

        return compared.change(self.store, attempt, "versions")

    @property
    def _base(self) -> str:
        if self.base is None:
            raise Refused(409, "conflict", "the agents play by their rules: there are no versions of a policy")
        return self.base.version
