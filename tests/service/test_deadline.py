"""A store that hangs, neither answering nor refusing, keeps no request beyond its deadline."""

from __future__ import annotations

import asyncio
import time

import msgspec
from http_server import NOW_MS
from redis import Redis
from servers import flushed
from service_samples import NOW
from several import Several

from upwell.events import open_log
from upwell.model import Candidate, Content, Request
from upwell.service import records
from upwell.service.node import Node
from upwell.service.settings import Settings
from upwell.state import Batch, open_store

HANGS_S, IN_TIME_S = 3.0, 1.5
CANDIDATES = (Candidate(id="a", score=0.0), Candidate(id="b", score=1.0))


def ask(user: str, request_id: str | None = None) -> Request:
    return Request(user_id=user, candidates=CANDIDATES, size=1, request_id=request_id)


def test_an_answer_does_not_wait_for_a_store_that_hangs(tmp_path, redis_server):
    url = flushed(redis_server)

    async def run():
        made = Settings(data=tmp_path, store=url, tick_s=1e6, flush_s=0.02, deadline_ms=200.0)
        node = Node(made, open_store(url), open_log("embedded:", tmp_path / "journal"), lambda: NOW_MS)
        await node.start()
        for name in "ab":
            await node.shelf.put(Content(id=name, creator_id="m", published_at=NOW_MS - 1))
        first = await node.recommend(ask("known", "r1"))
        await node.saver.flush()
        node.answers.clear()  # as after a restart: only the store has it
        assert await node.recommend(ask("known", "r1")) == first
        assert not first.degraded
        assert not (await node.recommend(ask("known", "r2"))).degraded
        node.answers.clear()
        node.recall.everyone = False
        with Redis.from_url(url) as client:
            client.client_pause(round(HANGS_S * 1_000))
        began = time.monotonic()
        again = await asyncio.gather(
            node.recommend(ask("known", "r1")), node.recommend(ask("stranger")), node.recommend(ask("other", "r3"))
        )
        assert time.monotonic() - began < IN_TIME_S
        for answer in again:
            assert (answer.degraded, answer.why, [i.id for i in answer.items]) == (True, "store_down", ["b"])
            assert answer.decision_id not in node.live.slates  # there may be an earlier one: this one counts nowhere
        assert not (await node.recommend(ask("known"))).degraded  # memory has all that it takes
        assert time.monotonic() - began < IN_TIME_S
        assert "stranger" not in node.live.users.rows.at
        await asyncio.sleep(HANGS_S)
        assert not (await node.recommend(ask("stranger", "r4"))).degraded
        await node.stop()

    asyncio.run(run())


def test_a_slate_for_somebody_who_cannot_be_read_in_time_is_logged_where_a_worker_folds(tmp_path, redis_server):
    """Regression: it was remembered nowhere, and what users did with it was refused (`unknown_decision`)."""
    url = flushed(redis_server)

    async def run():
        all_of = Several(tmp_path, store=url, deadline_ms=100.0)
        all_of.contents("a", "b")
        known = records.new_user(NOW, 0.25)
        known["requests"] = 41
        batch = Batch()
        batch.put("user", "known", known.tobytes())
        all_of.store.write(batch)
        node = await all_of.server()
        with Redis.from_url(url) as client:
            client.client_pause(1_000)
        began = time.monotonic()
        slates = await asyncio.gather(node.recommend(ask("known")), node.recommend(ask("new")))
        assert time.monotonic() - began < 0.9
        for answer in slates:
            assert (answer.degraded, answer.why, answer.arm) == (True, "slow_store", "raw")
            assert [item.id for item in answer.items] == ["b"]
        unsure = await node.recommend(ask("known", "r1"))
        assert (unsure.why, unsure.decision_id in node.live.slates) == ("store_down", False)
        await asyncio.sleep(1.2)
        # What was asked for too late for the first request is there for the next.
        assert node.live.users.record[node.live.users.rows.at["known"]]["requests"] == 41
        events = [
            {"event_id": f"e{n}", "decision_id": a.decision_id, "content_id": "b", "user_id": user, "ts": NOW,
             "clicked": True}
            for n, (a, user) in enumerate(zip(slates, ("known", "new"), strict=True))
        ]  # fmt: skip
        taken = await node.interactions(msgspec.json.encode({"events": events}))
        assert (taken.accepted, taken.rejected) == (2, ())
        all_of.fold()
        stored = [records.read_user(body) for body in all_of.store.get("user", ["known", "new"])]
        assert [int(one["requests"]) for one in stored] == [42, 1]
        assert [int(one["open_clicks"]) for one in stored] == [1, 1]
        assert all_of.store.counters("content", ["b"])[0] == {"impressions": 2, "clicks": 2}
        (line,) = all_of.store.get("decision", [slates[0].decision_id])
        told = msgspec.json.decode(line)
        assert (told["why"], told.get("daily")) == ("slow_store", None), "nor is it told when they came before"

    asyncio.run(run())
