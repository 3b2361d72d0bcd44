"""The application in this process, over a real node whose clock the test moves."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from service_samples import DAY_MS, NOW

from upwell.events import open_log
from upwell.model import Content
from upwell.service.app import create
from upwell.service.node import Node
from upwell.service.settings import Settings
from upwell.state import open_store

FIRST, SECOND, CLIENT = "first-key-11", "second-key-22", "client-key-33"


class Inside:
    """Calls of one service, each with a key."""

    def __init__(self, app, node: Node, clock: list[int]) -> None:
        self.node, self._clock = node, clock
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1")

    def wait(self, ms: int) -> None:
        self._clock[0] += ms

    async def __call__(self, method: str, path: str, body=None, key: str = FIRST, by: str = "") -> httpx.Response:
        headers = {"authorization": f"Bearer {key}"} | ({"upwell-by": by} if by else {})
        return await self.http.request(method, f"/v1{path}", json=body, headers=headers)

    async def done(self, *arguments, **options) -> dict:
        answer = await self(*arguments, **options)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def decide(self, user: str = "u1") -> dict:
        body = {"user_id": user, "candidates": [{"id": id, "score": 1.0} for id in "abc"], "size": 2}
        return await self.done("POST", "/recommend", body)

    async def audit(self, **query) -> list[tuple[str, str]]:
        """What was done, by whom."""
        told = await self.done("GET", "/audit?" + "&".join(f"{name}={value}" for name, value in query.items()))
        return [(entry["what"], entry["who"]) for entry in told["entries"]]


@asynccontextmanager
async def inside(folder: Path, keys: int = 2, **given):
    """A service with as many operators' keys; ticks and flushes come when the test says so."""
    tokens = {"client_token": CLIENT, "operator_token": FIRST, "second_token": SECOND if keys > 1 else None}
    values = {"data": folder, "tick_s": 1e6, "flush_s": 1e6, "policy": ""} | given
    settings, clock = Settings(**tokens | values), [NOW]

    async def start() -> Node:
        folder.mkdir(parents=True, exist_ok=True)
        store, log = open_store(settings.store_url), open_log("embedded:", folder / "journal")
        return Node(settings, store, log, lambda: clock[0])

    app = create(settings, start)
    async with app.router.lifespan_context(app):
        one = Inside(app, app.state.node, clock)
        for id in "abc":
            await one.node.shelf.put(Content(id=id, creator_id="m", published_at=NOW - DAY_MS))
        yield one
        await one.http.aclose()
