"""The proposer: finds weights for goals that wait, beside the service, by search and a language model in simulation.

It writes its proposals into the store by comparison, as operators do over HTTP. The service does not notice when it
dies; the goal that it was at says so when it is there again, and is not begun anew by itself: what killed it may be
that goal.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from upwell.arms.registry import ARMS
from upwell.errors import BadRequest
from upwell.experiment.asking import Asking
from upwell.experiment.proof import Candidate, simulated
from upwell.experiment.proposing import propose
from upwell.experiment.runner import Plan
from upwell.goals.goal import Goal, Proposal
from upwell.goals.llm import Asker
from upwell.goals.question import TRIED, Tried
from upwell.goals.spend import limited
from upwell.goals.weights import NAMES
from upwell.service import figures
from upwell.service.audit import PROPOSER
from upwell.service.clock import system_clock
from upwell.service.course import Course
from upwell.service.errors import Refused
from upwell.service.goals import Goals, Held
from upwell.service.settings import Settings
from upwell.state.errors import StoreDown
from upwell.state.port import Store
from upwell.world.config import WorldConfig, load_world

log = logging.getLogger(__name__)

LOOK_S, AGAIN_S = 1.0, 2.0
UNREAD = "no metric that is to move was understood: name one and its direction, such as 'raise ctr' or '提升点击率'"


class Pace(NamedTuple):
    """How large the platforms are that candidates live on, and for how long."""

    users: int = 500  # at most: the world's own, where it has fewer
    contents: int = 1_250
    seeds: int = 10
    days: int = 7
    burn_in: int = 56


PACE = Pace()


class Proposer:
    """``step`` for as long as it lives. For one thread."""

    def __init__(self, settings: Settings, store: Store, pace: Pace = PACE) -> None:
        """Raises BadRequest where the world cannot be read, or the model not asked."""
        if settings.goals_world is None:
            raise BadRequest("goals_world: the proposer needs the world file that candidates are to live in")
        self.settings, self.course = settings, Course(store, settings.weights)
        seeds = tuple(range(pace.seeds))
        own = {f"goal.{name}": weight for name, weight in zip(NAMES, settings.weights, strict=True)}
        world = sized(load_world(settings.goals_world), pace).override(own)
        plan = Plan(world, (arm_of(settings.policy),), seeds, pace.days, pace.burn_in)
        self.platforms = simulated(plan, settings.data / "goals", lambda: None)
        self.asker: Asker | None = None
        if settings.llm_url:
            spend = limited(settings.data / "tokens.json", settings.llm_tokens_per_day)
            self.asker = Asker(settings.llm_url, settings.llm_model, timeout_s=settings.llm_timeout_s, spend=spend)
        self._first = True

    def run(self) -> None:
        while True:
            try:
                if not self.step():
                    time.sleep(LOOK_S)
            except StoreDown as error:
                log.warning("%s: trying again", error)
                time.sleep(AGAIN_S)

    def step(self) -> bool:
        """Propose for the goal that waits for longest; False: none does. Raises StoreDown."""
        goals = self.course.read(self._now_ms(None))
        if self._first:  # what is under way is a former self's
            for held in [one for one in goals.goals if one.state == "proposing"]:
                self._failed(held.goal, "the proposer died while it looked for a proposal; ask for the goal again")
            self._first = False
        held = next((one for one in goals.goals if one.state == "asked"), None)
        if held is None:
            return False
        with suppress(Refused):  # by now it may be another goal, or none
            self._change(lambda goals: goals.begin(held.goal, PROPOSER, self._now_ms(held)), held)
            self._propose(held, goals)
        return True

    def _propose(self, held: Held, goals: Goals) -> None:
        goal, began_s = held.goal, time.monotonic()
        now = Candidate(goals.now.weights, goals.now.program)
        asking = Asking(self.asker, past_of(goals), state=self._state(goals)) if self.asker is not None else None
        if not goal.aims and asking is None:
            self._failed(goal, UNREAD)
            return
        try:
            found = propose(goal, self.platforms, now, self._now_ms(held), asking)
        except Exception as error:
            log.exception("nothing can be proposed for %s", goal.id)
            self._failed(goal, str(error) if isinstance(error, BadRequest) else f"{type(error).__name__}: {error}")
            return
        took_s = time.monotonic() - began_s
        log.info("%s: proposed by %s after %.0f s, %s", goal.id, found.source, took_s, found.weights)
        if found.source == "fallback":
            self._failed(goal, nothing(found), found)
            return

        def change(goals: Goals) -> None:
            # Proven against weights that hold no more, it may be proposed, and approved by an operator, no more.
            automatic = self.settings.goals_auto if (goals.now.weights, goals.now.program) == now else 0.0
            if goals.of(goal.id).state == "proposing" and goals.of(goal.id).goal == goal:
                goals.propose(found, PROPOSER, self._now_ms(held), automatic)

        self._change(change, held)

    def _state(self, goals: Goals) -> dict[str, float]:
        """What is known of the real platform. Nothing: the model is told of the simulated ones."""
        try:
            return figures.live(self.course.store, goals.now.version)
        except StoreDown as error:
            log.warning("%s: the model is told of simulated platforms", error)
            return {}

    def _failed(self, goal: Goal, why: str, found: Proposal | None = None) -> None:
        def change(goals: Goals) -> None:
            held = goals.of(goal.id)
            if held.goal == goal:
                goals.fail(goal.id, why, PROPOSER, self._now_ms(held), found)

        with suppress(Refused):
            self._change(change, None)

    def _change(self, change: Callable[[Goals], None], held: Held | None) -> None:
        """Write until it is written: what was found took minutes. Raises Refused."""
        while True:
            try:
                self.course.change(change, self._now_ms(held))
                return
            except StoreDown as error:
                log.warning("%s: trying again", error)
                time.sleep(AGAIN_S)

    def _now_ms(self, held: Held | None) -> int:
        """In a simulation, when the goal was last heard of: only callers of the service know what time it is."""
        if self.settings.clock == "request":
            return 0 if held is None else held.history[-1].at_ms
        return system_clock()


def sized(config: WorldConfig, pace: Pace) -> WorldConfig:
    """The world no larger than candidates can be lived in within minutes; creators follow the contents."""
    users, contents = min(config.sizes.users, pace.users), min(config.sizes.contents, pace.contents)
    creators = max(round(config.sizes.creators * contents / config.sizes.contents), 1)
    return config.override({"sizes.users": users, "sizes.contents": contents, "sizes.creators": creators})


def arm_of(policy: str) -> str:
    """The simulated arm that decides as the service does."""
    if not policy:
        return "rules"
    return policy if policy in ARMS else f"marl:{policy}"


def nothing(found: Proposal) -> str:
    """Why the present weights stay."""
    tried = "; ".join(f"{one.what}: {one.why}" for one in found.rejected[-3:])
    return f"nothing better than the present weights was found{f' ({tried})' if tried else ''}"


def past_of(goals: Goals) -> tuple[Tried, ...]:
    """What was proposed for earlier goals and what came of it, the latest last."""
    return tuple(
        Tried(one.proposal.weights, one.proposal.program, one.proposal.predicted, told(one))
        for one in goals.goals
        if one.proposal is not None and one.proposal.source != "fallback"
    )[-TRIED:]


def told(held: Held) -> str:
    last = held.history[-1]
    return f"{held.state.replace('_', ' ')}{f': {last.why}' if last.why else ''}"
