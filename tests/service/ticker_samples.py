"""A server's regulator on a store in memory."""

import numpy as np
from service_samples import DAY_MS, NOW, content, settings

from upwell.service import ticker
from upwell.service.live import Live
from upwell.service.records import COUNTS
from upwell.service.regulator import Regulator
from upwell.state import Batch, open_store

COLUMN = {name: n for n, name in enumerate(COUNTS)}
HOUR_MS = 3_600_000
TICK_MS = 600_000


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

    def heat(self, row: int, amount: int) -> int:
        """Show a content's grant as often as requests may, as far as it is matched to anybody."""
        contents = self.live.contents
        amount = min(amount, int(contents.left[row])) if row in self.live.grants.rows else 0
        contents.left[row] -= amount
        self.count(row, impressions=amount, heated=amount)
        return amount

    def bury(self, row: int) -> int:
        """Take a content down, as a server does; returns what it had left."""
        name = self.live.contents.rows.names[row]
        batch = Batch()
        left = int(np.maximum(self.books.outstanding(self.live.contents, np.asarray([row])), 0).sum())
        batch.delete("grant", name)
        batch.add("meta", f"day {self.now // DAY_MS}", {"released": left})
        self.store.write(batch)
        self.books.released_today += left
        self.books.close([row])
        self.live.contents.forget(name)
        return left
