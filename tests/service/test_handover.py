"""A partition goes from one worker to another and comes back."""

from __future__ import annotations

import asyncio

from several import Several

from upwell.model import Candidate, Request
from upwell.service import records
from upwell.service.worker import GROUP, Worker
from upwell.state import open_store


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
