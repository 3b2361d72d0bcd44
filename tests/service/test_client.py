"""The client against a service that is slow, full, gone for a moment, or says no."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from upwell.client import AsyncClient, Client, UpwellRefused
from upwell.model import Content, User

SLATE = {
    "decision_id": "d1", "arm": "rules", "policy_version": "rules-1", "weights_version": "0", "degraded": False,
    "items": [{"id": "a", "position": 0, "heated": False, "explored": False, "propensity": 1.0, "reasons": []}],
}  # fmt: skip


class Script:
    """Answers in turn: a status and body, or an exception. Notes what was asked."""

    def __init__(self, *answers) -> None:
        self.answers, self.asked = list(answers), []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        status, body, *headers = answer
        return httpx.Response(status, json=body, headers=headers[0] if headers else None)

    async def again(self, request: httpx.Request) -> httpx.Response:
        return self(request)


@pytest.fixture(params=["sync", "async"])
def call(request, monkeypatch):
    """Calls a method of either client against a script; waits take no time and are noted."""
    waits: list[float] = []

    async def asleep(s):
        waits.append(s)

    monkeypatch.setattr("upwell.client.time.sleep", waits.append)
    monkeypatch.setattr("upwell.client.asyncio.sleep", asleep)

    def call(script: Script, method: str, *arguments, token=None, **options):
        transport = httpx.MockTransport(script if request.param == "sync" else script.again)
        if request.param == "sync":
            with Client("http://up", token) as client:
                client._http = httpx.Client(transport=transport, base_url="http://up", headers=client._http.headers)
                return getattr(client, method)(*arguments, **options)

        async def run():
            async with AsyncClient("http://up", token) as client:
                headers = client._http.headers
                await client._http.aclose()
                client._http = httpx.AsyncClient(transport=transport, base_url="http://up", headers=headers)
                return await getattr(client, method)(*arguments, **options)

        return asyncio.run(run())

    call.waits = waits
    return call


def error(code: str, field: str = "") -> dict:
    return {"error": {"code": code, "message": "no", "field": field}}


def test_what_may_be_repeated_is_repeated_as_it_was(call):
    full = (429, error("too_many"), {"Retry-After": "2"})
    script = Script(httpx.ConnectError("gone"), full, (503, error("not_ready")), (200, SLATE))
    answer = call(script, "recommend", "u", [("a", 1.0)], 1, token="secret")
    assert answer.ids() == ["a"]
    assert answer.user_id == "u"
    bodies = {request.content for request in script.asked}
    assert len(bodies) == 1
    assert json.loads(bodies.pop())["request_id"]
    assert script.asked[0].headers["authorization"] == "Bearer secret"
    assert call.waits == [0.1, 2.0, 0.4]


def test_it_gives_up_in_the_end(call):
    with pytest.raises(UpwellRefused) as told:
        call(Script(*[(503, error("not_ready"))] * 4), "recommend", "u", [], 1)
    assert (told.value.status, told.value.code) == (503, "not_ready")
    with pytest.raises(httpx.ConnectError):
        call(Script(*[httpx.ConnectError("gone")] * 4), "recommend", "u", [], 1)


def test_what_is_wrong_is_not_repeated(call):
    script = Script((422, error("invalid", "size")))
    with pytest.raises(UpwellRefused) as told:
        call(script, "recommend", "u", [], 1)
    assert (told.value.code, told.value.field) == ("invalid", "size")
    assert len(script.asked) == 1


@pytest.mark.parametrize("body", ["<html>", [], {"error": "x"}, {"error": {"code": "c"}}])
def test_answers_of_somebody_else(call, body):
    with pytest.raises(UpwellRefused) as told:
        call(Script((502, body)), "recommend", "u", [], 1)
    assert told.value.status == 502


def test_a_decision_of_a_moment_ago_gets_a_second_try(call):
    answer = call(Script((200, SLATE)), "recommend", "u", [("a", 1.0)], 1)
    events = [answer.click("a"), answer.event("a", dwell_s=3.0)]
    unknown = {"accepted": 1, "duplicates": 0, "rejected": [{"index": 1, "code": "unknown_decision", "message": ""}]}
    script = Script((202, unknown), (202, {"accepted": 1, "duplicates": 0, "rejected": []}))
    taken = call(script, "interactions", events)
    assert (taken.accepted, taken.rejected) == (2, ())
    assert [e["event_id"] for e in json.loads(script.asked[1].content)["events"]] == [events[1].event_id]


def test_what_is_rejected_twice_keeps_its_place(call):
    answer = call(Script((200, SLATE)), "recommend", "u", [("a", 1.0)], 1)
    events = [answer.click("a"), answer.event("a", dwell_s=3.0)]
    bad = {"code": "unknown_decision", "message": ""}
    first = {"accepted": 1, "duplicates": 0, "rejected": [bad | {"index": 1}]}
    script = Script((202, first), (202, {"accepted": 0, "duplicates": 0, "rejected": [bad | {"index": 0}]}))
    assert [r.index for r in call(script, "interactions", events).rejected] == [1]


def test_ids_go_into_paths_whole(call):
    script = Script((200, {}), (200, {}))
    call(script, "put_content", Content(id="a/b 视", creator_id="m", published_at=1))
    assert script.asked[0].url.raw_path == b"/v1/contents/a%2Fb%20%E8%A7%86"
    call(script, "put_user", User(id="u", created_at=1))
    assert script.asked[1].url.raw_path == b"/v1/users/u"


def test_against_the_service(served):
    with Client(served.url, timeout_s=20.0) as upwell:
        upwell.put_content(Content(id="client/1", creator_id="m", published_at=5))
        upwell.put_user(User(id="of the client", created_at=5))
        answer = upwell.recommend("of the client", [("client/1", 3.0)], 1, inject=False)
        assert answer.ids() == ["client/1"]
        assert upwell.interactions([answer.click("client/1", dwell_s=41.0)]).accepted == 1
        with pytest.raises(UpwellRefused):
            upwell.recommend("of the client", [("x" * 129, 1.0)], 1)
