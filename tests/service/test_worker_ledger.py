"""The ledger of several servers: what a server showed is spent, whoever knew of it when."""

from __future__ import annotations

import asyncio

import pytest
from service_samples import HOUR_MS, NOW, server
from several import Several

from upwell.events import open_log
from upwell.model import Request
from upwell.service.follower import Follower
from upwell.service.node import Node
from upwell.state import StoreDown, open_store
from upwell.state.memory import MemoryStore

CHEAT = {"impressions": 200, "clicks": 100}
"""Counts with which a grant ends, and its coins are lost: clicks that nobody watched."""


def test_what_was_reported_and_is_not_folded_is_not_released(tmp_path):
    async def run():
        all_of = Several(tmp_path)
        all_of.contents("a")
        node = await all_of.server()
        await all_of.tick(node)
        await all_of.tick(node)
        granted, _, _ = all_of.books("a")
        assert granted == 10  # the chance that it is owed
        shown = await all_of.heat(node, "a", 4)
        assert shown == 4
        await node.follower.report()
        all_of.count("a", **CHEAT)
        for _ in range(3):  # withdrawn, heard, and released if nothing of it were under way
            await all_of.tick(node)
        assert await all_of.heat(node, "a", 1) == 0
        assert all_of.books("a") == (granted, 0, 0)
        all_of.fold()
        await all_of.tick(node)
        assert all_of.books("a") == (granted, granted - 4, 4)

    asyncio.run(run())


def test_what_a_killed_server_had_left_is_the_next_ones_once_its_log_is_folded(tmp_path):
    async def run():
        all_of = Several(tmp_path)
        all_of.contents("a")
        first, second = await all_of.server(), await all_of.server()
        for _ in range(3):
            await all_of.tick(first, second)
        granted, _, _ = all_of.books("a")
        row = first.live.contents.rows.at["a"]
        left = [int(node.live.contents.left[row]) for node in (first, second)]
        assert sum(left) == granted
        assert await all_of.heat(first, "a", 3) == 3  # and is killed before it reports them
        all_of.kill(first)
        third = await all_of.server()
        assert third.events.partition == first.events.partition
        for _ in range(3):
            await all_of.tick(second, third)
        assert int(third.live.contents.left[row]) + int(second.live.contents.left[row]) == left[1]
        all_of.fold()
        await all_of.tick(second, third)
        assert third.live.contents.left[row] <= left[1]  # not yet: what the killed one logged may go on
        assert await third.recommend(Request(user_id="z", candidates=(), size=1))
        all_of.fold()
        many = 0
        for _ in range(20):
            await all_of.tick(second, third)
            for node in (second, third):
                many += await all_of.heat(node, "a", granted)
        assert many == granted - 3
        all_of.fold()
        assert all_of.books("a") == (granted, 0, granted)
        assert all_of.coins_right("a")

    asyncio.run(run())


def test_what_one_server_showed_before_there_were_several_is_spent(tmp_path):
    async def run():
        all_of = Several(tmp_path)
        all_of.contents("a")
        alone = Node(all_of.settings, open_store(all_of.settings.store_url), all_of.log(), all_of.clock)
        await asyncio.to_thread(alone._recover)
        await alone.tick()
        granted, _, _ = all_of.books("a")
        assert await all_of.heat(alone, "a", 4) == 4
        await alone.stop()
        node = await all_of.server()
        all_of.worker.regulator.lease = None
        all_of.worker._load()
        for _ in range(3):
            await all_of.tick(node)
        assert await all_of.heat(node, "a", 10**3) == granted - 4
        all_of.fold()
        assert all_of.books("a") == (granted, 0, granted)

    asyncio.run(run())


class Away(MemoryStore):
    """A store that takes no writes while it is away."""

    away = False

    def write(self, batch):
        if self.away:
            raise StoreDown("away")
        super().write(batch)


def test_a_server_that_nobody_hears_of_for_long_heats_no_more(tmp_path):
    """By ``late_h`` its allowances are others'."""

    async def run():
        live, store, now = server(left=50), Away(), [NOW]
        events = open_log("embedded:", tmp_path)
        follower = Follower(live.settings, store, live, lambda: now[0], events)
        await follower.report()
        store.away = True
        for hours in (1, 11):
            now[0] = NOW + hours * HOUR_MS
            with pytest.raises(StoreDown):
                await follower.report()
            assert live.contents.left.any()
        now[0] = NOW + 12 * HOUR_MS + 1
        with pytest.raises(StoreDown):
            await follower.report()
        assert not live.contents.left.any()
        events.close()

    asyncio.run(run())
