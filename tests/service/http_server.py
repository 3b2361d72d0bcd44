"""The real service in a process of its own, as ``upwell serve`` starts it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

import httpx
import pytest

PATIENCE_S = 120.0
OPERATOR, CLIENT = "operator-token-7f3a", "client-token-91bc"
NOW_MS = time.time_ns() // 1_000_000


class Served:
    """A service on a folder; killed and started again on the same."""

    def __init__(self, folder: Path, *options: str, **variables: str) -> None:
        self.folder, self._options = folder, options
        self._variables = {"UPWELL_TICK_S": "0.5", **variables}
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            self.port = bound.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "service.log"
        folder.mkdir(parents=True, exist_ok=True)
        self.http = httpx.Client(base_url=self.url, timeout=30.0)
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-c", "from upwell.cli import main; main()", "serve", "--port", str(self.port)]
        command += ["--data", str(self.folder / "data"), *self._options]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | self._variables)
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until and self.process.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/readyz", timeout=5.0).is_success:
                    return
            time.sleep(0.05)
        raise RuntimeError(self.log.read_text())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def close(self) -> None:
        self.http.close()
        if self.process.poll() is None:
            self.kill()

    # ---- calls

    def content(self, id: str, **given):
        body = {"creator_id": "maker", "tags": ["t"], "published_at": NOW_MS - 86_400_000} | given
        return self.http.put(f"/v1/contents/{quoted(id)}", json=body)

    def recommend(self, user: str, candidates=("a", "b", "c"), size: int = 2, **given) -> httpx.Response:
        scored = [{"id": id, "score": float(-i)} for i, id in enumerate(candidates)]
        return self.http.post("/v1/recommend", json={"user_id": user, "candidates": scored, "size": size} | given)

    def tell(self, *events: dict) -> httpx.Response:
        return self.http.post("/v1/interactions", json={"events": list(events)})


def quoted(id: str) -> str:
    return httpx.QueryParams({"": id}).__str__()[1:].replace("+", "%20")


def event(answer: dict, user: str, k: int = 0, **given) -> dict:
    """What a user did with an item of a slate."""
    return {
        "event_id": uuid.uuid4().hex, "decision_id": answer["decision_id"], "content_id": answer["items"][k]["id"],
        "user_id": user, "ts": time.time_ns() // 1_000_000, "kind": "click", "clicked": True,
    } | given  # fmt: skip


def refused(response: httpx.Response, status: int, code: str | None = None, field: str | None = None) -> dict:
    """The one shape of every refusal."""
    assert response.status_code == status, response.text
    body = response.json()
    assert body.keys() == {"error"}
    error = body["error"]
    assert error.keys() == {"code", "message", "field"}
    assert all(isinstance(v, str) for v in error.values())
    assert error["message"]
    assert response.headers["content-type"] == "application/json"
    if code is not None:
        assert error["code"] == code
    if field is not None:
        assert error["field"] == field
    return error


@pytest.fixture(scope="session")
def served(tmp_path_factory):
    """One for all tests that break nothing."""
    one = Served(tmp_path_factory.mktemp("served"))
    for id in "abcdef":
        one.content(id)
    yield one
    one.close()


@pytest.fixture(scope="session")
def guarded(tmp_path_factory):
    """One that asks for tokens, with limits that are easily reached."""
    folder = tmp_path_factory.mktemp("guarded")
    one = Served(
        folder, UPWELL_CLIENT_TOKEN=CLIENT, UPWELL_OPERATOR_TOKEN=OPERATOR, UPWELL_BODY_BYTES="20000",
        UPWELL_CANDIDATES="20", UPWELL_EVENTS_A_CALL="5",
    )  # fmt: skip
    yield one
    one.close()


@pytest.fixture
def serve(tmp_path):
    """Starts services that a test may kill."""
    started = []

    def start(*options: str, **variables: str) -> Served:
        started.append(Served(tmp_path / f"served{len(started)}", *options, **variables))
        return started[-1]

    yield start
    for one in started:
        one.close()
