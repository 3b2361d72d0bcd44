"""The books balance whatever happens, and outlive what is in memory."""

import numpy as np
import pytest
from books_samples import ASKS, POOLS, Platform
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule
from service_samples import DAY_MS
from ticker_samples import COLUMN, Server

from upwell.regulator.guards import proven_cheat
from upwell.regulator.ledger import COIN
from upwell.service import ticker


class Days(Platform):
    """Ticks, shown impressions, clicks, cheats, new days, restarts, contents that come and go, in any order."""

    @initialize(pool=POOLS, first_ask=ASKS)
    def open(self, pool, first_ask):
        self.carried = 0
        self.begin(pool, first_ask, 8)
        self.most = ticker.pool_of(self.server.settings, 8_000.0)

    # What users do.

    @rule(data=st.data())
    def shows(self, data):
        for row in self.server.live.contents.all_rows.tolist():
            if data.draw(st.booleans()):
                self.spent_today += self.server.heat(row, data.draw(st.sampled_from([1, 3, 10_000])))
                self.server.count(row, impressions=data.draw(st.sampled_from([0, 5, 200])))

    @rule(which=st.integers(0, 99), clicks=st.sampled_from([1, 15, 60]), valid=st.sampled_from([0.0, 0.6, 1.0]))
    def clicks(self, which, clicks, valid):
        rows = self.server.live.contents.all_rows
        row = int(rows[which % len(rows)])
        self.server.count(row, impressions=clicks, clicks=clicks, valid=round(valid * clicks))

    # Ticks, which take a while: impressions are shown meanwhile.

    @precondition(lambda self: self.pending is None)
    @rule(minutes=st.sampled_from([10, 300, 1_440]), share=st.sampled_from([0.0, 0.1, 0.19, 0.25]))
    def ticks(self, minutes, share):
        server, contents = self.server, self.server.live.contents
        server.now += minutes * 60_000
        names = {row: contents.rows.names[row] for row in contents.all_rows.tolist()}
        before = {row: self.account(row) for row in names}
        clicks, valid = (contents.counts[:, COLUMN[name]].astype(float) for name in ("clicks", "valid"))
        cheats = set(np.flatnonzero(proven_cheat(np, clicks, valid)).tolist())
        if server.now // DAY_MS != server.books.day:
            self.spent_today = 0
            self.carried = sum(max(left, 0) for left, _ in before.values())
            for row, name in names.items():  # the seed's rule: who earns clicks in the first week earns 50 coins a day
                impressions, scale = contents.counts[row, COLUMN["impressions"]], server.settings.scale
                young = server.now - contents.published_ms[row] < 7 * DAY_MS
                if name in self.coins and impressions >= 50 * scale and clicks[row] > 0.03 * impressions and young:
                    self.coins[name] += 50 * COIN
        self.pending = server.begin(share)
        granted, released = (self.pending.changes[name] for name in ("granted", "released"))
        for row, name in names.items():
            left, price = before[row]
            balance = self.coins.get(name, 100 * COIN)
            assert 0 <= released[row] <= max(left, 0)
            assert not (granted[row] and released[row])
            assert not (granted[row] and left > 0)  # one grant at a time
            balance += int(released[row]) * price
            balance -= int(granted[row]) * int(server.books.of["price_units"][row])
            if row in cheats:
                assert granted[row] == 0
                assert not (self.pending.grants.rows == row).any()
                if server.books.of["budget_units"][row] == 0:
                    balance = 0  # forfeit
            self.coins[name] = balance
        share_left = server.settings.pool * 8_000
        assert granted.sum() <= max(share_left, 0) + 1

    @precondition(lambda self: self.pending is None)
    @rule()
    def restarts(self):
        """A new process has the books that the store has, and grants after its first tick."""
        old = self.server.books
        self.server.regulator = self.server.started()
        new = self.server.books
        self.server.live.contents.left[:] = 0
        rows = self.server.live.contents.all_rows
        new.fit(len(old.opened))
        for name in ticker.BOOKS:
            np.testing.assert_array_equal(new.of[name][rows], old.of[name][rows])
        np.testing.assert_array_equal(new.opened[rows], old.opened[rows])
        if old.day >= 0:
            assert (new.day, new.granted_today, new.released_today, new.carried) == (
                old.day, old.granted_today, old.released_today, old.carried,
            )  # fmt: skip

    def account(self, row: int) -> tuple[int, int]:
        books = self.server.books
        books.fit(row + 1)
        left = int(books.outstanding(self.server.live.contents, np.asarray([row]))[0])
        return left, int(books.of["price_units"][row])

    @invariant()
    def balances(self):
        if not hasattr(self, "server"):
            return
        server, contents = self.server, self.server.live.contents
        rows = contents.all_rows
        server.books.fit(len(contents.live))
        left = server.books.outstanding(contents, rows)
        # granted = spent + released + outstanding, of each content.
        assert (left >= 0).all()
        assert (server.books.of["budget_units"][rows] >= 0).all()
        assert (server.books.of["granted"][rows] >= server.books.of["released"][rows]).all()
        for row in rows.tolist():
            name = contents.rows.names[row]
            if name in self.coins:
                assert server.books.of["budget_units"][row] == self.coins[name]
            else:
                assert not server.books.opened[row]
        # The day's pool: what is out and what was shown of it today never exceed it.
        assert int(left.sum()) + self.spent_today <= max(self.most, self.carried)


TestDays = Days.TestCase
TestDays.settings = hypothesis_settings(max_examples=60, stateful_step_count=40)


@pytest.mark.slow
class TestManyDays(Days.TestCase):
    settings = hypothesis_settings(max_examples=300, stateful_step_count=60)


def test_books_grow_and_keep_what_they_held():
    books = ticker.Books()
    books.load(7, {"granted": 5, "released": 2, "budget_units": 3, "price_units": 1, "seized_units": 4})
    books.fit(5_000)
    assert len(books.opened) >= 5_000
    assert {len(values) for values in books.of.values()} == {len(books.opened)}
    assert books.opened[7]
    assert [int(books.of[name][7]) for name in ticker.BOOKS] == [5, 2, 3, 1, 4]
    assert not books.opened[8:].any()


def test_a_row_that_another_content_takes_has_an_account_of_its_own():
    server = Server()
    row = server.add(1)
    server.tick()
    server.heat(row, 2)
    left = server.bury(row)
    assert left > 0
    assert server.add(2) == row
    assert server.books.outstanding(server.live.contents, np.asarray([row]))[0] == 0
    assert server.live.contents.left[row] == 0
    ticked = server.tick()
    assert ticked.changes["granted"][row] > 0
    assert server.store.counters("grant", ["c1"]) == [{}]
    assert server.books.of["granted"][row] == server.store.counters("grant", ["c2"])[0]["granted"]
