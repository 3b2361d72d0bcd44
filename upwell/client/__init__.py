"""A client of the service, sync and async, with the same methods.

::

    from upwell.client import Client

    with Client("http://127.0.0.1:8080") as upwell:
        answer = upwell.recommend("user-7", [("video-1", 3.2), ("video-2", 2.9)], size=10)
        upwell.interactions([answer.click("video-1", dwell_s=41.0)])

Calls that may be repeated are repeated: after a lost connection, 429 and 503, with the wait that the service asks for.
``recommend`` may be, because each carries a ``request_id``; events may be, because each carries an ``event_id``.
Whatever fails for good raises ``UpwellRefused`` or ``httpx.TransportError``: fall back to the ranker's order then.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from upwell import model
from upwell.client import calls
from upwell.client.calls import Wire
from upwell.model import Content, Interaction, Taken, User, Weights

T = TypeVar("T")
TRIES = 4
AGAIN = (429, 503)
LONGEST_WAIT_S = 5.0
UNKNOWN_DECISION = "unknown_decision"

KEPT_S = 2.0
"""An idle connection is not used again after this. The server closes it after 5 s: a client that kept it as long would
now and then send a request into a connection that is being closed."""
LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=KEPT_S)


class UpwellRefused(Exception):
    """The service said no: ``status``, ``code``, the ``field`` that was wrong, and what to do as the message."""

    def __init__(self, status: int, code: str, message: str, field: str) -> None:
        super().__init__(f"{message} ({code}{f', {field}' if field else ''})")
        self.status, self.code, self.field = status, code, field


class Answer(model.Answer, frozen=True):
    """A slate, and whom it is for."""

    user_id: str = ""

    def ids(self) -> list[str]:
        """What to show, top first."""
        return [item.id for item in self.items]

    def event(self, content_id: str, **what: Any) -> Interaction:
        """Something the user did with an item of this slate: ``clicked``, ``dwell_s``, ``completion``, ``shared``,
        ``purchased``, ``value``; ``ts`` is now unless given."""
        given: dict[str, Any] = {"ts": time.time_ns() // 1_000_000, "event_id": uuid.uuid4().hex} | what
        return Interaction(content_id=content_id, user_id=self.user_id, decision_id=self.decision_id, **given)

    def click(self, content_id: str, **what: Any) -> Interaction:
        """A click."""
        return self.event(content_id, kind="click", clicked=True, **what)


def read(answer: httpx.Response, kind: type[T]) -> T:
    """The body as a record. Raises UpwellRefused."""
    if answer.is_success:
        return msgspec.json.decode(answer.content, type=kind)
    try:
        told = msgspec.json.decode(answer.content)["error"]
        raise UpwellRefused(answer.status_code, told["code"], told["message"], told.get("field", ""))
    except (msgspec.DecodeError, KeyError, TypeError):
        raise UpwellRefused(answer.status_code, "unreadable", answer.text[:200], "") from None


def wait_s(answer: httpx.Response | None, tries: int) -> float:
    """Time until the next try: what the service asks for, else growing."""
    asked = answer.headers.get("retry-after", "") if answer is not None else ""
    return min(float(asked) if asked.isdecimal() else 0.1 * 2**tries, LONGEST_WAIT_S)


def for_user(answer: Answer, user_id: str) -> Answer:
    return msgspec.structs.replace(answer, user_id=user_id)


def unknown(taken: Taken, events: Sequence[Interaction]) -> list[Interaction]:
    """Events whose decision another server made a moment ago: worth a second try."""
    return [events[r.index] for r in taken.rejected if r.code == UNKNOWN_DECISION]


def together(first: Taken, again: Taken) -> Taken:
    """Both answers as one, about the events of the first call."""
    kept = [r for r in first.rejected if r.code != UNKNOWN_DECISION]
    at = [r.index for r in first.rejected if r.code == UNKNOWN_DECISION]
    kept += [msgspec.structs.replace(r, index=at[r.index]) for r in again.rejected]
    rejected = tuple(sorted(kept, key=lambda one: one.index))
    return Taken(first.accepted + again.accepted, first.duplicates + again.duplicates, rejected)


def headers_of(token: str | None, by: str) -> dict[str, str]:
    named = {"Upwell-By": quote(by, safe="")} if by else {}
    return {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {}) | named


class Client:
    """Calls that wait. One may be shared by threads. ``by``: a name for the audit log, beside the token's role."""

    def __init__(self, url: str, token: str | None = None, timeout_s: float = 1.0, by: str = "") -> None:
        self._http = httpx.Client(base_url=url, headers=headers_of(token, by), timeout=timeout_s, limits=LIMITS)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def recommend(self, user_id: str, candidates: Iterable[tuple[str, float]], size: int, **options: Any) -> Answer:
        """A slate of ``size`` out of (id, score) pairs. Options: ``request_id``, ``exclude``, ``inject``, ``shadow``,
        ``context``, ``pushed`` (ids that the platform boosts itself)."""
        return for_user(self._call(calls.recommend(user_id, candidates, size, options), Answer), user_id)

    def interactions(self, events: Sequence[Interaction]) -> Taken:
        """Tell what users did. Returns once it is durable."""
        taken = self._call(calls.events(events), Taken)
        if again := unknown(taken, events):
            time.sleep(1.0)
            taken = together(taken, self._call(calls.events(again), Taken))
        return taken

    def put_content(self, content: Content) -> None:
        """Register a content, or change it."""
        self._call(calls.put("contents", content), dict[str, Any])

    def put_user(self, user: User) -> None:
        """Tell how old an account is."""
        self._call(calls.put("users", user), dict[str, Any])

    def explain(self, decision_id: str, content_id: str | None = None) -> dict[str, Any]:
        """Why a decision came out as it did; and what ``content_id``, which was not shown, lacked."""
        return self._call(calls.explain(decision_id, content_id), dict[str, Any])

    def content(self, content_id: str) -> dict[str, Any]:
        """A content's state and its story."""
        return self._call(calls.content(content_id), dict[str, Any])

    def trust(self, content_id: str | None = None) -> dict[str, Any]:
        """Who is judged to cheat: everybody who is doubted, or one content."""
        return self._call(calls.trust(content_id), dict[str, Any])

    def appeal(self, content_id: str, verdict: str | None, why: str = "") -> dict[str, Any]:
        """An operator's word: ``honest`` or ``cheat`` stands above the judge's, None takes it back."""
        return self._call(calls.trust(content_id, {"verdict": verdict, "why": why}), dict[str, Any])

    def policies(self) -> dict[str, Any]:
        """Versions of the policy, and who gets which."""
        return self._call(calls.policies(), dict[str, Any])

    def activate(self, version: str) -> dict[str, Any]:
        """Make a version live for all users."""
        return self._call(calls.policies(f"/{quote(version, safe='')}/activate"), dict[str, Any])

    def roll_back(self) -> dict[str, Any]:
        """End the trial under way, or go back to the version before."""
        return self._call(calls.policies("/rollback"), dict[str, Any])

    def goals(self) -> dict[str, Any]:
        """Goals, what is proposed for them, and the weights that hold."""
        return self._call(calls.goals(), dict[str, Any])

    def put_goal(self, text: str, **options: Any) -> dict[str, Any]:
        """Ask for something in words; the answer's ``id`` names it. Options: ``id``, ``aims``, ``bounds``, ``from_ms``,
        ``until_ms``."""
        return self._call(calls.put_goal(text, options), dict[str, Any])

    def put_weights(self, id: str, weights: Weights, program: str = "") -> dict[str, Any]:
        """Propose weights of your own for a goal."""
        return self._call(calls.put_weights(id, weights, program), dict[str, Any])

    def approve(self, id: str, why: str = "") -> dict[str, Any]:
        """Take what is proposed for a goal."""
        return self._call(calls.goal("POST", id, "/approve", why), dict[str, Any])

    def refuse(self, id: str, why: str = "") -> dict[str, Any]:
        """A goal is not to come in force."""
        return self._call(calls.goal("POST", id, "/refuse", why), dict[str, Any])

    def lift(self, id: str, why: str = "") -> dict[str, Any]:
        """Lift a goal: the weights before it hold again."""
        return self._call(calls.goal("DELETE", id, "", why), dict[str, Any])

    def experiments(self) -> dict[str, Any]:
        """Experiments, the latest first."""
        return self._call(calls.experiments(), dict[str, Any])

    def experiment(self, name: str) -> dict[str, Any]:
        """An experiment: its arms' figures, effects, checks and what to do."""
        return self._call(calls.experiments(name=name), dict[str, Any])

    def begin(self, plan: dict[str, Any]) -> dict[str, Any]:
        """Begin an experiment: ``experiment`` with ``name`` and ``arms``; ``metric``, ``guardrails`` …"""
        return self._call(calls.experiments("POST", body=plan), dict[str, Any])

    def arms_of(
        self, name: str, users: Iterable[str], contexts: Iterable[dict[str, Any]] | None = None
    ) -> list[str | None]:
        """The arm of an experiment that each user is in; None who is in none. ``contexts``: as in their requests."""
        return self._call(calls.arms_of(name, users, contexts), dict[str, Any])["arms"]

    def ramp(self, name: str, shares: dict[str, float], why: str = "") -> dict[str, Any]:
        """Widen or narrow arms of an experiment."""
        return self._call(calls.experiments("PATCH", name, {"shares": shares}, why), dict[str, Any])

    def stop(self, name: str, why: str = "") -> dict[str, Any]:
        """End an experiment."""
        return self._call(calls.experiments("DELETE", name, why=why), dict[str, Any])

    def audit(self, since: int = 0, limit: int = 100) -> dict[str, Any]:
        """Who changed what, when and why: the latest entries since a time (Unix ms), oldest first."""
        return self._call(calls.audit(since, limit), dict[str, Any])

    def _call(self, call: Wire, kind: type[T]) -> T:
        for tries in range(TRIES):
            last = tries == TRIES - 1
            answer: httpx.Response | None = None
            try:
                answer = self._http.request(call.method, call.path, content=call.body)
                if answer.status_code not in AGAIN or last:
                    return read(answer, kind)
            except httpx.TransportError:
                if last:
                    raise
            time.sleep(wait_s(answer, tries))
        raise AssertionError("unreachable")


class AsyncClient:
    """The same calls for an event loop."""

    def __init__(self, url: str, token: str | None = None, timeout_s: float = 1.0, by: str = "") -> None:
        self._http = httpx.AsyncClient(base_url=url, headers=headers_of(token, by), timeout=timeout_s, limits=LIMITS)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def recommend(
        self, user_id: str, candidates: Iterable[tuple[str, float]], size: int, **options: Any
    ) -> Answer:
        """See ``Client.recommend``."""
        return for_user(await self._call(calls.recommend(user_id, candidates, size, options), Answer), user_id)

    async def interactions(self, events: Sequence[Interaction]) -> Taken:
        """See ``Client.interactions``."""
        taken = await self._call(calls.events(events), Taken)
        if again := unknown(taken, events):
            await asyncio.sleep(1.0)
            taken = together(taken, await self._call(calls.events(again), Taken))
        return taken

    async def put_content(self, content: Content) -> None:
        """See ``Client.put_content``."""
        await self._call(calls.put("contents", content), dict[str, Any])

    async def put_user(self, user: User) -> None:
        """See ``Client.put_user``."""
        await self._call(calls.put("users", user), dict[str, Any])

    async def explain(self, decision_id: str, content_id: str | None = None) -> dict[str, Any]:
        """See ``Client.explain``."""
        return await self._call(calls.explain(decision_id, content_id), dict[str, Any])

    async def content(self, content_id: str) -> dict[str, Any]:
        """See ``Client.content``."""
        return await self._call(calls.content(content_id), dict[str, Any])

    async def trust(self, content_id: str | None = None) -> dict[str, Any]:
        """See ``Client.trust``."""
        return await self._call(calls.trust(content_id), dict[str, Any])

    async def appeal(self, content_id: str, verdict: str | None, why: str = "") -> dict[str, Any]:
        """See ``Client.appeal``."""
        return await self._call(calls.trust(content_id, {"verdict": verdict, "why": why}), dict[str, Any])

    async def policies(self) -> dict[str, Any]:
        """See ``Client.policies``."""
        return await self._call(calls.policies(), dict[str, Any])

    async def activate(self, version: str) -> dict[str, Any]:
        """See ``Client.activate``."""
        return await self._call(calls.policies(f"/{quote(version, safe='')}/activate"), dict[str, Any])

    async def roll_back(self) -> dict[str, Any]:
        """See ``Client.roll_back``."""
        return await self._call(calls.policies("/rollback"), dict[str, Any])

    async def goals(self) -> dict[str, Any]:
        """See ``Client.goals``."""
        return await self._call(calls.goals(), dict[str, Any])

    async def put_goal(self, text: str, **options: Any) -> dict[str, Any]:
        """See ``Client.put_goal``."""
        return await self._call(calls.put_goal(text, options), dict[str, Any])

    async def put_weights(self, id: str, weights: Weights, program: str = "") -> dict[str, Any]:
        """See ``Client.put_weights``."""
        return await self._call(calls.put_weights(id, weights, program), dict[str, Any])

    async def approve(self, id: str, why: str = "") -> dict[str, Any]:
        """See ``Client.approve``."""
        return await self._call(calls.goal("POST", id, "/approve", why), dict[str, Any])

    async def refuse(self, id: str, why: str = "") -> dict[str, Any]:
        """See ``Client.refuse``."""
        return await self._call(calls.goal("POST", id, "/refuse", why), dict[str, Any])

    async def lift(self, id: str, why: str = "") -> dict[str, Any]:
        """See ``Client.lift``."""
        return await self._call(calls.goal("DELETE", id, "", why), dict[str, Any])

    async def experiments(self) -> dict[str, Any]:
        """See ``Client.experiments``."""
        return await self._call(calls.experiments(), dict[str, Any])

    async def experiment(self, name: str) -> dict[str, Any]:
        """See ``Client.experiment``."""
        return await self._call(calls.experiments(name=name), dict[str, Any])

    async def begin(self, plan: dict[str, Any]) -> dict[str, Any]:
        """See ``Client.begin``."""
        return await self._call(calls.experiments("POST", body=plan), dict[str, Any])

    async def arms_of(
        self, name: str, users: Iterable[str], contexts: Iterable[dict[str, Any]] | None = None
    ) -> list[str | None]:
        """See ``Client.arms_of``."""
        return (await self._call(calls.arms_of(name, users, contexts), dict[str, Any]))["arms"]

    async def ramp(self, name: str, shares: dict[str, float], why: str = "") -> dict[str, Any]:
        """See ``Client.ramp``."""
        return await self._call(calls.experiments("PATCH", name, {"shares": shares}, why), dict[str, Any])

    async def stop(self, name: str, why: str = "") -> dict[str, Any]:
        """See ``Client.stop``."""
        return await self._call(calls.experiments("DELETE", name, why=why), dict[str, Any])

    async def audit(self, since: int = 0, limit: int = 100) -> dict[str, Any]:
        """See ``Client.audit``."""
        return await self._call(calls.audit(since, limit), dict[str, Any])

    async def _call(self, call: Wire, kind: type[T]) -> T:
        for tries in range(TRIES):
            last = tries == TRIES - 1
            answer: httpx.Response | None = None
            try:
                answer = await self._http.request(call.method, call.path, content=call.body)
                if answer.status_code not in AGAIN or last:
                    return read(answer, kind)
            except httpx.TransportError:
                if last:
                    raise
            await asyncio.sleep(wait_s(answer, tries))
        raise AssertionError("unreachable")
