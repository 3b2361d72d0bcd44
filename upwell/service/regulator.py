"""The slow tick as a loop: whoever holds the lease ``tick`` allocates, writes the books, and tells the servers."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import msgspec
import numpy as np

from upwell.errors import BadRequest
from upwell.goals.program import Program, parse
from upwell.regulator import guards
from upwell.service import figures, purses, ticker
from upwell.service.arms import AS_IS, Play, Split
from upwell.service.live import Live
from upwell.service.memory import HOUR_MS
from upwell.service.records import in_purse, purse_of
from upwell.service.settings import Settings
from upwell.service.tables import Contents, Floats
from upwell.state.batch import Batch, Lease
from upwell.state.errors import Conflict, Fenced, StoreDown
from upwell.state.port import Store, pages

log = logging.getLogger(__name__)

DAY_MS = 86_400_000
FADE = 2.0 ** (-1.0 / 48.0)  # an hour's, of the click rates that the throttle compares
PRIOR_IMPRESSIONS = 10_000.0  # what the configured click rate counts for
SEGMENTS_EVERY = 30  # ticks
LEASE_S = 10.0
SETTLED_MS = 60_000
HOURS_KEPT = 24 * 14
SIDES = ("free_clicks", "free_impressions", "held_clicks", "held_impressions")


class Rates(msgspec.Struct):
    """Click rates of regulated users and of the holdout, fading; and what the guards made of them."""

    hour: int = -1
    free_clicks: float = 0.0
    free_impressions: float = 0.0
    held_clicks: float = 0.0
    held_impressions: float = 0.0
    throttle: float = 1.0
    daily_impressions: float = 0.0  # of the last whole day; 0: none yet


class Regulator:
    """Books and ticks. ``snapshot`` and ``take`` run on the thread that owns ``live``; ``run`` may take another."""

    def __init__(self, settings: Settings, live: Live, store: Store, owner: str) -> None:
        """``owner``: of the lease ``tick``, the same after a restart."""
        self.settings, self.live, self.store, self.owner = settings, live, store, owner
        self.books = ticker.Books()
        self.purses: dict[str, ticker.Books] = {}  # of experiments' arms: see ``purses``
        self.rates = Rates()
        self.number = 0
        self.centres: Floats = np.zeros((1, ticker.DIMS), np.float32)
        self.lease: Lease | None = None

    def load(self) -> None:
        """Books and rates as the store has them."""
        self.purses = {}
        for name, counters in pages(self.store.scan_counters, "grant"):
            row = self.live.contents.rows.at.get(name)
            if row is not None:
                each: dict[str, dict[str, int]] = {"": {}}
                for counter, n in counters.items():
                    what, purse = purse_of(counter)
                    each.setdefault(purse, {})[what] = n
                self.books.load(row, each.pop(""))
                for purse, of in each.items():
                    self.purses.setdefault(purse, ticker.Books(purse)).load(row, of)
        rates, segments, day = self.store.get("meta", ["rates", "segments", "day"])
        if rates is not None:
            self.rates = msgspec.msgpack.decode(rates, type=Rates)
        if segments is not None:
            self.centres = np.frombuffer(segments, np.float32).reshape(-1, ticker.DIMS).copy()
        if day is not None:
            books = self.books
            books.day = int(day)
            (counted,) = self.store.counters("meta", [f"day {books.day}"])
            for counter in counted:
                purse = purse_of(counter)[1]
                if purse:
                    self.purses.setdefault(purse, ticker.Books(purse))
            for one in self.every.values():
                one.carried = counted.get(in_purse("carried", one.purse), 0)
                one.granted_today = counted.get(in_purse("granted", one.purse), 0)
                one.released_today = counted.get(in_purse("released", one.purse), 0)
                one.stage_today = counted.get(in_purse("stage", one.purse), 0)
        self.number = self.store.offsets().get("tick", 0)

    @property
    def every(self) -> dict[str, ticker.Books]:
        """Books by purse."""
        return {"": self.books, **self.purses}

    def hold(self) -> Lease | None:
        """Keep or get the lease ``tick``, and with a new one the books as the store has them.

        None while another holds it.
        """
        if self.lease is None or not self.store.renew(self.lease, LEASE_S):
            self.lease = None
            lease = self.store.acquire("tick", self.owner, LEASE_S)
            if lease is not None:
                self.load()
            self.lease = lease
        return self.lease

    @property
    def segments_due(self) -> bool:
        """Whether segments are to be found anew before the coming tick."""
        return self.number % SEGMENTS_EVERY == 0

    @property
    def daily_impressions(self) -> float:
        return self.rates.daily_impressions or self.settings.daily_impressions

    @property
    def scale(self) -> float:
        """Impressions of a live content a day, over 500."""
        return self.daily_impressions / self.settings.live_contents / 500.0

    @property
    def platform_ctr(self) -> float:
        rates = self.rates
        clicks, shown = rates.free_clicks + rates.held_clicks, rates.free_impressions + rates.held_impressions
        return (clicks + self.settings.click_rate * PRIOR_IMPRESSIONS) / (shown + PRIOR_IMPRESSIONS)

    def step_rates(self, now_ms: int) -> None:
        """Once an hour: fade the click rates, take in the hours since, step the throttle."""
        # A moment late, so that the hour's last counts are in the store.
        hour, rates = (now_ms - SETTLED_MS) // HOUR_MS, self.rates
        if hour == rates.hour:
            return
        first = max(rates.hour, hour - HOURS_KEPT) if rates.hour >= 0 else hour - 1
        passed = [f"hour {h}" for h in range(first, hour)]
        today = hour - hour % 24
        yesterday = [f"hour {h}" for h in range(today - 24, today)]
        # Read before anything changes: where the store fails in between, an hour must not count twice.
        counters = self.store.counters("meta", passed + yesterday)
        since, whole = counters[: len(passed)], counters[len(passed) :]
        for counted in since:
            for side in SIDES:
                setattr(rates, side, getattr(rates, side) * FADE + counted.get(side, 0))
            rates.throttle = float(
                guards.throttle(
                    np,
                    rates.throttle,
                    rates.free_clicks,
                    rates.free_impressions,
                    rates.held_clicks,
                    rates.held_impressions,
                    self.settings.ctr_loss,
                )
            )
        rates.hour = hour
        if hour % 24 == 0 or not rates.daily_impressions:
            rates.daily_impressions = float(
                sum(c.get("free_impressions", 0) + c.get("held_impressions", 0) for c in whole)
            )

    def run(
        self,
        contents: Contents,
        heated_share: float,
        now_ms: int,
        lease: Lease,
        share: Callable[[ticker.Ticked], None] | None = None,
        lent: Mapping[str, ticker.Longs] | None = None,
        silent: bool = False,
    ) -> ticker.Ticked:
        """One tick over a snapshot of the contents: allocate, and write the books. Raises the store's errors.

        ``share`` adds to the batch what servers in other processes are to be told; ``lent``, by purse, and ``silent``:
        see ``ticker.once``.
        """
        self.step_rates(now_ms)
        split = self.live.arms.split if self.live.arms is not None else None
        for name in purses.running(split):
            self.purses.setdefault(name, ticker.Books(name))
        if self.purses:
            self._move(contents, split, lent, lease)
        if now_ms // DAY_MS != self.books.day:
            self._begin_day(contents, now_ms, split, lease)
        of_users, heated = figures.of_users(self.live.users, now_ms), purses.seen(contents, self.every)
        program, batch = self._program(), Batch()

        def once(
            books: ticker.Books, settings: Settings, play: Play, chance: ticker.Longs | None = None
        ) -> ticker.Ticked:
            owing = None if lent is None else lent[books.purse]
            weights = self.live.in_force.weights if play.weights is None else play.weights.weights
            return ticker.once(
                settings, contents, books, self.centres, self.number, now_ms, heated_share, self.rates.throttle,
                self.platform_ctr, self.daily_impressions, weights, owing,
                self.live.policy_of(play), program, of_users, silent, heated[books.purse],
                purses.may_grant(split, contents, books.purse), chance, batch,
            )  # fmt: skip

        plays = {"": AS_IS, **purses.running(split)}
        every: dict[str, ticker.Ticked] = {}
        for name, books in self.every.items():
            seen_by, chance = plays.get(name, AS_IS).guarded(self.settings), None
            if split is not None and name in plays:
                chance = purses.chances(seen_by, split, name, contents, self.scale)
                seen_by = purses.its_own(seen_by, split, name, self.daily_impressions, self.books.day)
            every[name] = once(books, seen_by, plays.get(name, AS_IS), chance)
        ticked = replace(every.pop(""), arms=every)
        ticked.batch.put("meta", figures.ID, msgspec.msgpack.encode(of_users))
        ticked.batch.put("meta", "rates", msgspec.msgpack.encode(self.rates))
        if share is not None:
            share(ticked)
        self._write(ticked.batch, lease)
        ticker.applied(self.books, ticked)
        for name, one in ticked.arms.items():
            ticker.applied(self.purses[name], one)
        # What is over is closed: nothing of it is outstanding.
        self.purses = {name: one for name, one in self.purses.items() if name in plays or one.opened.any()}
        return ticked

    def _move(
        self, contents: Contents, split: Split | None, lent: Mapping[str, ticker.Longs] | None, lease: Lease
    ) -> None:
        moves = purses.moved(self.settings, contents, self.every, split, lent)
        if moves is not None:
            self._write(moves.batch, lease)
            purses.applied(self.every, moves)

    def _begin_day(self, contents: Contents, now_ms: int, split: Split | None, lease: Lease) -> None:
        """A day begins for all purses in one write; what contents earn is split as their accounts are."""
        batch, arms = Batch(), purses.running(split)
        earned = purses.earned(contents, self.every, split)
        days = {
            name: ticker.new_day(
                self.settings, contents, books, now_ms, earned[name],
                split.stage + 1 if split is not None and name in arms else 0, batch,
            )
            for name, books in self.every.items()
        }  # fmt: skip
        self._write(batch, lease)
        for name, day in days.items():
            ticker.begun(self.every[name], day)

    def _program(self) -> Program | None:
        """The reward program in force. One that this version does not read, such as a newer one's, is left out."""
        text = self.live.in_force.program
        try:
            return parse(text) if text else None
        except BadRequest as error:
            log.error("the reward program of %s is left out: %s", self.live.in_force.version, error)
            return None

    def _write(self, batch: ticker.Batch, lease: Lease) -> None:
        """Ticks are numbered by an offset of their own, so that one whose answer was lost is not written twice.

        After any failure nobody knows what the store has, so the lease is given up, and ``hold`` reads the books anew.
        """
        batch.fence = lease
        batch.advance("tick", self.number, self.number + 1)
        try:
            self.store.write(batch)
        except (StoreDown, Conflict, Fenced):
            self.lease = None
            raise
        self.number += 1

    def snapshot(self) -> Contents:
        """The contents for a tick that runs on another thread: counts and who is live are copies."""
        contents = copy.copy(self.live.contents)
        contents.counts, contents.live = contents.counts.copy(), contents.live.copy()
        contents.low, contents.doubted = contents.low.copy(), contents.doubted.copy()
        contents.purses = {name: purse.copy() for name, purse in contents.purses.items()}
        return contents

    def take(self, ticked: ticker.Ticked, now_ms: int) -> None:
        """A tick of this process: grants are at hand from the next request on. Shown meanwhile is taken off."""
        live, contents, size = self.live, self.live.contents, len(ticked.outstanding)
        live.grants = ticked.grants
        live.purses = {name: one.grants for name, one in ticked.arms.items()}
        for name in {"", *contents.purses, *ticked.arms}:
            books = self.every.get(name)
            left = np.maximum(books.outstanding(contents, np.arange(size)), 0) if books is not None else np.int64(0)
            contents.left_in(name)[:size] = np.where(contents.live[:size], left, 0)
        contents.cheat[:size] = ticked.cheat
        live.throttle, live.platform_ctr = self.rates.throttle, self.platform_ctr
        live.look(self.scale, now_ms)

    def find_segments(self) -> Floats:
        """Segments of users anew."""
        self.centres = ticker.segments(self.live.users, self.settings.seed)
        return self.centres


def place_users(live: Live, centres: Floats, names: Sequence[str] | None = None) -> None:
    """The segment of users in memory, all of them unless named: the centre with the largest cosine."""
    users = live.users
    found = users.rows.at.values() if names is None else [users.rows.at[n] for n in names if n in users.rows.at]
    rows = np.fromiter(found, np.int64)
    for part in np.array_split(rows, math.ceil(len(rows) / 65_536) or 1):
        profile = users.record["profile"][part].astype(np.float32)
        users.segment[part] = (profile @ centres.T).argmax(-1)
