"""The books when a write fails: they hold what the store holds, whether it took place or not, to the unit."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from service_samples import DAY_MS, HOUR_MS, NOW, content, settings

from upwell.events import open_log
from upwell.model import Content
from upwell.service import ticker
from upwell.service.errors import Refused
from upwell.service.live import Live
from upwell.service.node import Node
from upwell.service.records import COLUMN
from upwell.service.regulator import Regulator
from upwell.service.settings import Settings
from upwell.state import Batch, StoreDown
from upwell.state.memory import MemoryStore, Space


class Failing(MemoryStore):
    """Fails the writes to come, before they take place or, with their answer lost, after."""

    def __init__(self, space: Space) -> None:
        super().__init__(space)
        self.fails: list[str] = []

    def write(self, batch):
        how = self.fails.pop(0) if self.fails else ""
        if how == "before":
            raise StoreDown("taken away")
        super().write(batch)
        if how == "after":
            raise StoreDown("no answer")


class Deaf(MemoryStore):
    """Does not answer the second time that it is asked for counters."""

    asked = 0

    def counters(self, kind, ids):
        self.asked += 1
        if self.asked == 2:
            raise StoreDown("taken away")
        return super().counters(kind, ids)


class Books:
    """A regulator on a store that fails, with contents that earn coins."""

    def __init__(self) -> None:
        self.space, self.now = Space(), NOW
        self.live = Live(settings(), "s")
        for n in range(30):
            row = self.live.add_content(content(n, NOW), {})
            self.live.contents.count(row, COLUMN["impressions"], 100)
            self.live.contents.count(row, COLUMN["clicks"], 10)
            self.live.contents.count(row, COLUMN["valid"], 10)
        self.store = Failing(self.space)
        self.regulator = Regulator(self.live.settings, self.live, self.store, "s")

    def tick(self) -> None:
        lease = self.regulator.hold()
        assert lease is not None
        self.regulator.run(self.regulator.snapshot(), 0.0, self.now, lease)

    def of(self, regulator: Regulator) -> dict:
        books, rows = regulator.books, self.live.contents.all_rows
        books.fit(int(rows.max()) + 1)
        return {
            "day": (books.day, books.granted_today, books.released_today, books.carried, regulator.number),
            "opened": books.opened[rows].tolist(),
            **{name: books.of[name][rows].tolist() for name in ticker.BOOKS},
        }

    def kept(self) -> dict:
        """The books of somebody who begins now."""
        anew = Regulator(self.live.settings, self.live, MemoryStore(self.space), "new")
        anew.load()
        return self.of(anew)


@pytest.mark.parametrize("how", ["before", "after"])
@pytest.mark.parametrize("write", [0, 1])  # of a day's first tick: that the day begins, and what is granted
def test_after_a_write_that_failed_the_books_are_the_stores(how, write):
    one = Books()
    one.tick()
    one.tick()
    assert one.of(one.regulator) == one.kept()
    one.now += DAY_MS
    one.live.contents.counts[:, COLUMN["heated"]] += 1  # what is outstanding changes with every slate
    one.store.fails = [""] * write + [how]
    with pytest.raises(StoreDown):
        one.tick()
    if how == "before":
        assert one.of(one.regulator) == one.kept()
    one.live.contents.counts[:, COLUMN["heated"]] += 1
    one.tick()  # tried again
    assert one.of(one.regulator) == one.kept()
    assert one.regulator.books.day == one.now // DAY_MS
    one.tick()
    assert one.of(one.regulator) == one.kept()


def test_an_hour_counts_once_where_the_store_fails_on_the_way():
    one = Books()
    one.tick()

    hour = Batch()
    hour.add("meta", f"hour {NOW // HOUR_MS}", {"free_impressions": 640, "free_clicks": 64})
    one.store.write(hour)
    one.regulator.store = Deaf(one.space)
    one.now += DAY_MS
    for _ in range(2):
        try:
            one.regulator.step_rates(one.now)
        except StoreDown:
            continue
    whole = Regulator(one.live.settings, one.live, MemoryStore(one.space), "new")
    whole.load()
    whole.step_rates(one.now)
    assert one.regulator.rates == whole.rates


def test_a_content_that_could_not_be_taken_down_keeps_its_account(tmp_path):
    async def run():
        store = Failing(Space())
        made = Settings(data=tmp_path, tick_s=1e6, flush_s=1e6)
        node = Node(made, store, open_log("embedded:", tmp_path / "journal"), lambda: NOW)
        await node.start()
        for n in range(5):
            await node.shelf.put(Content(id=f"c{n}", creator_id="m", published_at=NOW - 1))
        await node.tick()
        books, row = node.regulator.books, node.live.contents.rows.at["c1"]
        granted = books.of["granted"].copy()
        assert granted[row] > 0
        store.fails = ["before"]
        with pytest.raises(Refused):
            await node.shelf.take_down("c1")
        np.testing.assert_array_equal(books.of["granted"], granted)
        assert books.released_today == 0
        assert "c1" in node.live.contents.rows.at
        await node.shelf.take_down("c1")
        assert books.released_today == granted[row]
        assert store.counters("grant", ["c1"]) == [{}]
        await node.stop()

    asyncio.run(run())
