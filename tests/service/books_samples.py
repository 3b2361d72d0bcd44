"""What every test of the books lets happen: contents come and go, and a tick that was begun is told of."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from ticker_samples import Server

from upwell.service import ticker

POOLS, ASKS = st.sampled_from([0.001, 0.01, 0.1]), st.sampled_from([30.0, 1_000.0])


class Platform(RuleBasedStateMachine):
    """A server with contents of many ages; ``begin`` it first."""

    def begin(self, pool, first_ask, many):
        self.server = Server(pool=pool, first_ask=first_ask, live_contents=40.0, daily_impressions=8_000.0)
        self.numbers = iter(range(1, 10_000))
        self.coins: dict[str, int] = {}  # of each content whose account is open, in ledger units, kept apart
        self.spent_today = 0
        self.pending: ticker.Ticked | None = None
        self.came(many)

    @rule(many=st.integers(1, 3))
    def came(self, many):
        for _ in range(many):
            number = next(self.numbers)
            self.server.add(number, age_days=(number * 7 % 50) / 10)

    @precondition(lambda self: self.pending is None)
    @rule(which=st.integers(0, 99))
    def gone(self, which):
        rows = self.server.live.contents.all_rows
        if len(rows) > 3:
            row = int(rows[which % len(rows)])
            self.coins.pop(self.server.live.contents.rows.names[row], None)
            self.server.bury(row)

    @precondition(lambda self: self.pending is not None)
    @rule()
    def told(self):
        self.server.regulator.take(self.pending, self.server.now)
        self.pending = None
