"""The books of all purses balance whatever happens, and outlive what is in memory."""

from __future__ import annotations

import numpy as np
import pytest
from books_samples import ASKS, POOLS, Platform
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule
from purse_samples import FULL, arm, worth
from service_samples import DAY_MS
from ticker_samples import ANN

from upwell.regulator.ledger import COIN
from upwell.service import ticker


class Purses(Platform):
    """Experiments that begin, ramp and end among ticks, shown impressions, new days, restarts, contents that come and
    go: of each content all coins are where they were or were spent, and the pool is used once."""

    @initialize(pool=POOLS, first_ask=ASKS)
    def open(self, pool, first_ask):
        self.names, self.running = iter(f"e{n}" for n in range(10_000)), ""
        self.begin(pool, first_ask, 6)

    @rule(
        a=st.sampled_from([0.0, 0.1, 0.5]), b=st.sampled_from([0.05, 0.5]), idle=st.booleans(),
        design=st.sampled_from(["budget_split", "co_diverted"]),
    )  # fmt: skip
    def begins(self, a, b, idle, design):
        if not self.running:
            self.running = next(self.names)
            self.server.split(self.running, arm("a", a, 0.5), arm("b", b, 0.5, heating=not idle), design=design)

    @precondition(lambda self: self.running)
    @rule(a=st.sampled_from([0.0, 0.2, 0.5]))
    def ramps(self, a):
        name, at = self.running, self.server.now
        self.server.experiment(lambda every: every.ramp(name, {"a": a}, ANN, at, ""))

    @precondition(lambda self: self.running)
    @rule()
    def ends(self):
        name, at = self.running, self.server.now
        self.server.experiment(lambda every: every.stop(name, ANN, at, ""))
        self.running = ""

    @rule(data=st.data())
    def shows(self, data):
        for row in self.server.live.contents.all_rows.tolist():
            for purse in ("", *self.server.live.purses):
                if data.draw(st.booleans()):
                    price = self.server.of(row)[purse]["price_units"] if purse in self.server.of(row) else 0
                    many = self.server.heat(row, data.draw(st.sampled_from([1, 3, 10_000])), purse)
                    self.spent_today += many
                    if many:
                        self.coins[self.server.live.contents.rows.names[row]] -= many * price

    @rule(which=st.integers(0, 99), clicks=st.sampled_from([1, 60]), valid=st.sampled_from([0.0, 1.0]))
    def clicks(self, which, clicks, valid):
        rows = self.server.live.contents.all_rows
        row = int(rows[which % len(rows)])
        self.server.count(row, impressions=4 * clicks, clicks=clicks, valid=round(valid * clicks))

    @precondition(lambda self: self.pending is None)
    @rule(minutes=st.sampled_from([10, 300, 1_440]), share=st.sampled_from([0.0, 0.1, 0.25]))
    def ticks(self, minutes, share):
        server = self.server
        server.now += minutes * 60_000
        before = {name: worth(server, row) for name, row in server.live.contents.rows.at.items()}
        if server.now // DAY_MS != server.books.day:
            self.spent_today = 0
        self.pending = server.begin(share)
        for name, row in server.live.contents.rows.at.items():
            gained = worth(server, row) - (before[name] if name in self.coins else FULL)
            assert gained in (0, 50 * COIN), "what is opened has a first budget, and what earns earns one day's"
            self.coins[name] = worth(server, row)
            whole = server.store.counters("grant", [name])[0]
            assert sum(n for of, n in whole.items() if of.startswith("budget_units")) == sum(
                one["budget_units"] for one in server.of(row).values()
            )
        for one in (self.pending, *self.pending.arms.values()):
            granted, released = one.changes["granted"], one.changes["released"]
            assert not (granted * released).any()

    @precondition(lambda self: self.pending is None)
    @rule()
    def restarts(self):
        server = self.server
        old = server.regulator.every
        server.regulator = server.started()
        server.live.contents.keep_back()
        rows = server.live.contents.all_rows
        for name, books in old.items():
            new = server.regulator.every.get(name, ticker.Books(name))
            new.fit(len(books.opened))
            for what, values in books.of.items():
                np.testing.assert_array_equal(new.of[what][rows], values[rows], f"{name} {what}")
            np.testing.assert_array_equal(new.opened[rows], books.opened[rows])
            if old[""].day >= 0:
                assert (new.used_today, new.stage_today) == (books.used_today, books.stage_today)

    @invariant()
    def balances(self):
        if not hasattr(self, "server"):
            return
        server = self.server
        out = 0
        for name, row in server.live.contents.rows.at.items():
            for purse, one in server.of(row).items():
                # granted = spent + released + outstanding, of each content and purse.
                assert one["outstanding"] >= 0, (name, purse)
                assert one["budget_units"] >= 0
                out += one["outstanding"]
            if name in self.coins:
                assert worth(server, row) == self.coins[name]
        # What the purses' pools were used for is what is out and what was shown, each once.
        if server.books.day >= 0:
            assert sum(books.used_today for books in server.regulator.every.values()) == out + self.spent_today


TestPurses = Purses.TestCase
TestPurses.settings = hypothesis_settings(max_examples=25, stateful_step_count=40)


@pytest.mark.slow
class TestManyPurses(Purses.TestCase):
    settings = hypothesis_settings(max_examples=300, stateful_step_count=60)
