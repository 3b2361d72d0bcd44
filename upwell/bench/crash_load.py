"""Load that keeps account of what was acknowledged: callers that repeat a call until it is answered for good."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import httpx

from upwell.client import Answer, Client, UpwellRefused
from upwell.model import Content, Interaction

T = TypeVar("T")
CONTENTS, CANDIDATES, SIZE = 120, 30, 5
DAY_MS = 86_400_000


@dataclass
class Account:
    """What callers were told."""

    events: list[Interaction] = field(default_factory=list[Interaction])  # acknowledged
    answered: int = 0  # slates
    unlogged: int = 0  # of them, in the ranker's order and remembered nowhere
    rejected: dict[str, int] = field(default_factory=dict[str, int])
    retries: int = 0


def register(url: str, now_ms: int) -> list[str]:
    """Contents to show, half of them new; their ids."""
    with Client(url, timeout_s=10.0) as client:
        for n in range(CONTENTS):
            age = DAY_MS // 2 if n % 2 else 10 * DAY_MS
            client.put_content(
                Content(id=f"c{n}", creator_id=f"by{n % 9}", tags=(f"t{n % 23}",), published_at=now_ms - age)
            )
    return [f"c{n}" for n in range(CONTENTS)]


class Caller(threading.Thread):
    """One caller with users of its own."""

    def __init__(self, number: int, url: str, contents: list[str], users: int, seed: int) -> None:
        super().__init__(name=f"caller {number}", daemon=True)
        self._url, self._contents = url, contents
        self._users = [f"u{number}-{n}" for n in range(users)]
        self._draw = random.Random(f"{seed} {number}")
        self._stopped = threading.Event()
        self.account = Account()
        self.error: BaseException | None = None

    def stop(self) -> None:
        self._stopped.set()

    def run(self) -> None:
        try:
            with Client(self._url, timeout_s=2.0) as client:
                while not self._stopped.is_set():
                    self._round(client)
        except BaseException as error:
            self.error = error

    def _round(self, client: Client) -> None:
        draw = self._draw
        user = draw.choice(self._users)
        candidates = [(id, draw.gauss(0, 1)) for id in draw.sample(self._contents, CANDIDATES)]
        request_id = uuid.uuid4().hex
        answer = self._until(lambda: client.recommend(user, candidates, SIZE, request_id=request_id))
        if answer is None:
            return
        self.account.answered += 1
        if answer.why in ("not_logged", "store_down"):
            self.account.unlogged += 1
            return
        events = self._reaction(answer)
        told = self._until(lambda: client.interactions(events))
        if told is None:
            return
        bad = {one.index: one.code for one in told.rejected}
        for code in bad.values():
            self.account.rejected[code] = self.account.rejected.get(code, 0) + 1
        # After a second try indices are those of the second call: with any rejected, none counts as acknowledged.
        if not bad:
            self.account.events += events

    def _reaction(self, answer: Answer) -> list[Interaction]:
        events: list[Interaction] = []
        for id in answer.ids():
            if self._draw.random() < 0.15:
                dwell_s = float(self._draw.randrange(5, 90))
                events.append(answer.click(id, dwell_s=dwell_s, completion=0.8))
                if self._draw.random() < 0.2:
                    events.append(answer.event(id, kind="purchase", purchased=True, value=12.5))
            else:
                events.append(answer.event(id))
        return events

    def _until(self, call: Callable[[], T]) -> T | None:
        """The answer, however often it takes; None once told to stop and still not answered."""
        while True:
            try:
                return call()
            except httpx.TransportError:
                pass
            except UpwellRefused as refused:
                if refused.status not in (429, 503):
                    raise
            self.account.retries += 1
            if self._stopped.is_set():
                return None
            time.sleep(0.05)


def merged(accounts: list[Account]) -> Account:
    out = Account()
    for one in accounts:
        out.events += one.events
        out.answered += one.answered
        out.unlogged += one.unlogged
        out.retries += one.retries
        for code, count in one.rejected.items():
            out.rejected[code] = out.rejected.get(code, 0) + count
    return out
