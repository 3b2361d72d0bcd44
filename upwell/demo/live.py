"""The simulated platform's requests, sent to a running service; and what its users did, told to it.

One tick of the world is one burst of requests: all are sent, all slates are in, then the users respond. The service
goes by the world's clock (a header says what time it is), so that days take seconds.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx
import jax
import jax.numpy as jnp
import msgspec
import numpy as np
from jax.experimental import io_callback

from upwell.client import KEPT_S, Answer, Taken
from upwell.demo.bootstrap import Names, content_of, time_ms
from upwell.model import Candidate, Interaction, Request
from upwell.regulator import slate
from upwell.service.app import NOW
from upwell.world.arm import Arm, Elsewhere, ranker_scores
from upwell.world.config import WorldConfig
from upwell.world.population import users_per_cell
from upwell.world.state import Contents

T = TypeVar("T")
CONNECTIONS = 16
AT_ONCE = 2_000  # events a call


@dataclass
class Figures:
    """Live numbers."""

    decisions: int = 0
    degraded: int = 0
    heated: int = 0
    shown: int = 0
    clicks: int = 0
    events: int = 0
    day: int = 0
    latencies_s: list[float] = field(default_factory=list[float])

    def quantile_ms(self, q: float) -> float:
        return float(np.quantile(self.latencies_s, q)) * 1_000 if self.latencies_s else 0.0


class Platform:
    """Host side of a world whose slates a service decides. Its loop runs in a thread of its own."""

    def __init__(
        self, config: WorldConfig, url: str, contents: Contents, step: Callable[[Figures], None] = lambda _: None
    ) -> None:
        self.config, self.figures, self._step = config, Figures(), step
        self.tells = True  # else the service hears of nothing that users do
        self.also: Callable[[list[Interaction]], list[Interaction]] = lambda events: []  # what liars tell beside it
        self._names = Names(config.sizes.contents)
        self._generation = np.asarray(contents.generation).copy()
        self._answers: dict[tuple[int, int], tuple[str, Answer]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        limits = httpx.Limits(
            max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS, keepalive_expiry=KEPT_S
        )
        self._http = self._wait(self._open(url, limits))

    async def _open(self, url: str, limits: httpx.Limits) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=url, limits=limits, timeout=60.0)

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        self._wait(self._http.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def arm(self) -> Arm:
        """The arm of a world whose slates this platform's service decides."""
        return Arm("live", scores=ranker_scores, elsewhere=Elsewhere(self._decide, self._tell))

    def ranked_by(self, arm: Arm) -> Arm:
        """An arm of the platform's own whose slates go by the service, which shows them as they are: its experiment
        counts what comes of them, and what ``arm`` heats is told as pushed."""
        return arm._replace(elsewhere=Elsewhere(self._show, self._tell))

    def operate(self, method: str, path: str, body: object, now_ms: int) -> dict[str, Any]:
        """A call of an operator's. Raises RuntimeError where it is refused."""
        told = None if body is None else msgspec.json.encode(body)
        return msgspec.json.decode(self._wait(self._call(method, path, told, now_ms)))

    def arms_of(self, experiment: str, users: list[str], now_ms: int) -> list[str | None]:
        """The arm of an experiment that each user is in."""
        found: list[str | None] = []
        for first in range(0, len(users), AT_ONCE):
            asked = {"users": [{"id": user} for user in users[first : first + AT_ONCE]]}
            found += self.operate("POST", f"/v1/experiments/{experiment}/arms", asked, now_ms)["arms"]
        return found

    def probe(self, now_ms: int) -> Answer:
        """The answer to a request of nobody's."""
        request = Request(user_id="probe", candidates=(), size=1, shadow=True)
        body = self._wait(self._call("POST", "/v1/recommend", msgspec.json.encode(request), now_ms))
        return msgspec.json.decode(body, type=Answer)

    # ---- in the world's program

    def _decide(self, view: Any, batch: Any, moment: Any, question: slate.Question) -> slate.Slate:
        of = (question.ids, question.scores, question.blocked)
        return self._answered(self.ask, moment, batch, *of, view.contents)

    def _show(self, view: Any, batch: Any, moment: Any, question: slate.Question) -> slate.Slate:
        picked = slate.build(jnp, size=self.config.sizes.slate, **question._asdict())
        return self._answered(self.show, moment, batch, picked.ids, picked.kind, view.contents)

    def _answered(self, asks: Callable[..., Any], moment: Any, batch: Any, *of: Any) -> slate.Slate:
        shape = (*moment.place.shape, self.config.sizes.slate)
        whole, real = jax.ShapeDtypeStruct(shape, jnp.int32), jax.ShapeDtypeStruct(shape, jnp.float32)
        ids, kind, propensity = io_callback(
            asks, (whole, whole, real), moment.now_h, moment.place, moment.present, batch.users.created_day, *of,
            ordered=True,
        )  # fmt: skip
        return slate.Slate(ids, kind, propensity, propensity < 1.0, jnp.zeros_like(ids))

    def _tell(self, view: Any, moment: Any, picked: slate.Slate, outcome: Any) -> None:
        io_callback(
            self.told, None, moment.now_h, outcome.clicked, outcome.dwell_s, outcome.completion, outcome.shared,
            outcome.value, picked.ids, view.contents.generation, ordered=True,
        )  # fmt: skip

    # ---- on the host

    def ask(
        self,
        now_h: Any,
        place: Any,
        present: Any,
        created: Any,
        ids: Any,
        scores: Any,
        blocked: Any,
        contents: Contents,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Slates of one tick's requests: contents' places, kinds and propensities ``[S, R, K]``."""
        ids, scores, blocked = np.asarray(ids), np.asarray(scores), np.asarray(blocked)

        def given(s: int, r: int, generation: np.ndarray) -> tuple[Candidate, ...]:
            open_ = ~blocked[s, r]
            names = [self._names.content(int(c), int(generation[c])) for c in ids[s][open_]]
            return tuple(
                Candidate(id=name, score=score) for name, score in zip(names, scores[s, r][open_].tolist(), strict=True)
            )

        self._requests(now_h, place, present, created, contents, given)
        shape = (*np.shape(present), self.config.sizes.slate)
        return self._shown(np.broadcast_to(ids[:, None, : shape[-1]], shape))

    def show(
        self, now_h: Any, place: Any, present: Any, created: Any, ids: Any, kind: Any, contents: Contents
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As ``ask``, of slates that the platform decided itself, ``[S, R, K]``: the service shows them as they are, as
        long as their experiment runs."""
        ids, pushed = np.asarray(ids), np.asarray(kind) == slate.HEATED

        def given(s: int, r: int, generation: np.ndarray) -> tuple[Candidate, ...]:
            return tuple(
                Candidate(id=self._names.content(c, int(generation[c])), score=-float(k), pushed=bool(pushed[s, r, k]))
                for k, c in enumerate(ids[s, r].tolist())
            )

        self._requests(now_h, place, present, created, contents, given)
        return self._shown(ids)

    def _shown(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What answers show: contents' places, kinds and propensities ``[S, R, K]``; ``ids`` where they leave off."""
        out_ids = ids.astype(np.int32, copy=True)
        kind, propensity = np.zeros(ids.shape, np.int32), np.ones(ids.shape, np.float32)
        many = self.config.sizes.contents
        for (s, r), (_, answer) in self._answers.items():
            for item in answer.items:
                k = item.position
                out_ids[s, r, k] = int(item.id[1:]) % many
                kind[s, r, k] = slate.HEATED if item.heated else slate.EXPLORED if item.explored else slate.ORGANIC
                propensity[s, r, k] = item.propensity
        self.figures.heated += int((kind == slate.HEATED).sum())
        self.figures.shown += sum(len(answer.items) for _, answer in self._answers.values())
        return out_ids, kind, propensity

    def _requests(
        self, now_h: Any, place: Any, present: Any, created: Any, contents: Contents,
        given: Callable[[int, int, np.ndarray], tuple[Candidate, ...]],
    ) -> None:  # fmt: skip
        """Ask for a slate for everybody present, of the candidates ``given`` by place and contents' generations."""
        host = jax.tree.map(np.asarray, contents)
        now_ms = time_ms(float(now_h))
        self.figures.day = int(now_h) // 24
        self._wait(self._register(host, now_ms))
        place, created = np.asarray(place), np.asarray(created)
        users_a_cell = users_per_cell(self.config.sizes)
        calls: list[tuple[tuple[int, int], str, Request]] = []
        for s, r in np.argwhere(np.asarray(present)).tolist():
            user = Names.user(s * users_a_cell + int(place[s, r]), int(created[s, r]))
            candidates = given(s, r, host.generation)
            calls.append(((s, r), user, Request(user_id=user, candidates=candidates, size=self.config.sizes.slate)))
        self._answers = self._wait(self._recommend(calls, now_ms))

    def told(
        self,
        now_h: Any,
        clicked: Any,
        dwell_s: Any,
        completion: Any,
        shared: Any,
        value: Any,
        ids: Any,
        generation: Any,
    ) -> None:
        """What the users of the tick did."""
        now_ms = time_ms(float(now_h))
        clicked, dwell_s, completion = np.asarray(clicked), np.asarray(dwell_s), np.asarray(completion)
        shared, value, ids, generation = map(np.asarray, (shared, value, ids, generation))
        events: list[Interaction] = []
        for (s, r), (user, answer) in self._answers.items():
            # What the service could not fill of a slate is the world's own: it knows nothing of that.
            for k in np.flatnonzero(clicked[s, r, : len(answer.items)]).tolist():
                content = int(ids[s, r, k])
                events.append(
                    Interaction(
                        event_id=f"{answer.decision_id}-{k}",
                        content_id=self._names.content(content, int(generation[content])),
                        user_id=user,
                        ts=now_ms,
                        kind="click",
                        decision_id=answer.decision_id,
                        clicked=True,
                        dwell_s=min(float(dwell_s[s, r, k]), 604_800.0),
                        completion=min(max(float(completion[s, r, k]), 0.0), 1.0),
                        shared=bool(shared[s, r, k]),
                        purchased=bool(value[s, r, k] > 0),
                        value=float(value[s, r, k]),
                    )
                )
        self.figures.clicks += len(events)
        events += self.also(events)
        for first in range(0, len(events) if self.tells else 0, AT_ONCE):
            self._wait(self._interactions(events[first : first + AT_ONCE], now_ms))
        self._step(self.figures)

    async def _register(self, contents: Contents, now_ms: int) -> None:
        """Contents born since the last tick, in the places of others."""
        born = np.flatnonzero(np.asarray(contents.generation) != self._generation).tolist()
        if not born:
            return
        gate = asyncio.Semaphore(CONNECTIONS)

        async def one(place: int) -> None:
            async with gate:
                old = self._names.content(place, int(self._generation[place]))
                await self._call("DELETE", f"/v1/contents/{old}", None, now_ms)
                content = content_of(self.config, contents, place)
                await self._call("PUT", f"/v1/contents/{content.id}", msgspec.json.encode(content), now_ms)

        await asyncio.gather(*map(one, born))
        self._generation = np.asarray(contents.generation).copy()

    async def _recommend(
        self, calls: list[tuple[tuple[int, int], str, Request]], now_ms: int
    ) -> dict[tuple[int, int], tuple[str, Answer]]:
        gate = asyncio.Semaphore(CONNECTIONS)
        answers: dict[tuple[int, int], tuple[str, Answer]] = {}

        async def one(key: tuple[int, int], user: str, request: Request) -> None:
            async with gate:
                began = time.perf_counter()
                body = await self._call("POST", "/v1/recommend", msgspec.json.encode(request), now_ms)
                self.figures.latencies_s.append(time.perf_counter() - began)
            answer = msgspec.json.decode(body, type=Answer)
            self.figures.degraded += answer.degraded
            answers[key] = (user, answer)

        await asyncio.gather(*(one(*call) for call in calls))
        self.figures.decisions += len(calls)
        return answers

    async def _interactions(self, events: list[Interaction], now_ms: int) -> None:
        body = await self._call("POST", "/v1/interactions", msgspec.json.encode({"events": events}), now_ms)
        taken = msgspec.json.decode(body, type=Taken)
        if wrong := [one for one in taken.rejected if one.code != "too_many"]:  # of liars no more is taken than that
            raise RuntimeError(f"the service rejected {len(wrong)} events: {wrong[0].message}")
        self.figures.events += taken.accepted

    async def _call(self, method: str, path: str, body: bytes | None, now_ms: int) -> bytes:
        answer = await self._http.request(method, path, content=body, headers={NOW: str(now_ms)})
        if not answer.is_success:
            raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text[:200]}")
        return answer.content
