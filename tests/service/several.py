"""Several servers and their worker in one process, on a real store and a real journal, moved on by hand."""

from __future__ import annotations

import itertools
from pathlib import Path

from service_samples import DAY_MS, NOW

from upwell.events import open_log
from upwell.model import Candidate, Content, Request
from upwell.regulator.ledger import COIN
from upwell.service.follower import Follower
from upwell.service.node import Node
from upwell.service.settings import Settings
from upwell.service.worker import Worker
from upwell.state import Batch, open_store


class Several:
    """``worker`` folds and ticks only when it is told to; servers hear and report only when they are told to.

    The agents go by the rules: what is held to account here is the books, whoever decides.
    """

    def __init__(self, folder: Path, **given) -> None:
        self.settings = Settings(
            data=folder, workers=2, tick_s=1e6, flush_s=1e6, holdout=0.0, daily_impressions=30_000.0,
            live_contents=300.0, policy="", **given,
        )  # fmt: skip
        self.now = NOW
        self.users = (f"u{n}" for n in itertools.count())
        self.start()

    def start(self) -> None:
        self.worker = Worker(self.settings, open_store(self.settings.store_url), self.log(), self.clock)
        self.store = self.worker.store

    def restart(self) -> None:
        """The worker, as after a kill."""
        self.worker.consumer.close()
        self.worker.watcher.close()
        self.worker.events.close()
        self.worker.store.close()
        self.start()

    def clock(self) -> int:
        self.now += 1
        return self.now

    def log(self):
        return open_log("embedded:", self.settings.data / "journal", folding=False)

    async def server(self) -> Node:
        node = Node(self.settings, open_store(self.settings.store_url), self.log(), self.clock, shared=True)
        node.follower = Follower(self.settings, node.store, node.live, self.clock, node.events)
        node.follower.load()
        await node.follower.report()
        return node

    def kill(self, node: Node) -> None:
        """It says nothing more, and its journal is free."""
        node.follower.close()
        node.events.close()
        node.store.close()

    def contents(self, *names: str) -> None:
        batch = Batch()
        for name in names:
            content = Content(id=name, creator_id="m", tags=("t",), published_at=self.now - DAY_MS)
            batch.put("content", name, content_json(content))
        self.store.write(batch)
        self.worker._load()

    def count(self, name: str, **counts: int) -> None:
        """Counted by another worker."""
        batch = Batch()
        batch.add("content", name, counts)
        other = open_store(self.settings.store_url)
        other.write(batch)
        other.close()

    def fold(self) -> None:
        """All that is logged."""
        before, self.worker._next_tick_s = self.worker._next_tick_s, float("inf")
        for _ in range(20):
            self.worker.step()
        self.worker._next_tick_s = before

    async def tick(self, *servers: Node) -> None:
        """A slow tick that these servers hear of, and say so."""
        self.worker._follow()
        self.worker.tick()
        for node in servers:
            node.follower._take_meta(node.follower._meta())
            await node.follower.report()

    async def heat(self, node: Node, name: str, many: int) -> int:
        """Slates until ``many`` of them showed a content's grant, or none does any more; returns how many did."""
        done = 0
        for user in itertools.islice(self.users, 50 * many):
            others = tuple(Candidate(id=f"x{n}", score=1.0) for n in range(5))
            answer = await node.recommend(Request(user_id=user, candidates=others, size=5))
            done += sum(item.heated and item.id == name for item in answer.items)
            if done == many or not node.live.contents.left[node.live.contents.rows.at[name]]:
                break
        return done

    def books(self, name: str) -> tuple[int, int, int]:
        """Granted, released and spent of a content, as the store has it."""
        (grant,), (counts,) = self.store.counters("grant", [name]), self.store.counters("content", [name])
        return grant.get("granted", 0), grant.get("released", 0), counts.get("heated", 0)

    def coins_right(self, name: str) -> bool:
        """Whether the budget lost what is granted and not released, and nothing else."""
        (grant,) = self.store.counters("grant", [name])
        out = (grant["granted"] - grant.get("released", 0)) * grant.get("price_units", 0)
        return grant["budget_units"] + out == round(self.settings.budget * COIN)


def content_json(content: Content) -> bytes:
    import msgspec

    return msgspec.json.encode(content)
