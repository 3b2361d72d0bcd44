"""Each call of the service as it goes over the wire, the same for both clients."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from upwell.model import Candidate, Content, Interaction, Request, User, Weights


class Wire(NamedTuple):
    """One HTTP call."""

    method: str
    path: str
    body: bytes | None = None


def recommend(user_id: str, candidates: Iterable[tuple[str, float]], size: int, options: dict[str, Any]) -> Wire:
    options = {"request_id": uuid.uuid4().hex} | options
    pushed = set(options.pop("pushed", ()))
    given = tuple(Candidate(id=id, score=score, pushed=id in pushed) for id, score in candidates)
    request = Request(user_id=user_id, candidates=given, size=size, **options)
    return Wire("POST", "/v1/recommend", msgspec.json.encode(request))


def events(events: Sequence[Interaction]) -> Wire:
    return Wire("POST", "/v1/interactions", msgspec.json.encode({"events": events}))


def put(kind: str, record: Content | User) -> Wire:
    return Wire("PUT", f"/v1/{kind}/{quote(record.id, safe='')}", msgspec.json.encode(record))


def explain(decision_id: str, content_id: str | None) -> Wire:
    lacking = f"?content={quote(content_id, safe='')}" if content_id is not None else ""
    return Wire("GET", f"/v1/decisions/{quote(decision_id, safe='')}{lacking}")


def content(content_id: str) -> Wire:
    return Wire("GET", f"/v1/contents/{quote(content_id, safe='')}")


def policies(what: str = "") -> Wire:
    return Wire("POST" if what else "GET", f"/v1/policies{what}")


def goals(method: str = "GET", what: str = "", body: dict[str, Any] | None = None, why: str = "") -> Wire:
    query = f"?why={quote(why, safe='')}" if why else ""
    return Wire(method, f"/v1/goals{what}{query}", None if body is None else msgspec.json.encode(body))


def goal(method: str, id: str, what: str, why: str) -> Wire:
    return goals(method, f"/{quote(id, safe='')}{what}", why=why)


def put_goal(text: str, options: dict[str, Any]) -> Wire:
    return goals("PUT", body={"text": text, "id": f"goal-{uuid.uuid4().hex[:8]}"} | options)


def put_weights(id: str, weights: Weights, program: str) -> Wire:
    body: dict[str, Any] = {"weights": weights} | ({"program": program} if program else {})
    return goals("PUT", f"/{quote(id, safe='')}/proposal", body)


def experiments(method: str = "GET", name: str | None = None, body: Any = None, why: str = "") -> Wire:
    path = "/v1/experiments" + ("" if name is None else f"/{quote(name, safe='')}")
    query = f"?why={quote(why, safe='')}" if why else ""
    return Wire(method, path + query, None if body is None else msgspec.json.encode(body))


def arms_of(name: str, users: Iterable[str], contexts: Iterable[dict[str, Any]] | None) -> Wire:
    each = list(users)
    known = contexts if contexts is not None else ({} for _ in each)
    body = {"users": [{"id": user, "context": context} for user, context in zip(each, known, strict=True)]}
    return Wire("POST", f"/v1/experiments/{quote(name, safe='')}/arms", msgspec.json.encode(body))


def audit(since: int, limit: int) -> Wire:
    return Wire("GET", f"/v1/audit?since={since}&limit={limit}")


def trust(content_id: str | None = None, body: dict[str, Any] | None = None) -> Wire:
    path = "/v1/trust" + ("" if content_id is None else f"/{quote(content_id, safe='')}")
    return Wire("GET" if body is None else "PUT", path, None if body is None else msgspec.json.encode(body))
