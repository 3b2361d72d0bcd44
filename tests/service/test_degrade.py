"""What the service stands on fails: requests are answered still, nothing acknowledged is lost, and it catches up."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager

import httpx
import msgspec
import pytest
from http_server import NOW_MS, event, refused
from redis import Redis

from upwell.events import Limits, open_log
from upwell.model import Candidate, Content, Request
from upwell.service.app import create
from upwell.service.errors import Refused
from upwell.service.node import Node
from upwell.service.settings import Settings
from upwell.state import StoreDown, open_store
from upwell.state.memory import MemoryStore, Space

PATIENCE_S = 90.0
CANDIDATES = (Candidate(id="a", score=1.0), Candidate(id="b", score=0.0))
ASK = Request(user_id="u", candidates=CANDIDATES, size=1, inject=False)


def until(met) -> None:
    end = time.monotonic() + PATIENCE_S
    while not met():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)


class Weak(MemoryStore):
    """A store that can be taken away."""

    down = False

    def _look(self) -> None:
        if self.down:
            raise StoreDown("taken away")

    def get(self, kind, ids):
        self._look()
        return super().get(kind, ids)

    def write(self, batch):
        self._look()
        super().write(batch)

    def tail(self, kind, id, n):
        self._look()
        return super().tail(kind, id, n)


@asynccontextmanager
async def node_on(folder, store, limits: Limits | None = None, **given):
    settings = Settings(data=folder, **{"tick_s": 1e6, "flush_s": 0.02} | given)
    node = Node(settings, store, open_log("embedded:", folder / "journal", limits), lambda: NOW_MS)
    await node.start()
    for name in "ab":
        await node.shelf.put(Content(id=name, creator_id="m", published_at=NOW_MS - 1))
    yield node
    await node.stop()


def click(answer, event_id: str, user: str = "u") -> dict:
    return {
        "event_id": event_id, "decision_id": answer.decision_id, "content_id": answer.items[0].id, "user_id": user,
        "ts": NOW_MS, "kind": "click", "clicked": True,
    }  # fmt: skip


def body(*events: dict) -> bytes:
    return msgspec.json.encode({"events": events})


def test_without_the_store_the_log_keeps_what_comes(tmp_path):
    async def run():
        space = Space()
        store = Weak(space)
        async with node_on(tmp_path, store) as node:
            first = await node.recommend(ASK)
            await node.saver.flush()
            store.down = True
            second = await node.recommend(ASK)
            assert not second.degraded  # everybody is in memory, and the log has it
            taken = await node.interactions(body(click(first, "e1"), click(second, "e2")))
            assert taken.accepted == 2
            await asyncio.sleep(0.2)
            assert node.store_down
            assert node.saver.unsaved_s() > 0
            with pytest.raises(Refused) as told:
                await node.decision(second.decision_id)
            assert (told.value.status, told.value.code) == (429, "store_down")
            with pytest.raises(Refused):
                await node.shelf.put(Content(id="z", creator_id="m", published_at=NOW_MS))
            assert "z" not in node.live.contents.rows.at
            store.down = False
            await asyncio.sleep(0.3)
            assert await node.decision(second.decision_id) is not None
            assert len(MemoryStore(space).tail("history", "u", 10)) == 2
            assert not node.store_down

    asyncio.run(run())


def test_nobody_is_taken_for_new_while_the_store_cannot_be_asked(tmp_path):
    async def run():
        store = Weak(Space())
        async with node_on(tmp_path, store) as node:
            node.recall.everyone = False
            store.down = True
            answer = await node.recommend(ASK)
            assert (answer.degraded, answer.why, [i.id for i in answer.items]) == (True, "store_down", ["a"])
            assert "u" not in node.live.users.rows.at
            with pytest.raises(Refused) as told:
                await node.interactions(body(click(answer, "e1")))
            assert (told.value.status, told.value.retry_after_s) == (429, 1)
            store.down = False
            assert not (await node.recommend(ASK)).degraded

    asyncio.run(run())


def test_a_full_log_is_told_and_empties(tmp_path):
    async def run():
        space = Space()
        store = Weak(space)
        limits = Limits(segment_bytes=2_000, max_bytes=12_000)
        async with node_on(tmp_path, store, limits) as node:
            store.down = True
            taken, answers = 0, []
            for n in range(200):
                answers.append(await node.recommend(ASK))
                if answers[-1].degraded:
                    break
                try:
                    taken += (await node.interactions(body(click(answers[-1], f"e{n}")))).accepted
                except Refused:
                    break
            logged = [answer for answer in answers if not answer.degraded]
            last = await node.recommend(ASK)
            while not last.degraded:
                last = await node.recommend(ASK)
            assert (last.why, [i.id for i in last.items]) == ("not_logged", ["a"])
            with pytest.raises(Refused) as told:
                await node.interactions(body(*(click(logged[0], f"f{n}") for n in range(100))))
            assert (told.value.status, told.value.code, told.value.retry_after_s) == (429, "log_down", 1)
            store.down = False
            await asyncio.sleep(0.3)
            assert not (await node.recommend(ASK)).degraded
            assert (await node.interactions(body(click(logged[0], "again")))).accepted == 1
            await node.saver.flush()
            assert len(MemoryStore(space).tail("history", "u", 1_000)) == taken + 1

    asyncio.run(run())


def test_while_draining(tmp_path):
    async def run():
        async with node_on(tmp_path, MemoryStore()) as node:
            app = create(node.settings, None)
            app.state.node = node
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
                assert (await http.get("/readyz")).status_code == 200
                node.draining = True
                for method, path in (("GET", "/readyz"), ("POST", "/v1/recommend"), ("GET", "/v1/switch")):
                    answer = await http.request(method, path)
                    refused(answer, 503, "not_ready")
                    assert answer.headers["retry-after"] == "1"
                assert (await http.get("/healthz")).status_code == 200

    asyncio.run(run())


@pytest.mark.slow
def test_redis_dies_and_returns(serve, redis_server):
    url = f"redis://{redis_server.address}/0"
    with Redis.from_url(url) as client:
        client.flushall()
    one = serve("--store", url)
    for id in "ab":
        one.content(id)
    first = one.recommend("u", "ab", 1).json()
    until(lambda: one.http.get(f"/v1/decisions/{first['decision_id']}").status_code == 200)
    redis_server.kill()
    try:
        second = one.recommend("u", "ab", 1)
        assert second.status_code == 200
        both = (event(first, "u", event_id="e1"), event(second.json(), "u", event_id="e2"))
        assert one.tell(*both).json()["accepted"] == 2
        until(lambda: "upwell_store_down 1.0" in one.http.get("/metrics").text)
        answer = one.http.get(f"/v1/decisions/{first['decision_id']}")
        refused(answer, 429, "store_down")
        assert answer.headers["retry-after"] == "1"
        one.kill()  # and with what only the log has, the service dies too
    finally:
        redis_server.start()
    one.start()
    history = one.http.get("/v1/users/u").json()["history"]
    assert sorted(past["event_id"] for past in history) == ["e1", "e2"]
    store = open_store(url)
    assert len(store.tail("history", "u", 10)) == 2
    store.close()


@pytest.mark.slow
def test_the_broker_dies_and_returns(serve, kafka_server):
    one = serve("--events", f"kafka://{kafka_server.address}?partitions=2")
    for id in "ab":
        one.content(id)
    time.sleep(1.0)
    first = one.recommend("u", "ab", 1).json()
    assert one.tell(event(first, "u", event_id="e1")).json()["accepted"] == 1
    kafka_server.kill()
    try:
        second = one.recommend("u", "ab", 1)
        assert second.status_code == 200
        assert one.tell(event(second.json(), "u", event_id="e2")).json()["accepted"] == 1
    finally:
        kafka_server.start()
    told = lambda: [e["event_id"] for e in one.http.get("/v1/users/u").json().get("history", [])]  # noqa: E731
    until(lambda: sorted(told()) == ["e1", "e2"])
