"""Goals of the running service: what was asked for, proposed, approved, and which weights hold.

Weights of one goal hold at a time: the latest that came in force. It covers those before it, and when it is lifted,
expires or is rolled back, the one beneath holds again; beneath all are the settings' own weights.
"""

from __future__ import annotations

import copy
import math
from typing import Any, Literal

import msgspec
import numpy as np

from upwell.goals.goal import Effect, Goal, Proposal
from upwell.goals.weights import shares
from upwell.model import Weights
from upwell.service import audit
from upwell.service.audit import AUTOMATIC, CLOCK, Who
from upwell.service.errors import Refused

KEPT = 50
"""Goals, of more the oldest that are over are forgotten; and at most so many are not over."""
EVENTS, VERSIONS, REJECTED = 100, 100, 50
SLACK = 1e-9  # shares are rounded
State = Literal[
    "asked", "proposing", "failed", "proposed", "waiting_for_key", "approved", "live", "covered",
    "lifted", "expired", "rolled_back", "refused",
]  # fmt: skip
OVER = ("lifted", "expired", "rolled_back", "refused")
OPEN = ("asked", "proposing", "failed", "proposed", "waiting_for_key")


class Event(msgspec.Struct, frozen=True):
    """What became of a goal."""

    at_ms: int
    what: State
    who: str
    name: str = ""
    why: str = ""


class InForce(msgspec.Struct, frozen=True):
    """Weights that hold, or held, since when. ``goal_id``: whose; "": the settings'."""

    number: int
    weights: Weights
    program: str = ""
    since_ms: int = 0
    goal_id: str = ""

    @property
    def version(self) -> str:
        """What decisions are signed with."""
        return f"{self.number}:{self.goal_id}" if self.goal_id else str(self.number)


class Held(msgspec.Struct):
    """A goal and its life so far."""

    goal: Goal
    history: list[Event] = []
    proposal: Proposal | None = None
    against: str = ""  # the version of the weights that held when it was proposed
    before: str = ""  # … before it came in force
    approvals: list[str] = []  # keys

    @property
    def state(self) -> State:
        return self.history[-1].what


class Goals(msgspec.Struct):
    """What is wanted and what holds. Methods change it, and raise Refused where that cannot be."""

    base: Weights  # the settings'
    versions: list[InForce]  # oldest first; the last one holds
    goals: list[Held] = []  # oldest first
    force: list[str] = []  # ids of those in force; the last one's weights hold
    told: list[audit.Entry] = []  # of changes that are not written yet

    @property
    def now(self) -> InForce:
        return self.versions[-1]

    def of(self, id: str) -> Held:
        """A goal. Raises Refused 404."""
        found = next((one for one in self.goals if one.goal.id == id), None)
        if found is None:
            raise Refused(404, "not_found", f"no goal '{id}'", "id")
        return found

    def moves(self, weights: Weights) -> float:
        """How far the share moves that moves most, from the weights that hold or from the settings', whichever is more:
        what one key may not do at once it may not do in steps either."""
        asked = shares_of(weights)
        return max(float(np.abs(asked - shares_of(one)).max()) for one in (self.now.weights, self.base))

    # ---- a goal's life

    def ask(self, goal: Goal, who: Who, at_ms: int) -> None:
        """A new goal, or one in other words. Raises Refused 409 where it is in force, or too many wait."""
        before = next((one for one in self.goals if one.goal.id == goal.id), None)
        if before is not None and before.state not in (*OPEN, *OVER):
            raise Refused(409, "conflict", f"{goal.id} is {before.state}: lift it first", "id")
        others = [one for one in self.goals if one is not before]
        if sum(one.state not in OVER for one in others) >= KEPT:
            raise Refused(409, "conflict", f"{KEPT} goals are not over: refuse or lift some first")
        held = Held(goal, before.history if before is not None else [])
        self.goals = [*others, held]
        self._note(held, "asked", who, at_ms, goal.text)

    def begin(self, goal: Goal, who: Who, at_ms: int) -> None:
        """A proposal is being looked for. Raises Refused where the goal is another by now."""
        held = self._in(goal.id, "asked")
        if held.goal != goal:
            raise Refused(409, "conflict", f"{goal.id} is another goal by now")
        self._note(held, "proposing", who, at_ms, "")

    def fail(self, id: str, why: str, who: Who, at_ms: int, found: Proposal | None = None) -> None:
        """No proposal was found. ``found``: the present weights, with what was tried and came to nothing. Raises
        Refused."""
        held = self._in(id, "proposing")
        held.proposal = found and bounded(found)
        self._note(held, "failed", who, at_ms, why, {} if found is None else said_of(found))

    def propose(self, proposal: Proposal, who: Who, at_ms: int, automatic: float = 0.0) -> None:
        """Weights for a goal; the latest proposal counts. Raises Refused.

        Args:
            automatic: most that a share may move without an operator's approval, where simulation showed that the
                proposal does what was asked, and it has no program.
        """
        held = self._in(proposal.goal_id, *OPEN)
        held.proposal, held.against, held.approvals = bounded(proposal), self.now.version, []
        if proposal.aims and not held.goal.aims:  # so that what it was proven against can be watched
            held.goal = msgspec.structs.replace(held.goal, aims=proposal.aims, bounds=proposal.bounds)
        moves = self.moves(proposal.weights)
        about = {"moves": round(moves, 4), "weights": proposal.weights, "program": proposal.program}
        about |= {"source": proposal.source, "meets": proposal.meets, "predicted": predicted_of(held)}
        self._note(held, "proposed", who, at_ms, f"by {proposal.source}", about | said_of(held.proposal))
        if proposal.meets and not proposal.program and 0.0 < automatic >= moves - SLACK:
            self._approved(held, AUTOMATIC, at_ms, f"moves a share by {moves:.3f}, at most {automatic:g}")

    def approve(self, id: str, why: str, who: Who, at_ms: int, large: float, keys: int) -> None:
        """Take a proposal. One that moves a share by more than ``large`` needs two of the ``keys`` that there are.

        Raises Refused.
        """
        held = self._in(id, "proposed", "waiting_for_key")
        assert held.proposal is not None
        moves = self.moves(held.proposal.weights)
        if moves > large + SLACK:
            far = f"a share moves by {moves:.2f}, more than {large:g}"
            if keys < 2:
                raise Refused(409, "needs_two_keys", f"{far}: set second_token and approve with both, or move less")
            if who.key in held.approvals:
                raise Refused(409, "needs_other_key", f"{far}: the other key must approve too")
            held.approvals.append(who.key)
            if len(held.approvals) < 2:
                self._note(held, "waiting_for_key", who, at_ms, why or far)
                return
        self._approved(held, who, at_ms, why)

    def refuse(self, id: str, why: str, who: Who, at_ms: int) -> None:
        """A goal that is not to come in force. Raises Refused."""
        self._end(self._in(id, *OPEN, "approved"), "refused", who, at_ms, why)

    def lift(self, id: str, why: str, who: Who, at_ms: int) -> None:
        """A goal that is wanted no more: the weights before it hold again. Raises Refused."""
        self._end(self._in(id, *OPEN, "approved", "live", "covered"), "lifted", who, at_ms, why)

    def roll_back(self, id: str, why: str, who: Who, at_ms: int, about: dict[str, Any]) -> None:
        """A goal whose weights did what they must not. Raises Refused where they hold no more."""
        self._end(self._in(id, "live"), "rolled_back", who, at_ms, why, about)

    # ---- time

    def due(self, now_ms: int) -> bool:
        """Whether something begins or ends by the clock."""
        return any(due_ms(one) <= now_ms for one in self.goals)

    def settle(self, now_ms: int) -> None:
        """What is due begins and what is over ends, in the order of time: the same record whoever settles it when."""
        while self.due(now_ms):
            held = min(self.goals, key=due_ms)
            at_ms = int(due_ms(held))
            if at_ms == held.goal.until_ms:
                self._end(held, "expired", CLOCK, at_ms, "its time is over")
            else:
                self._begin(held, CLOCK, at_ms, "its time has come")

    def at(self, now_ms: int) -> Goals:
        """As it is by now, with what is due settled."""
        if not self.due(now_ms):
            return self
        later = copy.deepcopy(self)
        later.settle(now_ms)
        return later

    def forget(self) -> None:
        """Drop the oldest beyond what is kept."""
        over = [one for one in self.goals if one.state in OVER][: max(len(self.goals) - KEPT, 0)]
        self.goals = [one for one in self.goals if one not in over]
        self.versions = self.versions[-VERSIONS:]

    # ---- steps that all of these share

    def _in(self, id: str, *states: State) -> Held:
        held = self.of(id)
        if held.state not in states:
            raise Refused(409, "conflict", f"goal '{id}' is {held.state}", "id")
        return held

    def _approved(self, held: Held, who: Who, at_ms: int, why: str) -> None:
        self._note(held, "approved", who, at_ms, why)
        if due_ms(held) <= at_ms:
            self._begin(held, who, at_ms, why)

    def _begin(self, held: Held, who: Who, at_ms: int, why: str) -> None:
        if self.force:
            self._note(self.of(self.force[-1]), "covered", who, at_ms, f"by {held.goal.id}")
        held.before = self.now.version
        self.force.append(held.goal.id)
        self._note(held, "live", who, at_ms, why, self._turn(at_ms))

    def _end(
        self, held: Held, what: State, who: Who, at_ms: int, why: str, about: dict[str, Any] | None = None
    ) -> None:
        id = held.goal.id
        held_now, self.force = self.force[-1:] == [id], [one for one in self.force if one != id]
        back = self._turn(at_ms) if held_now else {}
        self._note(held, what, who, at_ms, why, (about or {}) | back)
        if held_now and self.force:
            self._note(self.of(self.force[-1]), "live", who, at_ms, f"{id} is {what.replace('_', ' ')}", back)

    def _turn(self, at_ms: int) -> dict[str, Any]:
        """Other weights hold; which, for the audit log."""
        number, goal_id = self.now.number + 1, self.force[-1] if self.force else ""
        proposal = self.of(goal_id).proposal if goal_id else None
        weights, program = (self.base, "") if proposal is None else (proposal.weights, proposal.program)
        self.versions.append(InForce(number, weights, program, at_ms, goal_id))
        return {"version": self.now.version, "weights": weights, "program": program}

    def _note(
        self, held: Held, what: State, who: Who, at_ms: int, why: str, about: dict[str, Any] | None = None
    ) -> None:
        why = audit.cut(why, audit.TEXT_LETTERS)
        held.history = [*held.history, Event(at_ms, what, who.key, who.name, why)][-EVENTS:]
        entry = audit.Entry(at_ms, who.key, f"goal_{what}", held.goal.id, who.name, why, about or {})
        self.told.append(entry)


def due_ms(held: Held) -> float:
    """When it begins or ends by the clock; infinite where it does neither."""
    until_ms = math.inf if held.goal.until_ms is None else held.goal.until_ms
    if held.state in OVER:
        return math.inf
    return min(max(held.goal.from_ms or 0, held.history[-1].at_ms), until_ms) if held.state == "approved" else until_ms


def shares_of(weights: Weights) -> np.ndarray:
    """``[3]``, of weights that were checked."""
    found = shares(weights)
    assert found is not None
    return found


def bounded(proposal: Proposal) -> Proposal:
    """A proposal no larger than what is kept of it."""
    return msgspec.structs.replace(
        proposal, answer=audit.cut(proposal.answer, audit.TEXT_LETTERS), rejected=proposal.rejected[:REJECTED],
        considered=proposal.considered[:1_000],
    )  # fmt: skip


def said_of(proposal: Proposal) -> dict[str, Any]:
    """What a model was asked and said, for the audit log."""
    answer = audit.cut(proposal.answer, audit.TEXT_LETTERS)
    return {"model": proposal.model, "prompt_hash": proposal.prompt_hash, "answer": answer} if proposal.model else {}


def predicted_of(held: Held) -> dict[str, Effect]:
    """What is predicted of the metrics that the goal names."""
    named = {one.metric for one in (*held.goal.aims, *held.goal.bounds)}
    return {} if held.proposal is None else {name: e for name, e in held.proposal.predicted.items() if name in named}


def weights_of(given: tuple[float, float, float]) -> Weights:
    """The settings' weights."""
    user, revenue, long_term = given
    return Weights(user_satisfaction=user, platform_revenue=revenue, long_term=long_term)


def first(base: Weights) -> Goals:
    """Before anything was asked for."""
    return Goals(base, [InForce(0, base)])
