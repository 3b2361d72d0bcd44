"""What comes in of a user while they are erased: it is refused, or erased too. The store has nothing of them then."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from http_server import NOW_MS
from service_samples import NOW, request, server, shown
from several import Several

from upwell.events import open_log
from upwell.model import Candidate, Content, Request, User
from upwell.service import wire
from upwell.service.errors import Refused
from upwell.service.follower import Follower
from upwell.service.node import Node
from upwell.service.settings import Settings
from upwell.state import Batch
from upwell.state.memory import MemoryStore, Space
from upwell.state.sqlite import SqliteStore

USER = "erase-me-9f2c"
BYTES = USER.encode()
FEW = (Candidate(id="a", score=1.0), Candidate(id="b", score=0.0))


def ask(user: str = USER, **given) -> Request:
    return Request(user_id=user, candidates=FEW, size=2, inject=False, **given)


def click(answer, event_id: str, user: str = USER, **given) -> dict:
    return {
        "event_id": event_id, "decision_id": answer.decision_id if answer else None, "content_id": "a", "user_id": user,
        "kind": "click", "clicked": True,
    } | given  # fmt: skip


def body(*events: dict) -> bytes:
    return msgspec.json.encode({"events": events})


def found(folder: Path, *below: str) -> list[str]:
    """Files that hold the user's id."""
    paths = [path for name in below for path in folder.glob(name) if path.is_file()]
    assert paths
    return [str(path) for path in paths if BYTES in path.read_bytes()]


class Slow(SqliteStore):
    """The real thing, on a disk that takes its time: an erasure ends when it is told to."""

    def __init__(self, *given) -> None:
        super().__init__(*given)
        self.erased, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()

    def erase(self, owner):
        erased = super().erase(owner)
        self.erased.set()
        assert self.go_on.wait(60.0)
        return erased

    def get(self, kind, ids):
        got = super().get(kind, ids)
        if kind == "user":
            time.sleep(0.7)
        return got


@asynccontextmanager
async def node_on(folder: Path, flush_s: float):
    made = Settings(data=folder, tick_s=1e6, flush_s=flush_s)
    store = Slow(str(folder / "state.db"), 5.0, time.time)
    node = Node(made, store, open_log("embedded:", folder / "journal"), lambda: NOW_MS)
    await node.start()
    for name in "ab":
        await node.shelf.put(Content(id=name, creator_id="m", published_at=NOW_MS - 1))
    yield node
    await node.stop()


async def flood(node: Node, answer, ts: int, stop: asyncio.Event) -> tuple[int, int]:
    """All that may come in of a user, without end; returns how many events were taken and refused."""
    taken = refused = 0
    n = 0
    while not stop.is_set():
        n += 1
        events = [click(answer, f"old{n}", ts=ts), click(None, f"new{n}", ts=ts)]
        told = await node.interactions(body(*events, click(None, f"other{n}", "another", ts=ts)))
        refused += sum(one.code == "erasing" for one in told.rejected)
        taken += told.accepted
        fresh = await node.recommend(ask(request_id=f"r{n}"))
        if fresh.why != "erasing":
            told = await node.interactions(body(click(fresh, f"fresh{n}", ts=ts)))
            refused += sum(one.code == "erasing" for one in told.rejected)
        await asyncio.sleep(0)
    return taken, refused


def test_nothing_that_comes_in_meanwhile_is_left(tmp_path):
    async def run():
        async with node_on(tmp_path, 0.005) as node:
            for _ in range(3):
                answer = await node.recommend(ask())
                stop = asyncio.Event()
                node.store.erased.clear()
                node.store.go_on.clear()
                floods = [asyncio.create_task(flood(node, answer, NOW_MS, stop)) for _ in range(3)]
                await asyncio.sleep(0.1)
                erasing = asyncio.create_task(node.erasure.erase(USER))
                while node.erasure.user is None:
                    await asyncio.sleep(0)
                with pytest.raises(Refused) as told:
                    await node.put_user(User(id=USER, created_at=NOW_MS - 1))
                assert (told.value.status, told.value.code) == (409, "erasing")
                while not node.store.erased.is_set():
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.2)  # some of it before the store has erased them, some after
                stop.set()
                counts = await asyncio.gather(*floods)
                node.store.go_on.set()
                assert await erasing > 0
                assert sum(taken for taken, _ in counts) > 0
                assert sum(refused for _, refused in counts) > 0
                for _ in range(3):
                    await node.saver.flush()
                assert found(tmp_path, "state.db*", "journal/*/*.frames") == []
                assert USER not in node.live.users.rows.at
            assert node.store.get("user", ["another"]) != [None]
            # Who comes back is somebody new.
            back = await node.recommend(ask())
            assert not back.degraded
            assert node.live.users.record["requests"][node.live.users.rows.at[USER]] == 1

    asyncio.run(run())


def test_what_failed_to_be_saved_before_is_erased_too(tmp_path):
    async def run():
        async with node_on(tmp_path, 1e6) as node:
            await node.recommend(ask())
            # A write that failed is repeated first, and what came since is new still.
            node.saver._pending = node.live.unsaved()
            await node.recommend(ask())
            assert await node.erasure.erase(USER) > 0
            await node.saver.flush()
            assert found(tmp_path, "state.db*", "journal/*/*.frames") == []

    asyncio.run(run())


def test_what_was_being_read_is_not_in_memory_afterwards(tmp_path):
    async def run():
        async with node_on(tmp_path, 1e6) as node:
            await node.recommend(ask())
            await node.saver.flush()
            node.live.users.forget(USER)
            node.recall.everyone = False  # as with more users than memory holds
            reading = asyncio.create_task(node.recall.users([USER]))
            await asyncio.sleep(0.05)
            assert await node.erasure.erase(USER) > 0
            assert reading.done()
            assert USER not in node.live.users.rows.at

    asyncio.run(run())


# ---- several servers


def test_with_several_servers_the_worker_erases_in_the_order_of_the_log(tmp_path):
    """What is logged and not folded yet is folded first, so that it counts for contents, and then erased."""

    async def run():
        all_of = Several(tmp_path)
        all_of.contents("a", "b")
        first, second = await all_of.server(), await all_of.server()
        answers = [await node.recommend(ask()) for node in (first, second)]
        all_of.fold()
        late = await second.recommend(ask())
        assert (await second.interactions(body(click(answers[1], "e1", ts=all_of.now)))).accepted == 1
        erasing = asyncio.create_task(first.erasure.erase(USER))
        while not erasing.done():
            await asyncio.to_thread(all_of.fold)
        assert await erasing > 0
        # The other server has not heard of it, and takes what it should refuse.
        assert (await second.interactions(body(click(late, "e2", ts=all_of.now)))).accepted == 1
        all_of.fold()
        assert all_of.worker.order.waiting == []  # for a decision that is gone nobody waits
        assert all_of.worker.live.failures["orphans"] == 1
        all_of.store.scrub()
        assert found(tmp_path, "state.db*") == []
        (counted,) = all_of.store.counters("content", ["a"])
        assert (counted["impressions"], counted["clicks"]) == (3, 1)

    asyncio.run(run())


def test_what_comes_late_of_an_erased_user_counts_and_is_erased(tmp_path):
    """A journal whose process was dead for a while: its entries are older than the erasure that is folded already."""

    async def run():
        all_of = Several(tmp_path)
        all_of.contents("a", "b")
        first, second = await all_of.server(), await all_of.server()
        await first.recommend(ask())
        all_of.fold()
        line = wire.Event(wire.SCHEMA, all_of.clock(), erase=USER)
        early = all_of.clock() - 5
        first.events.append("user-interactions", [(USER, line.received_ms, wire.encoder.encode(line))])
        all_of.fold()
        second.clock = second.follower.clock = lambda: early
        await second.recommend(ask())
        all_of.fold()
        all_of.store.scrub()
        assert found(tmp_path, "state.db*") == []
        (counted,) = all_of.store.counters("content", ["a"])
        assert counted["impressions"] == 2

    asyncio.run(run())


def test_a_worker_killed_before_it_erased_erases_when_it_is_back(tmp_path):
    async def run():
        all_of = Several(tmp_path)
        all_of.contents("a", "b")
        first = await all_of.server()
        await first.recommend(ask())
        line = wire.Event(wire.SCHEMA, all_of.clock(), erase=USER)
        first.events.append("user-interactions", [(USER, line.received_ms, wire.encoder.encode(line))])
        await first.recommend(ask("another"))

        def killed(*_) -> None:
            raise KeyboardInterrupt

        all_of.worker._erase = killed
        with pytest.raises(KeyboardInterrupt):
            all_of.fold()
        assert all_of.store.get("user", [USER]) != [None]
        all_of.restart()
        all_of.fold()
        all_of.store.scrub()
        assert found(tmp_path, "state.db*") == []
        assert all_of.store.get("user", ["another"]) != [None]

    asyncio.run(run())


def test_another_server_hears_of_it_and_refuses(tmp_path):
    async def run():
        space = Space()
        live, events = server(users=0), open_log("embedded:", tmp_path)
        follower = Follower(live.settings, MemoryStore(space), live, lambda: NOW, events)
        follower.load()
        (line,) = shown(live, [request(USER, ["c1", "c2"], size=2)])
        other = MemoryStore(space)
        batch = Batch()
        batch.put("user", USER, live.users.record[live.users.rows.at[USER]].tobytes())
        other.write(batch)
        await follower.follow()
        assert line.decision_id in live.slates
        other.erase(USER)
        await follower.follow()
        assert USER not in live.users.rows.at
        assert line.decision_id not in live.slates
        follower.close()
        events.close()

    asyncio.run(run())
