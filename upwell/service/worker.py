"""The worker: folds the log for several servers, and runs their slow tick while it holds the lease.

One partition is folded by one worker at a time. Each write carries the offsets that it is the state of, compared with
the stored ones: a worker that lost a partition without knowing writes nothing, forgets what it has and reads anew.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np

from upwell.events.port import Entry, Log, LogDown, OffsetLost
from upwell.model import Content
from upwell.regulator import slate
from upwell.service import apply, experiment_guard, goal_guard, purses, ticker, told, wire
from upwell.service.allowances import Allowances, By, Report
from upwell.service.arms import Arms
from upwell.service.clock import Clock
from upwell.service.course import Course
from upwell.service.live import Live
from upwell.service.memory import DAY_S
from upwell.service.order import Order
from upwell.service.records import COLUMN, in_purse
from upwell.service.regulator import Regulator, place_users
from upwell.service.saver import readers, trim
from upwell.service.settings import Settings
from upwell.service.trust import Trust
from upwell.service.versions import Versions
from upwell.state.batch import Batch
from upwell.state.errors import Conflict, Fenced, StoreDown
from upwell.state.port import EVERYTHING, Store, pages

log = logging.getLogger(__name__)

GROUP = "upwell"
ENTRIES = 2_000
POLL_S = 0.02
GATHER_S = 0.03
ALIVE_S = 10.0
"""A server that did not report for so long gets no impressions."""
ALLOWANCES, ALLOWANCES_OF_ARMS = "allowances", "allowances of arms"
report_decoder = msgspec.msgpack.Decoder(Report)
allowances_decoder = msgspec.msgpack.Decoder(Allowances)
arms_decoder = msgspec.msgpack.Decoder(dict[str, Allowances])


class Worker:
    """``step`` until told to stop. For one thread."""

    def __init__(self, settings: Settings, store: Store, events: Log, clock: Clock) -> None:
        self.settings, self.store, self.events, self.clock = settings, store, events, clock
        self.live = Live(settings, f"worker-{events.slot}", trails=True)
        self.regulator = Regulator(settings, self.live, store, self.live.server)
        self.versions, self.course = Versions(store, self.live.learned), Course(store, settings.weights)
        self.trust = Trust(store, settings.trust)
        self.stored: dict[str, int] = {}  # see ``saver.trim``
        self.arms = Arms(store, self.live.learned, settings.holdout)
        self.allowances: dict[str, Allowances] = {"": Allowances()}  # by purse
        self.watcher = store.watch(["content"])
        self._reread = False
        self.consumer = events.consumer(GROUP, self._stored)
        self._next_tick_s = 0.0
        self._next_fold_s = 0.0
        self.folded = 0
        self.order = Order(clock)
        self._load()

    def _stored(self, partitions: list[str]) -> dict[str, int]:
        """Where the store is: where reading begins."""
        stored = self.store.offsets()
        at = {p: stored.get(p, 0) for p in partitions}
        # Another worker had it meanwhile: users in memory are not what the store has of them any more.
        self._reread |= any(self.live.offsets.get(p, offset) != offset for p, offset in at.items())
        self.live.saved |= at
        return at

    def _load(self) -> None:
        """Contents and books; users and slates come as the log names them."""
        apply.load_contents(self.store, self.live)
        self.regulator.load()
        self._load_allowances()

    def _load_allowances(self) -> None:
        kept, arms = self.store.get("meta", [ALLOWANCES, ALLOWANCES_OF_ARMS])
        base = allowances_decoder.decode(kept) if kept is not None else Allowances()
        self.allowances = (arms_decoder.decode(arms) if arms is not None else {}) | {"": base}

    def run(self, running: Callable[[], bool]) -> None:
        """Fold and tick while ``running``; a store or log that is down is asked again."""
        down = False
        try:
            while running():
                try:
                    self.step()
                    down = False
                except OffsetLost as lost:
                    # Nothing is dropped unread, unless the topic was made anew or its retention ran out.
                    log.error("%s; going on at its beginning: what lay between is lost", lost)
                    self.live.failures["offset_lost"] += 1
                    self.consumer.seek(lost.partition, lost.first)
                except (StoreDown, LogDown) as error:
                    if not down:
                        log.warning("%s; trying again", error)
                    down = True
                    self.reread()
                    time.sleep(0.2)
        finally:
            self.consumer.close()
            self.watcher.close()
            if self.regulator.lease is not None:
                try:
                    self.store.release(self.regulator.lease)
                except StoreDown:
                    log.warning("the store is down: the lease ends by itself")

    def step(self) -> None:
        """Take what the log has, write what came of it; tick when it is time."""
        # Writes are for many entries each: what comes within a moment is gathered, as far as staleness allows.
        time.sleep(max(self._next_fold_s - time.monotonic(), 0.0))
        self._next_fold_s = time.monotonic() + GATHER_S
        self._follow()
        polled = self._poll()
        if self._reread:
            self.reread()
            return
        entries = self.order.take(polled, self.consumer.lag)
        for part, erasure in apply.erasures(entries):
            if part and not self._fold(part):
                return
            # Of a user who was erased already: it came late, from a journal whose process was dead for a while.
            for user in {entry.key for entry in part if entry.ts_ms < self.live.erased.get(entry.key, 0)}:
                self._erase(user, self.live.erased[user], None)
            if erasure is not None and erasure.at_ms > self.live.erased.get(erasure.user, -1):
                self._erase(*erasure)
        if time.monotonic() >= self._next_tick_s:
            self._next_tick_s = time.monotonic() + self.settings.tick_s
            if self.live.trails is not None:
                self.live.trails.sweep(self.clock())
            self.live.shrink()
            self.tick()

    def _erase(self, user: str, at_ms: int, done: str | None) -> None:
        """Erase a user from memory and store. ``done``: how to say that it took place."""
        self.store.erase(user)
        self.live.erase(user, at_ms)
        if done is not None:
            batch = Batch()
            batch.put("meta", done, b"1")
            batch.ttl_s["meta"] = DAY_S
            self.store.write(batch)

    def _poll(self) -> list[Entry]:
        """What the log has by now, up to ``ENTRIES``."""
        entries = self.consumer.poll(ENTRIES, POLL_S)
        while 0 < len(entries) < ENTRIES:
            more = self.consumer.poll(ENTRIES - len(entries), 0.0)
            if not more:
                break
            entries += more
        return entries

    def _fold(self, entries: Sequence[Entry]) -> bool:
        """Fold entries and write what came of them; False: they are another worker's now."""
        heated: dict[str, Counter[str]] = {}

        def shown(line: wire.Logged) -> None:
            names = [place.id for place in line.places if place.kind == slate.HEATED]
            if names:
                heated.setdefault(in_purse(line.server, line.purse), Counter()).update(names)

        apply.fold(self.store, self.live, entries, shown)
        batch = self.live.unsaved()
        if batch is None:
            return True
        for member, counted in heated.items():
            batch.add("member", member, counted)
        # They are asked for as long as a content that they name may live.
        batch.ttl_s["member"] = self.settings.life_days * DAY_S + self.settings.late_h * 3_600.0
        try:
            self.store.write(batch)
        except Conflict as conflict:
            log.warning("%s: another worker has it; reading anew", conflict)
            self.reread()
            return False
        self.live.written(batch)
        self.folded += len(entries)
        for partition, (_, after) in batch.offsets.items():
            trim(self.events, partition, after, readers(self.settings), self.stored)
        return True

    def reread(self) -> None:
        """Forget all that is not in the store, and go on from where it is."""
        self.order.forget()
        self._reread = False
        fresh = Live(self.settings, self.live.server, trails=True)
        fresh.contents = self.live.contents
        fresh.contents.discard()
        fresh.erased = self.live.erased
        self.live = self.regulator.live = fresh
        self.versions.forget()
        try:
            counted = dict(pages(self.store.scan_counters, "content"))
            for name, row in list(fresh.contents.rows.at.items()):
                fresh.add_content(fresh.contents.info[row], counted.get(name, {}))
            for partition, offset in self._stored(self.consumer.assigned()).items():
                self.consumer.seek(partition, offset)
        except StoreDown:
            self._reread = True  # or it would go on where the consumer is, and pass over what is not in the store
        fresh.offsets = dict(fresh.saved)

    def _follow(self) -> None:
        """Contents that servers registered, and what other workers counted."""
        changes = self.watcher.poll(0.0)
        if not changes:
            return
        contents = self.live.contents
        if changes is EVERYTHING:
            self._load()
            return
        names = sorted(name for _, name in changes)
        bodies, counted = self.store.get("content", names), self.store.counters("content", names)
        gone: list[str] = []
        for name, body, counts in zip(names, bodies, counted, strict=True):
            if body is None:
                gone.append(name)
            else:
                self._counted(wire.content_decoder.decode(body), counts)
        self._bury([name for name in gone if name in contents.rows.at])

    def _bury(self, names: list[str]) -> None:
        """Contents that were taken down: their accounts go too, and what they had left is the pool's again."""
        if not names:
            return
        contents = self.live.contents
        rows = [contents.rows.at[name] for name in names]
        if self.regulator.lease is not None:
            batch = Batch(fence=self.regulator.lease)
            batch.delete("grant", *names)
            try:
                self.store.write(batch)
            except Fenced:
                self.regulator.lease = None
        for books in self.regulator.every.values():
            books.fit(max(rows) + 1)
            books.close(rows)
        for each in self.allowances.values():
            each.bury(names)
        for name in names:
            contents.forget(name)

    # ---- the slow tick

    def tick(self) -> None:
        """Allocate for all servers, where this worker holds the lease, and tell them."""
        offsets = self.store.offsets()
        if (chosen := self.versions.look(offsets)) is not None:
            self.live.play(*chosen)
        self.course.look(offsets, self.clock())
        self.live.steer(self.course.here(self.clock()))
        self.stored = offsets
        self.arms.look(offsets)
        self.live.arms = self.arms if self.arms.any else None
        if self.trust.look(offsets):
            self.trust.take(self.live.contents, self.live.users)
        regulator = self.regulator
        before = regulator.lease
        lease = regulator.hold()
        if lease is None:
            return
        if lease != before:
            self._load_allowances()
        (switch,) = self.store.get("meta", ["switch"])
        self.live.obey(switch)
        now = self.clock()
        folded = self._hear(now)
        if regulator.segments_due:
            place_users(self.live, regulator.find_segments())
            self.store.write(self._segments())
        contents = self.live.contents
        self._recount()
        lent = {name: self._lent(each.lent(folded[name])) for name, each in self.allowances.items()}

        def share(ticked: ticker.Ticked) -> None:
            self._share(ticked, {name: each.counted(folded[name]) for name, each in self.allowances.items()})

        try:
            regulator.run(contents, self._heated_share(), now, lease, share, lent, self.trust.silent())
        except (Fenced, Conflict):
            log.info("another worker ticks now; what this one made up for its servers is void")
            return
        goal_guard.watch(self.store, self.course, now)
        experiment_guard.watch(self.store, now)

    def _hear(self, now: int) -> dict[str, dict[str, By]]:
        """Take in what servers report, and settle those that ended; of the others, heated impressions folded so far,
        by purse."""
        running = purses.running(self.arms.split)
        known = {*self.regulator.every, *running}
        # What is closed has nothing under way.
        self.allowances = {name: self.allowances.get(name, Allowances()) for name in known}
        reports = [(server, report_decoder.decode(body)) for server, body in pages(self.store.scan, "member")]
        offsets, too_old_ms = self.store.offsets(), now - round(self.settings.late_h * 3_600_000)
        out: dict[str, dict[str, By]] = {}
        for purse, allowances in self.allowances.items():
            for server, report in reports:
                allowances.acknowledge(server, report, purse)
            ended = allowances.ended(offsets, too_old_ms)
            there = [name for name, share in allowances.servers.items() if not share.settled]
            # Asked for after the offsets, so that they hold all that these are the state of.
            counted = self.store.counters("member", [in_purse(name, purse) for name in there])
            folded = out[purse] = dict(zip(there, counted, strict=True))
            for server in ended:
                allowances.settle(server, folded.pop(server))
        return out

    def _lent(self, lent: Counter[str]) -> ticker.Longs:
        """Impressions that servers may be showing, by row."""
        contents = self.live.contents
        rows = np.zeros(len(contents.live), np.int64)
        for name, row in contents.rows.at.items():
            rows[row] = lent[name]
        return rows

    def _recount(self) -> None:
        """What was withdrawn may be released now: all that was folded of it must be known, by other workers too."""
        contents, withdrawn = self.live.contents, np.zeros(len(self.live.contents.live), bool)
        for books in self.regulator.every.values():
            books.fit(len(contents.live))
            withdrawn |= books.withdrawn[: len(withdrawn)]
        rows = [row for row in np.flatnonzero(withdrawn).tolist() if contents.live[row]]
        names = [contents.rows.names[row] for row in rows]
        for row, counts in zip(rows, self.store.counters("content", names) if names else (), strict=True):
            self._counted(contents.info[row], counts)

    def _counted(self, content: Content, counts: dict[str, int]) -> None:
        """A content as the store has it, and what is not there yet."""
        row = self.live.add_content(content, counts)
        self.live.contents.add_unsaved(row)

    def _segments(self) -> Batch:
        batch = Batch()
        batch.put("meta", "segments", self.regulator.centres.tobytes())
        return batch

    def _heated_share(self) -> float:
        """Of all impressions that live contents ever had: what the price near the cap goes by."""
        counts = self.live.contents.counts
        return int(counts[:, COLUMN["heated"]].sum()) / max(int(counts[:, COLUMN["impressions"]].sum()), 1)

    def _share(self, ticked: ticker.Ticked, counted: Mapping[str, Counter[str]]) -> None:
        """Allowances and all that servers go by, in the same write as the books.

        ``counted``: by purse, of each content, heated impressions of the servers that share its grant. What is counted
        beyond them was shown before there were several.
        """
        number = self.regulator.number + 1
        allowance = {
            name: self._publish(name, one, number, counted[name]) for name, one in {"": ticked, **ticked.arms}.items()
        }
        record = told.of(self.regulator, ticked, number, allowance)
        ticked.batch.put("meta", told.ID, told.encoder.encode(record))
        ticked.batch.put("meta", ALLOWANCES, told.encoder.encode(self.allowances[""]))
        arms = {name: each for name, each in self.allowances.items() if name}
        ticked.batch.put("meta", ALLOWANCES_OF_ARMS, told.encoder.encode(arms))

    def _publish(self, purse: str, ticked: ticker.Ticked, number: int, counted: Counter[str]) -> dict[str, By]:
        """Allowances of a purse's grants."""
        contents, books, allowances = self.live.contents, self.regulator.every[purse], self.allowances[purse]
        names, size, now = contents.rows.names, len(ticked.outstanding), self.clock()
        heated = contents.spent(purse, np.arange(size))
        alive = [
            name
            for name, share in allowances.servers.items()
            if now - share.at_ms < ALIVE_S * 1_000 and not share.settled
        ]
        granted = books.of["granted"][:size] + ticked.changes["granted"]
        released = books.of["released"][:size] + ticked.changes["released"]
        available = {
            names[row]: int(granted[row] - released[row]) - max(int(heated[row]) - counted[names[row]], 0)
            for row in range(1, len(names))
            if ticked.outstanding[row] > 0 and names[row]
        }
        return allowances.publish(number, available, alive)
