"""One server: its memory, its store and its log, and the loops that keep them together.

A single server on the embedded log folds what it logs at once and saves behind it (``saver``): after a kill it reads
the log on from where the store is. With several servers a worker folds for all of them (``worker``); what a server
folds is provisional then, until the store tells it of the change (``follow``).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

import msgspec

from upwell.events.port import Log
from upwell.model import Answer, Rejected, Request, Taken, User
from upwell.service import apply, audit, experiment_guard, experiments, goal_guard, ingest, own, records, trust, wire
from upwell.service.arms import Arms
from upwell.service.audit import Who
from upwell.service.batcher import Batcher
from upwell.service.clock import Clock, Simulated
from upwell.service.course import Course
from upwell.service.erasure import ERASING, Erasure
from upwell.service.errors import Refused, decode_refusal, store_down
from upwell.service.experiments import Experiments
from upwell.service.follower import Follower
from upwell.service.goals import Goals
from upwell.service.keys import BESIDE, request_key
from upwell.service.learned import Trial
from upwell.service.live import Live
from upwell.service.recall import Recall
from upwell.service.regulator import Regulator, place_users
from upwell.service.saver import Saver
from upwell.service.settings import Settings
from upwell.service.shelf import Shelf
from upwell.service.trust import Asked, Trust
from upwell.service.versions import Policies, Versions
from upwell.state.batch import Batch
from upwell.state.errors import Fenced, StoreDown
from upwell.state.port import Store, pages

log = logging.getLogger(__name__)
T = TypeVar("T")

DAY_MS = 86_400_000
REQUESTS = 100_000
"""Answers kept, so that a request sent again gets the same one."""
SWEEP_S = 60.0
CHANGES_S = 0.5
"""Between two looks at what operators and the learner changed."""
RECOVERED_AT_ONCE = 2_000


class Node:
    """Everything behind the HTTP routes. Its methods run on one event loop."""

    def __init__(self, settings: Settings, store: Store, events: Log, clock: Clock, shared: bool = False) -> None:
        self.settings, self.store, self.events, self.clock = settings, store, events, clock
        self.shared = shared  # a worker folds for this server and others
        # A server that began anew has shown nothing yet, and counts its decisions from one, perhaps at a time that was
        # before: a name of its own keeps its allowances and its decisions apart from the last one's.
        self.live = Live(settings, f"{events.slot}-{secrets.token_hex(4)}", not shared)
        # The lease is the slot's, so that a restarted server has it back at once.
        self.regulator = Regulator(settings, self.live, store, events.slot)
        self.versions, self.course = Versions(store, self.live.learned), Course(store, settings.weights)
        self.arms = Arms(store, self.live.learned, settings.holdout)
        self.factors = own.Heard(store)
        self.trust = Trust(store, settings.trust)
        self.saver = Saver(store, events, self.live)
        self.batcher = Batcher(settings, self.live, events, self.saver.logged)
        self.recall = Recall(store, self.live)
        self.answers: OrderedDict[str, asyncio.Future[Answer]] = OrderedDict()
        self.ready, self.draining = False, False
        self.store_down = False
        self._loops: list[asyncio.Task[None]] = []
        self.follower: Follower | None = None
        self._ticking = asyncio.Lock()
        self.shelf = Shelf(settings, store, self.live, self.regulator, self.saver, clock, shared, self._ticking)
        self.erasure = Erasure(store, events, self.live, self.recall, self.saver, clock, shared, self.answers)

    # ---- life

    async def start(self) -> None:
        """Read what the store has, fold what the log has beyond it, and begin the loops."""
        if self.shared:
            self.follower = Follower(self.settings, self.store, self.live, self.clock, self.events)
            await asyncio.to_thread(self.follower.load)
            loops: tuple[tuple[str, Coroutine[Any, Any, None]], ...] = (
                ("follow", self._every(0.0, self.follower.follow)),
                ("report", self._every(self.settings.tick_s / 2, self.follower.report)),
                ("sweep", self._every(SWEEP_S, self.sweep)),
            )
        else:
            await asyncio.to_thread(self._recover)
            loops = (
                ("flush", self._every(self.settings.flush_s, self.saver.flush)),
                ("sweep", self._every(SWEEP_S, self.sweep)),
            )
            if not isinstance(self.clock, Simulated):
                loops += (("tick", self._every(self.settings.tick_s, self.tick)),)
        await self.follow_changes()
        loops += (("changes", self._every(CHANGES_S, self.follow_changes)),)
        self.ready = True
        self._loops = [asyncio.create_task(loop, name=name) for name, loop in loops]

    def _recover(self) -> None:
        live, store = self.live, self.store
        apply.load_contents(store, live)
        self.regulator.load()
        live.platform_ctr = self.regulator.platform_ctr
        self.recall.everyone = True
        for name, body in pages(store.scan, "user"):
            if len(live.users.rows) >= self.settings.users_in_memory:
                self.recall.everyone = False
                break
            live.users.put(name, records.read_user(body))
        if self.settings.learn:
            self.factors.look(store.offsets(), ())  # of what came before, all is read here
            own.take(live.users, dict(pages(store.scan, own.KIND)))
        (switch,) = store.get("meta", ["switch"])
        live.obey(switch)
        live.saved = store.offsets()
        live.offsets = dict(live.saved)
        folded = 0
        for entries in self.events.recover(live.saved, RECOVERED_AT_ONCE):
            folded += len(entries)
            for part, erasure in apply.erasures(entries):
                apply.fold(store, live, part)
                batch = live.unsaved()
                if batch is not None:
                    store.write(batch)
                    live.written(batch)
                if erasure is not None:
                    store.erase(erasure.user)
                    live.erase(erasure.user, erasure.at_ms)
        if folded:
            log.info("folded %d entries of the log that the store did not have yet", folded)
        live.throttle, live.platform_ctr = self.regulator.rates.throttle, self.regulator.platform_ctr
        place_users(live, self.regulator.centres)

    async def stop(self) -> None:
        """Save all that is acknowledged, give up the lease, let go of store and log."""
        self.draining = True
        for task in self._loops:
            task.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        if self.follower is not None:
            await asyncio.to_thread(self.follower.close)
        try:
            await self.saver.flush()
            if self.regulator.lease is not None:
                await asyncio.to_thread(self.store.release, self.regulator.lease)
        except StoreDown as error:
            log.warning("stopped before the store had everything (%s): the log has it", error)
        self.events.close()
        self.store.close()

    async def _every(self, period_s: float, step: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            began = time.monotonic()
            try:
                await step()
                self.store_down = False
            except StoreDown as error:
                if not self.store_down:
                    log.warning("the store is down (%s): the log keeps what it will get", error)
                self.store_down = True
            except Exception:
                log.exception("%s failed; it is tried again", getattr(step, "__name__", step))
                self.live.failures["loop"] += 1
            await asyncio.sleep(max(period_s - (time.monotonic() - began), 0.001))

    async def told(self, now_ms: int) -> None:
        """It is ``now_ms`` in a simulation: ticks that are due by then come first, as they would have."""
        if not isinstance(self.clock, Simulated):
            return
        period_ms = round(self.settings.tick_s * 1_000)
        if now_ms // period_ms > self.clock.now_ms // period_ms:
            async with self._ticking:
                if now_ms // period_ms > self.clock.now_ms // period_ms:
                    self.clock.tell(now_ms - now_ms % period_ms)
                    await self.saver.flush()
                    await self._tick()
        self.clock.tell(now_ms)

    # ---- requests

    async def recommend(self, request: Request) -> Answer:
        """A slate. Raises Refused where the request is wrong."""
        if request.request_id is None:
            return await self._recommend(request)
        key = request_key(request.user_id, request.request_id)
        earlier = self.answers.get(key)
        if earlier is None:
            earlier = self.answers[key] = asyncio.ensure_future(self._again(key, request))
            while len(self.answers) > REQUESTS:
                self.answers.popitem(last=False)
        try:
            return await asyncio.shield(earlier)
        except Refused:
            self.answers.pop(key, None)
            raise

    async def _again(self, key: str, request: Request) -> Answer:
        """The answer that the store has for this request, or a new one.

        A store that hangs is not waited for beyond the deadline. Then there may be an earlier answer, so the ranker's
        order is given, which is remembered nowhere: nothing that was shown once counts twice.
        """
        since_s = time.monotonic()
        try:
            line = await self._in_time(since_s, self.recall.answered(key))
        except StoreDown:
            line = None
        except TimeoutError:
            return self.batcher.unlogged(request, self.clock(), "store_down")
        return wire.answer_of(line) if line is not None else await self._recommend(request, since_s)

    async def _recommend(self, request: Request, since_s: float | None = None) -> Answer:
        known = self.recall.has(request.user_id)
        if not known:
            with suppress(TimeoutError):
                known = await self._in_time(since_s or time.monotonic(), self.recall.users([request.user_id]))
        if request.user_id == self.erasure.user:
            return self.batcher.unlogged(request, self.clock(), "erasing")
        if known:
            return await self.batcher.answer(request, self.clock())
        if self.shared:  # who folds it knows the user
            return self.batcher.unread(request, self.clock())
        return self.batcher.unlogged(request, self.clock(), "store_down")

    async def _in_time(self, since_s: float, asked: Coroutine[Any, Any, T]) -> T:
        """What the store says while a request that began at ``since_s`` may wait for it. Raises TimeoutError."""
        left_s = since_s + self.settings.deadline_ms / 1_000 - time.monotonic()
        return await asyncio.wait_for(asked, max(left_s, 0.0))

    # ---- interactions

    async def interactions(self, body: bytes) -> Taken:
        """Check events, log them, fold them; returns once they are durable."""
        try:
            events, bad = ingest.parse(body)
        except msgspec.DecodeError as error:
            raise decode_refusal(error) from None
        if len(events) + len(bad) > self.settings.events_a_call:
            raise Refused(413, "too_large", f"more than {self.settings.events_a_call} events in a call", "events")
        try:
            await self.recall.slates([event for _, event in events])
        except StoreDown:
            raise store_down() from None
        if not await self.recall.users(event.user_id for _, event in events):
            raise store_down()
        now = self.clock()
        bad += [Rejected(i, "erasing", ERASING) for i, event in events if event.user_id == self.erasure.user]
        events = [one for one in events if one[1].user_id != self.erasure.user]
        good, known, rejected = ingest.check(self.settings, self.live, events, now)
        if good:
            lines = [(e.user_id, now, wire.encoder.encode(wire.Event(wire.SCHEMA, now, e))) for e in good]
            await self.saver.tell(lines, lambda: [self.live.take(event) for event in good])
        bad += rejected
        bad.sort(key=lambda one: one.index)
        return Taken(len(good), known, tuple(bad))

    # ---- what is forgotten

    async def sweep(self) -> None:
        """Forget what has expired, and users beyond what memory is to hold."""
        if self.shared:
            await self.saver.flush()
        else:
            await asyncio.to_thread(self.store.sweep)
            await self.shelf.bury()
        if self.live.shrink():
            self.recall.everyone = False

    # ---- the slow tick

    async def tick(self) -> None:
        """Allocate, where this server holds the lease; find segments anew now and then.

        No content is taken down meanwhile: its account would be written to after it was closed.
        """
        async with self._ticking:
            await self._tick()

    async def _tick(self) -> None:
        regulator = self.regulator
        self._steer()
        lease = await asyncio.to_thread(regulator.hold)
        if lease is None:
            return
        if regulator.segments_due:
            centres = await asyncio.to_thread(regulator.find_segments)
            place_users(self.live, centres)
        shown = max(self.live.window_shown, 1)
        snapshot = regulator.snapshot()
        try:
            silent = await asyncio.to_thread(self.trust.silent)
            ticked = await asyncio.to_thread(
                regulator.run, snapshot, self.live.window_heated / shown, self.clock(), lease, silent=silent
            )
        except Fenced:
            return
        regulator.take(ticked, self.clock())
        await asyncio.to_thread(goal_guard.watch, self.store, self.course, self.clock())
        await asyncio.to_thread(experiment_guard.watch, self.store, self.clock())

    # ---- contents, users, decisions, switch

    async def put_user(self, user: User) -> None:
        """An account that is older than its first request here."""
        if not await self.recall.users([user.id]):
            raise store_down()
        if user.id == self.erasure.user:
            raise Refused(409, "erasing", ERASING, "id")
        line = wire.Event(wire.SCHEMA, self.clock(), user=user)
        await self.saver.tell([(user.id, line.received_ms, wire.encoder.encode(line))], lambda: self.live.account(user))

    async def decision(self, decision_id: str) -> wire.Logged | None:
        """A decision as it was logged. What became of it is kept beside it, and is no decision."""
        if decision_id.endswith(BESIDE):
            return None
        await self.saver.saved()
        (body,) = await asyncio.to_thread(self.store.get, "decision", [decision_id])
        return wire.logged_decoder.decode(body) if body is not None else None

    async def follow_changes(self) -> None:
        """Go by what operators and the learner changed: weights, versions of the policy, users' own factors.

        What begins or ends by the clock does so while the store is down too. Raises StoreDown.
        """
        try:
            offsets = await asyncio.to_thread(self.store.offsets)
            await asyncio.to_thread(self.course.look, offsets, self.clock())
        finally:
            self._steer()
        if await asyncio.to_thread(self.arms.look, offsets):
            self.live.arms = self.arms if self.arms.any else None
        chosen = await asyncio.to_thread(self.versions.look, offsets)
        if chosen is not None:
            self.live.play(*chosen)
            log.info("the policy is %s%s", chosen.live.version, of_trial(chosen.trial))
        self.saver.stored = offsets
        if await asyncio.to_thread(self.trust.look, offsets):
            self.trust.take(self.live.contents, self.live.users)
        if self.settings.learn and self.factors.due(offsets):
            users = self.live.users
            own.take(users, await asyncio.to_thread(self.factors.look, offsets, list(users.rows.at)))

    def _steer(self) -> None:
        """Go by the weights that hold now."""
        in_force = self.course.here(self.clock())
        if in_force != self.live.in_force:
            self.live.steer(in_force)
            log.info("weights %s: %s", in_force.version, in_force.weights)

    async def change_versions(self, change: Callable[[Policies], object]) -> None:
        """Change who gets which version, from the next request on. Raises Refused."""
        await self._change(lambda: self.versions.change(change, self.clock()))

    async def change_goals(self, change: Callable[[Goals], object]) -> None:
        """Change what is wanted, from the next request on. Raises Refused."""
        await self._change(lambda: self.course.change(change, self.clock()))

    async def change_experiments(self, change: Callable[[Experiments], object]) -> None:
        """Change which experiments run, from the next request on. Raises Refused."""
        await self._change(lambda: experiments.change(self.store, change))

    async def appeal(self, content: str, asked: Asked, who: Who) -> None:
        """An operator's word on who cheats, from the next tick on. Raises Refused."""
        await self._change(lambda: trust.appeal(self.store, content, asked, who, self.clock()))

    async def _change(self, change: Callable[[], object]) -> None:
        try:
            await asyncio.to_thread(change)
            await self.follow_changes()
        except StoreDown:
            raise store_down() from None

    async def switch(self, mode: str, who: Who) -> None:
        """Who decides from the next request on; kept across restarts."""
        before, self.live.mode = self.live.mode, mode
        batch = Batch()
        batch.put("meta", "switch", mode.encode())
        audit.tell(batch, audit.Entry(self.clock(), who.key, "switch", mode, who.name, f"it was {before}"))
        await self.saver.write(batch)


def of_trial(trial: Trial | None) -> str:
    return "" if trial is None else f", {trial.learned.version} for {trial.share:.0%} of users"
