"""A server that is started again on the same folder: its decisions are new ones, its lease is the old one's."""

from __future__ import annotations

import asyncio
import threading

from http_server import NOW_MS
from servers import flushed

from upwell.events import open_log
from upwell.model import Candidate, Content, Request
from upwell.service.clock import Simulated
from upwell.service.follower import Follower
from upwell.service.live import Live
from upwell.service.node import Node
from upwell.service.settings import Settings
from upwell.state import Batch, open_store

ASK = Request(user_id="u", candidates=(Candidate(id="a", score=1.0),), size=1)


def test_a_decision_id_does_not_come_again_at_the_same_simulated_time(tmp_path):
    async def run():
        ids, leases = [], []
        for life in range(3):
            made = Settings(data=tmp_path, clock="request", flush_s=0.02)
            store = open_store(made.store_url)
            node = Node(made, store, open_log("embedded:", tmp_path / "journal"), Simulated())
            await node.start()
            await node.told(NOW_MS)
            await node.shelf.put(Content(id="a", creator_id="m", published_at=NOW_MS - 1))
            ids.append((await node.recommend(ASK)).decision_id)
            assert (await node.decision(ids[-1])).ts == NOW_MS
            leases.append(node.regulator.hold())  # at once, though the last life did not give it up
            node.regulator.lease = None
            assert node.live.users.record["requests"][node.live.users.rows.at["u"]] == life + 1
            await node.stop()
        assert len(set(ids)) == 3
        assert len({lease.owner for lease in leases}) == 1

    asyncio.run(run())


def test_a_server_that_starts_while_redis_is_away_waits_for_it(tmp_path, redis_server):
    settings = Settings(data=tmp_path, store=flushed(redis_server))
    store = open_store(settings.store_url)
    batch = Batch()
    batch.put("content", "a", b'{"id":"a","creator_id":"m","published_at":1}')
    store.write(batch)
    log = open_log("embedded:", tmp_path / "journal")
    follower = Follower(settings, store, Live(settings, "s1", False), lambda: NOW_MS, log)
    redis_server.kill()
    starting = threading.Thread(target=follower.load)
    starting.start()
    try:
        starting.join(1.0)
        assert starting.is_alive()
    finally:
        redis_server.start()
    starting.join(20.0)
    assert not starting.is_alive()
    assert "a" in follower.live.contents.rows.at
    follower.close()
    log.close()
    store.close()
