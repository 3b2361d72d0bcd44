"""Where a worker goes on: after another had its partition, and after a store that was away."""

from __future__ import annotations

import asyncio

import pytest
from several import Several

from upwell.model import Candidate, Request
from upwell.service import records
from upwell.service.worker import GROUP, Worker
from upwell.state import StoreDown, open_store
from upwell.state.memory import MemoryStore, Space


def test_what_another_worker_folded_meanwhile_is_not_written_over(tmp_path):
    """Regression: the first worker's memory of the user was from before, and went to the store with the next slate."""

    async def run():
        all_of = Several(tmp_path)
        all_of.contents("a", "b")
        node = await all_of.server()

        async def show() -> None:
            slate = (Candidate(id="a", score=1.0), Candidate(id="b", score=0.0))
            await node.recommend(Request(user_id="u", candidates=slate, size=1))

        def requests() -> int:
            (body,) = all_of.store.get("user", ["u"])
            return int(records.read_user(body)["requests"])

        await show()
        all_of.fold()
        assert requests() == 1
        first = all_of.worker
        second = Worker(all_of.settings, open_store(all_of.settings.store_url), all_of.log(), all_of.clock)
        first.consumer.close()
        await show()
        all_of.worker = second
        all_of.fold()
        assert requests() == 2
        second.consumer.close()
        first.consumer = first.events.consumer(GROUP, first._stored)
        await show()
        all_of.worker = first
        all_of.fold()
        assert requests() == 3

    asyncio.run(run())


class Weak(MemoryStore):
    """A store that can be taken away."""

    down = False

    def offsets(self):
        if self.down:
            raise StoreDown("taken away")
        return super().offsets()

    def write(self, batch):
        if self.down:
            raise StoreDown("taken away")
        super().write(batch)


def test_a_worker_that_cannot_look_where_the_store_is_passes_nothing_over(tmp_path):
    """Regression: it went on where it had read to, and what it had not saved of a new partition was lost."""

    async def run():
        all_of = Several(tmp_path)
        all_of.contents("a")
        node = await all_of.server()
        all_of.worker.consumer.close()
        store = Weak(Space())
        worker = all_of.worker = Worker(all_of.settings, store, all_of.log(), all_of.clock)

        async def show() -> None:
            await node.recommend(Request(user_id="u", candidates=(Candidate(id="a", score=1.0),), size=1))

        all_of.fold()  # it knows where to begin: nothing of this partition is saved
        await show()
        store.down = True
        with pytest.raises(StoreDown):
            all_of.fold()
        worker.reread()
        store.down = False
        await show()
        all_of.fold()
        (body,) = store.get("user", ["u"])
        assert int(records.read_user(body)["requests"]) == 2

    asyncio.run(run())


def test_a_worker_forgets_users_beyond_what_memory_holds_and_knows_them_again(tmp_path):
    async def run():
        all_of = Several(tmp_path, users_in_memory=1_000)
        all_of.contents("a")
        node = await all_of.server()
        names = [f"many{n}" for n in range(1_200)]

        async def show(to: list[str]) -> None:
            for name in to:
                await node.recommend(Request(user_id=name, candidates=(Candidate(id="a", score=1.0),), size=1))

        await show(names)
        all_of.fold()
        worker = all_of.worker
        assert len(worker.live.users.rows) == 1_200
        worker._next_tick_s = 0.0
        worker.step()
        assert len(worker.live.users.rows) == 900
        assert names[0] not in worker.live.users.rows.at
        assert names[0] not in worker.live.trails._of
        await show(names[:50])
        all_of.fold()
        told = all_of.store.get("user", names[:51])
        assert [int(records.read_user(body)["requests"]) for body in told] == [2] * 50 + [1]

    asyncio.run(run())
