"""A server's regulator on a store in memory."""

from collections.abc import Callable

import numpy as np
from service_samples import DAY_MS, NOW, content, settings

from upwell.regulator.layers import Arm, Design, Experiment
from upwell.service import experiments, ticker
from upwell.service.arms import Arms
from upwell.service.audit import Who
from upwell.service.experiments import Experiments, Plan
from upwell.service.live import NO_GRANTS, Live
from upwell.service.records import COUNTS
from upwell.service.regulator import Regulator
from upwell.state import Batch, open_store

COLUMN = {name: n for n, name in enumerate(COUNTS)}
HOUR_MS = 3_600_000
TICK_MS = 600_000
ANN = Who("operator", "Ann")


class Server:
    """A server's regulator on a store in memory: ticks written as the service does, shown impressions counted."""

    def __init__(self, **given) -> None:
        self.settings = settings(**given)
        self.live = Live(self.settings, "s")
        self.store = open_store("memory:")
        self.now = NOW
        self.regulator = self.started()

    def started(self) -> Regulator:
        """A regulator that begins with what the store has."""
        regulator = Regulator(self.settings, self.live, self.store, "s")
        regulator.load()
        regulator.lease = self.store.acquire("tick", "s", 1e6)
        return regulator

    @property
    def books(self) -> ticker.Books:
        return self.regulator.books

    def add(self, number: int, age_days: float = 0.0, **given) -> int:
        return self.live.add_content(content(number, self.now - int(age_days * DAY_MS), **given), {})

    def count(self, row: int, **amounts: int) -> None:
        for name, amount in amounts.items():
            self.live.contents.count(row, COLUMN[name], amount)

    def begin(self, heated_share: float = 0.0) -> ticker.Ticked:
        """A tick up to where it is written; servers do not know of it yet."""
        return self.regulator.run(self.regulator.snapshot(), heated_share, self.now, self.regulator.lease)

    def tick(self, heated_share: float = 0.0) -> ticker.Ticked:
        ticked = self.begin(heated_share)
        self.regulator.take(ticked, self.now)
        return ticked

    def heat(self, row: int, amount: int, purse: str = "") -> int:
        """Show a content's grant as often as requests may, as far as it is matched to anybody."""
        contents, left = self.live.contents, self.live.contents.left_in(purse)
        grants = self.live.purses.get(purse, NO_GRANTS) if purse else self.live.grants
        amount = min(amount, int(left[row])) if row in grants.rows else 0
        left[row] -= amount
        self.count(row, impressions=amount, heated=amount)
        if purse:
            contents.spend(purse, np.full(amount, row))
        return amount

    def experiment(self, change: Callable[[Experiments], object]) -> None:
        """Change which experiments run; the next tick goes by it."""
        experiments.change(self.store, change)
        if self.live.arms is None:
            self.live.arms = Arms(self.store, None, self.settings.holdout)
        self.live.arms.look(self.store.offsets())

    def split(self, name: str, *arms: Arm, design: Design = "budget_split") -> None:
        """Begin an experiment that splits money."""
        plan = Plan(Experiment(name=name, arms=arms, design=design))
        self.experiment(lambda every: every.begin(plan, ANN, self.now))

    def of(self, row: int) -> dict[str, dict[str, int]]:
        """A content's account of every purse: its counters, and what is outstanding of it."""
        out = {}
        for name, books in self.regulator.every.items():
            books.fit(row + 1)
            left = int(books.outstanding(self.live.contents, np.asarray([row]))[0])
            out[name] = {what: int(values[row]) for what, values in books.of.items()} | {"outstanding": left}
        return out

    def bury(self, row: int) -> int:
        """Take a content down, as a server does; returns what it had left."""
        name, left = self.live.contents.rows.names[row], 0
        batch = Batch()
        batch.delete("grant", name)
        for purse, account in self.of(row).items():
            back, books = max(account["outstanding"], 0), self.regulator.every[purse]
            ticker.count_day(batch, purse, self.now // DAY_MS, released=back)
            books.released_today += back
            books.close([row])
            left += back
        self.store.write(batch)
        self.live.contents.forget(name)
        return left
