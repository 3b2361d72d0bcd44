"""The service against its own document: no 5xx, answers as described, and a refusal changes nothing."""

from __future__ import annotations

import asyncio
import os
import threading

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from upwell.events import open_log
from upwell.model import Content
from upwell.service.app import create
from upwell.service.node import Node
from upwell.service.settings import Settings
from upwell.state import open_store

CASES = float(os.environ.get("UPWELL_CASES", "1"))
"""More cases than usual, or fewer."""
HOT = {("POST", "/v1/recommend"): 1_500, ("POST", "/v1/interactions"): 1_500}
COLD = {
    ("PUT", "/v1/contents/{id}"): 500, ("POST", "/v1/contents"): 500, ("GET", "/v1/contents/{id}"): 150,
    ("DELETE", "/v1/contents/{id}"): 100,
    ("PUT", "/v1/users/{id}"): 300, ("GET", "/v1/users/{id}"): 150, ("DELETE", "/v1/users/{id}"): 150,
    ("GET", "/v1/decisions/{id}"): 150, ("PUT", "/v1/switch"): 150, ("GET", "/v1/switch"): 10,
    ("GET", "/v1/policies"): 10, ("GET", "/v1/policies/{id}"): 100, ("POST", "/v1/policies/{id}/activate"): 150,
    ("POST", "/v1/policies/rollback"): 20, ("GET", "/v1/goals"): 10, ("PUT", "/v1/goals"): 200,
    ("PUT", "/v1/goals/{id}/proposal"): 100, ("POST", "/v1/goals/{id}/approve"): 50, ("GET", "/v1/audit"): 50,
    ("POST", "/v1/goals/{id}/refuse"): 50, ("DELETE", "/v1/goals/{id}"): 50,
    ("GET", "/v1/experiments"): 10, ("POST", "/v1/experiments"): 200, ("GET", "/v1/experiments/{id}"): 50,
    ("PATCH", "/v1/experiments/{id}"): 100, ("DELETE", "/v1/experiments/{id}"): 50,
    ("POST", "/v1/experiments/{id}/arms"): 100,
    ("GET", "/v1/trust"): 10, ("GET", "/v1/trust/{id}"): 50, ("PUT", "/v1/trust/{id}"): 150,
    ("GET", "/healthz"): 10, ("GET", "/readyz"): 10, ("GET", "/metrics"): 10,
}  # fmt: skip
NOW_MS = 1_790_000_000_000


class InProcess:
    """The application on an event loop of its own, over a real node on memory and a journal."""

    def __init__(self, folder) -> None:
        self.settings = Settings(data=folder, tick_s=1e6, flush_s=1e6, store="memory:")
        self.writes = 0
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        self.app = create(self.settings, self._node)
        self._life = self.app.router.lifespan_context(self.app)
        self.wait(self._life.__aenter__())
        self.node: Node = self.app.state.node
        for loop in self.node._loops:
            self.loop.call_soon_threadsafe(loop.cancel)  # contents that expire while cases run are no refusal's doing
        for name in "abc":
            self.wait(self.node.shelf.put(Content(id=name, creator_id="m", published_at=NOW_MS)))
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://127.0.0.1")

    async def _node(self) -> Node:
        store, log = open_store("memory:"), open_log("embedded:", self.settings.data / "journal")
        for one, name in ((store, "write"), (log, "append")):
            setattr(one, name, self._counted(getattr(one, name)))
        return Node(self.settings, store, log, lambda: NOW_MS)

    def _counted(self, method):
        def counted(*arguments):
            self.writes += 1
            return method(*arguments)

        return counted

    def wait(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(60)

    def state(self) -> tuple:
        """What a refused request may not change; all that is new is saved first."""
        self.wait(self.node.saver.flush())
        live = self.node.live
        return self.writes, live.mode, dict(live.offsets), sorted(live.users.rows.at), sorted(live.contents.rows.at)

    def send(self, case) -> httpx.Response:
        asked = requests.Request(**case.as_transport_kwargs(base_url="http://127.0.0.1")).prepare()
        call = self.http.request(asked.method, asked.url, headers=dict(asked.headers), content=asked.body)
        return self.wait(call)

    def close(self) -> None:
        self.wait(self.http.aclose())
        self.wait(self._life.__aexit__(None, None, None))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


@pytest.fixture(scope="module")
def inside(tmp_path_factory):
    one = InProcess(tmp_path_factory.mktemp("inside"))
    yield one
    one.close()


def judge(case, response: httpx.Response) -> None:
    assert response.status_code < 500, response.text
    case.operation.validate_response(response)
    if response.status_code >= 400:
        assert response.json()["error"].keys() == {"code", "message", "field"}


def cases_of(document: dict, method: str, path: str):
    operation = schemathesis.openapi.from_dict(document)[path][method]
    right = operation.as_strategy()
    if not (operation.body or operation.path_parameters):
        return right
    return st.one_of(right, operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))


def examples(count: int):
    return settings(
        max_examples=max(round(count * CASES), 5), database=None, derandomize=True,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("method", "path"), [*HOT, *COLD])
def test_every_route_in_process(inside, method, path):
    count = (HOT | COLD)[method, path]

    @examples(count)
    @given(cases_of(inside.app.openapi(), method, path))
    def check(case):
        before = inside.state()
        response = inside.send(case)
        judge(case, response)
        if response.status_code >= 400:
            assert inside.state() == before

    check()


@pytest.mark.slow
@pytest.mark.parametrize(("method", "path"), [*HOT, ("PUT", "/v1/contents/{id}")])
def test_over_http(served, method, path):
    @examples(100)
    @given(cases_of(served.http.get("/openapi.json").json(), method, path))
    def check(case):
        asked = requests.Request(**case.as_transport_kwargs(base_url=served.url)).prepare()
        try:
            response = served.http.request(asked.method, asked.url, headers=dict(asked.headers), content=asked.body)
        except (httpx.InvalidURL, httpx.LocalProtocolError):
            return
        judge(case, response)

    check()


def test_every_operation_is_tried(inside):
    there = {(m.upper(), path) for path, methods in inside.app.openapi()["paths"].items() for m in methods}
    assert there == {*HOT, *COLD}
    assert sum((HOT | COLD).values()) >= 5_000
