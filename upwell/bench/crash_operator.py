"""The operator of a crash run: begins, widens and ends an experiment whose arms have money of their own."""

from __future__ import annotations

import time

import httpx

from upwell.bench.crash_parts import PATIENCE_S
from upwell.errors import UpwellError

NAME = "halves"
PLAN = {
    "experiment": {
        "name": NAME, "design": "budget_split",
        "arms": [{"name": "a", "share": 0.3, "room": 0.5}, {"name": "b", "share": 0.3}],
    },
    "tolerated": 1.0,
}  # fmt: skip


def begin(url: str) -> None:
    """Two arms of three tenths each; who is in none has the rest. Raises UpwellError, as the others do."""
    ask("POST", f"{url}/v1/experiments", PLAN)


def widen(url: str) -> None:
    """Coins move to the arm that is wider now."""
    ask("PATCH", f"{url}/v1/experiments/{NAME}", {"shares": {"a": 0.5}})


def end(url: str) -> None:
    """Coins go back."""
    ask("DELETE", f"{url}/v1/experiments/{NAME}", None)


def ask(method: str, url: str, body: object) -> None:
    """Until it is done: what was asked for before the answer was lost may be refused as done already."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        try:
            answer = httpx.request(method, url, json=body, timeout=5.0)
        except httpx.TransportError:
            pass
        else:
            if answer.is_success or answer.status_code == 409:
                return
            if answer.status_code not in (429, 503):
                raise UpwellError(f"{method} {url}: {answer.status_code} {answer.text[:200]}")
        time.sleep(0.1)
    raise UpwellError(f"{method} {url}: not answered in {PATIENCE_S:g} s")
