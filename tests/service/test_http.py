"""HTTP against the real service: what every endpoint answers, and the one shape of every refusal."""

from __future__ import annotations

import concurrent.futures
import time

import httpx
import pytest
from http_server import CLIENT, NOW_MS, OPERATOR, event, quoted, refused

AUTH_CLIENT, AUTH_OPERATOR = {"Authorization": f"Bearer {CLIENT}"}, {"Authorization": f"Bearer {OPERATOR}"}
ODD_IDS = ["a/b", "a//b/", "视频-七", "50% off?&#", "a b", "../x", "日" * 42 + "ab", "x" * 128, "day 3", "é"]


def test_a_slate_and_what_became_of_it(served):
    answer = served.recommend("first", "abc", 2).json()
    assert answer.keys() >= {
        "decision_id", "items", "arm", "policy_version", "weights_version", "degraded",
    }  # fmt: skip
    assert [item["position"] for item in answer["items"]] == [0, 1]
    assert answer["items"][0].keys() == {"id", "position", "heated", "explored", "propensity", "reasons"}
    one = event(answer, "first")
    told = served.tell(one, one)
    assert told.status_code == 202
    assert told.json() == {"accepted": 1, "duplicates": 1, "rejected": []}
    assert served.tell(one).json() == {"accepted": 0, "duplicates": 1, "rejected": []}
    why = served.http.get(f"/v1/decisions/{answer['decision_id']}").json()
    assert [item["id"] for item in why["items"]] == [item["id"] for item in answer["items"]]
    assert all(item["sentence"] for item in why["items"])
    user = served.http.get("/v1/users/first").json()
    assert [past["event_id"] for past in user["history"]] == [one["event_id"]]
    assert user["requests"] == 1


def test_contents_and_users(served):
    body = {"id": "posted", "creator_id": "m", "published_at": NOW_MS, "tags": ["x"], "title": "题目"}
    assert served.http.post("/v1/contents", json=body).status_code == 201
    state = served.http.get("/v1/contents/posted").json()
    assert state["content"]["title"] == "题目"
    assert state.keys() >= {"counts", "posterior", "grant", "trust"}
    assert served.http.put("/v1/users/older", json={"created_at": 5}).status_code == 200
    assert served.http.get("/v1/users/older").json()["created_at"] == 5


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/openapi.json", "/docs", "/v1/switch"])
def test_pages_there_are(served, path):
    assert served.http.get(path).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404), ("GET", "/", 404), ("GET", "/v1", 404), ("GET", "/v1/recommend", 405),
        ("DELETE", "/v1/interactions", 405), ("PATCH", "/v1/contents/a", 405), ("DELETE", "/v1/switch", 405),
        ("GET", "/v1/contents/none", 404), ("GET", "/v1/users/none", 404), ("GET", "/v1/decisions/none", 404),
        ("POST", "/healthz", 405), ("GET", "/v1/contents/", 422), ("GET", "/v1/recommend/x", 404),
    ],
)  # fmt: skip
def test_what_is_not_there(served, method, path, status):
    refused(served.http.request(method, path), status)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"NaN", b'{"user_id": NaN}', b'{"a":"\\ud800"}'])
@pytest.mark.parametrize("path", ["/v1/recommend", "/v1/interactions", "/v1/contents", "/v1/switch"])
def test_malformed(served, path, body):
    method = "PUT" if path == "/v1/switch" else "POST"
    refused(served.http.request(method, path, content=body), 400, "malformed")


@pytest.mark.parametrize("path", ["/v1/recommend", "/v1/interactions", "/v1/contents"])
def test_deep_nesting(served, path):
    assert served.http.post(path, content=b"[" * 100_000).status_code in (400, 422)
    refused(served.http.post(path, content=b'{"x":' * 100_000 + b"1" + b"}" * 100_000), 400)


ASK = {"user_id": "u", "candidates": [{"id": "a", "score": 1.0}], "size": 1}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"size": 0}, "size"), ({"size": 201}, "size"), ({"size": 1.5}, "size"), ({"size": 10**40}, "size"),
        ({"size": "1"}, "size"), ({"size": None}, "size"), ({"user_id": ""}, "user_id"), ({"user_id": 5}, "user_id"),
        ({"user_id": "x" * 129}, "user_id"), ({"user_id": "日" * 43}, ""), ({"candidates": {}}, "candidates"),
        ({"candidates": [{"id": "a"}]}, "candidates[0]"), ({"candidates": [{"id": "日" * 43, "score": 1}]}, ""),
        ({"candidates": [{"id": "a", "score": "1"}]}, "candidates[0].score"), ({"context": {"a": []}}, "context[...]"),
        ({"inject": 1}, "inject"), ({"exclude": ["x" * 129]}, "exclude[0]"), ({"request_id": ""}, "request_id"),
    ],
)  # fmt: skip
def test_wrong_requests_name_the_field(served, change, field):
    refused(served.http.post("/v1/recommend", json=ASK | change), 422, "invalid", field)


@pytest.mark.parametrize("score", ["1e999", "-1e999", "9" * 400, "1e309"])
def test_scores_out_of_range(served, score):
    body = b'{"user_id":"u","size":1,"candidates":[{"id":"a","score":%s}]}' % score.encode()
    refused(served.http.post("/v1/recommend", content=body), 422, "invalid", "candidates[0].score")


@pytest.mark.parametrize(
    "score", ["-0", "-0.0", "1e308", "-1e308", "1e-320", "9007199254740993", "123456789012345678901"]
)
def test_odd_scores(served, score):
    body = (
        b'{"user_id":"odd","size":2,"candidates":[{"id":"a","score":%s},{"id":"b","score":0}],"inject":false}'
        % score.encode()
    )
    answer = served.http.post("/v1/recommend", content=body)
    assert answer.status_code == 200
    assert {item["id"] for item in answer.json()["items"]} >= {"a", "b"}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"embedding": [1e300]}, "embedding[0]"), ({"embedding": ["x"]}, "embedding[0]"), ({"quality": 2}, "quality"),
        ({"creator_followers": 10**400}, "creator_followers"), ({"price": -1}, "price"),
        ({"creator_followers": 10**30}, "creator_followers"), ({"published_at": -1}, "published_at"),
        ({"published_at": 10**17}, "published_at"), ({"tags": ["t"] * 33}, "tags"), ({"title": "x" * 513}, "title"),
        ({"creator_id": "x" * 129}, "creator_id"),
    ],
)  # fmt: skip
def test_wrong_contents_name_the_field(served, change, field):
    refused(served.content("wrong", **change), 422, "invalid", field)
    refused(served.http.get("/v1/contents/wrong"), 404)


def test_published_at_is_set_once(served):
    refused(served.content("a", published_at=NOW_MS), 409, "immutable", "published_at")


@pytest.mark.parametrize("id", ODD_IDS)
def test_odd_ids(served, id):
    assert served.content(id).status_code == 200
    path = f"/v1/contents/{quoted(id)}"
    assert served.http.get(path).json()["content"]["id"] == id
    answer = served.recommend(id, [id], 1, exclude=list("abcdef"), inject=False).json()
    assert [item["id"] for item in answer["items"]] == [id]
    assert served.tell(event(answer, id)).json()["accepted"] == 1
    assert served.http.get(f"/v1/users/{quoted(id)}").json()["id"] == id
    assert served.http.delete(f"/v1/users/{quoted(id)}").status_code == 200
    refused(served.http.get(f"/v1/users/{quoted(id)}"), 404)


@pytest.mark.parametrize("id", ["x" * 129, "日" * 43, "%F0%28"])
def test_ids_of_129_bytes(served, id):
    path = id if id.startswith("%") else quoted(id)
    refused(served.http.get(f"/v1/contents/{path}"), 404 if id.startswith("%") else 422)
    if not id.startswith("%"):
        refused(served.content(id), 422, "invalid", "id")


def test_doubles_strangers_exclusions(served):
    answer = served.recommend("chooser", ["a", "a", "stranger", "b", "b"], 5, exclude=["b"], inject=False).json()
    assert sorted(item["id"] for item in answer["items"]) == ["a", "stranger"]
    assert served.recommend("chooser2", [], 3, inject=False).json()["items"] == []


def test_events_are_judged_one_by_one(served):
    answer = served.recommend("judged", "abc", 2, inject=False).json()
    shown = event(answer, "judged")
    now = shown["ts"]
    bad = [
        (event(answer, "judged", ts=now + 3_600_000), "from_the_future"),
        (event(answer, "judged", ts=now - 3 * 86_400_000), "too_late"),
        (event(answer, "judged", decision_id="none"), "unknown_decision"),
        (event(answer, "another"), "wrong_user"),
        (event(answer, "judged", content_id="f"), "not_shown"),
        (event(answer, "judged", decision_id=None, content_id="never"), "unknown_content"),
        (event(answer, "judged", dwell_s=-1), "invalid"),
        (event(answer, "judged", value=1e300), "invalid"),
        (event(answer, "judged", kind="stare"), "invalid"),
        ({"event_id": "x"}, "invalid"),
    ]
    told = served.tell(shown, *(one for one, _ in bad)).json()
    assert told["accepted"] == 1
    assert [(r["index"], r["code"]) for r in told["rejected"]] == [(i + 1, code) for i, (_, code) in enumerate(bad)]
    assert served.tell(event(answer, "judged", ts=now + 120_000)).json()["accepted"] == 1
    organic = event(answer, "judged", decision_id=None, content_id="f")
    assert served.tell(organic, organic).json() == {"accepted": 1, "duplicates": 1, "rejected": []}


def test_the_same_request_id_gets_the_same_answer(served):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(served.recommend, "twice", "abcdef", 3, request_id="r1") for _ in range(16)]
        answers = {one.result().text for one in asked}
    assert len(answers) == 1
    assert served.recommend("twice", "abcdef", 3, request_id="r2").text not in answers
    assert served.recommend("thrice", "abcdef", 3, request_id="r1").text not in answers


def test_shadow_shows_the_ranker_s_order(served):
    answer = served.recommend("shadowed", "fedcba", 4, shadow=True).json()
    assert [item["id"] for item in answer["items"]] == list("fedc")
    assert served.http.get(f"/v1/decisions/{answer['decision_id']}").json()["shadow"]


def test_hosts_and_origins(served):
    ask = served.http.get
    refused(ask("/healthz", headers={"Host": "evil.example"}), 403, "wrong_host", "Host")
    refused(ask("/v1/switch", headers={"Origin": "http://evil.example"}), 403, "wrong_origin", "Origin")
    refused(ask("/v1/switch", headers={"Origin": "null"}), 403, "wrong_origin")
    assert ask("/v1/switch", headers={"Origin": served.url}).status_code == 200
    assert ask("/v1/switch", headers={"Host": "localhost:99"}).status_code == 200


def test_tokens(guarded):
    http = guarded.http
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": CLIENT}, {"Authorization": "Basic x"}):
        answer = http.get("/v1/switch", headers=headers)
        refused(answer, 401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"
    assert http.get("/healthz").status_code == 200
    for method, path in [
        ("GET", "/v1/switch"), ("PUT", "/v1/switch"), ("GET", "/v1/users/a"), ("PUT", "/v1/users/a"),
        ("DELETE", "/v1/users/a"), ("GET", "/v1/decisions/a"), ("GET", "/metrics"), ("GET", "/nowhere"),
    ]:  # fmt: skip
        refused(http.request(method, path, headers=AUTH_CLIENT), 403, "forbidden")
    assert http.get("/v1/switch", headers=AUTH_OPERATOR).json() == {"mode": "policy"}
    assert http.post("/v1/recommend", json=ASK, headers=AUTH_CLIENT).status_code == 200
    assert http.post("/v1/recommend", json=ASK, headers=AUTH_OPERATOR).status_code == 200


def test_quality_is_the_operator_s(guarded):
    def put(headers, **given):
        body = {"creator_id": "m", "published_at": 5, **given}
        return guarded.http.put("/v1/contents/judged", json=body, headers=headers)

    refused(put(AUTH_CLIENT, quality=0.9), 403, "forbidden", "quality")
    assert put(AUTH_OPERATOR, quality=0.4).status_code == 200
    assert put(AUTH_CLIENT).json()["quality"] == 0.4
    assert put(AUTH_CLIENT, quality=0.4).status_code == 200
    assert put(AUTH_OPERATOR).json()["quality"] is None


def test_sizes(guarded):
    post = lambda path, **given: guarded.http.post(path, headers=AUTH_CLIENT, **given)  # noqa: E731
    refused(post("/v1/recommend", content=b" " * 20_001), 413, "too_large")
    refused(post("/v1/recommend", content=(b" " * 5_000 for _ in range(5))), 413, "too_large")
    many = [{"id": f"c{i}", "score": i} for i in range(21)]
    refused(post("/v1/recommend", json=ASK | {"candidates": many}), 413, "too_large", "candidates")
    assert post("/v1/recommend", json=ASK | {"candidates": many[:20]}).status_code == 200
    refused(post("/v1/interactions", json={"events": [{}] * 6}), 413, "too_large", "events")
    assert post("/v1/interactions", json={"events": [{}] * 5}).status_code == 202


def test_rates(serve):
    one = serve(UPWELL_RATE_PER_S="0.2")
    assert one.http.get("/v1/switch").status_code == 200
    answer = one.http.get("/v1/switch")
    refused(answer, 429, "too_many")
    assert 1 <= int(answer.headers["retry-after"]) <= 5
    assert one.http.get("/readyz").status_code == 200


def test_the_switch_holds_from_the_next_request_on_and_across_restarts(serve):
    one = serve()
    for id in "abcd":
        one.content(id)
    assert one.recommend("u").json()["arm"] == "marl"
    assert one.http.put("/v1/switch", json={"mode": "ranker"}).json() == {"mode": "ranker"}
    answer = one.recommend("u", "dcba", 3).json()
    assert (answer["arm"], [item["id"] for item in answer["items"]]) == ("raw", list("dcb"))
    refused(one.http.put("/v1/switch", json={"mode": "off"}), 422, "invalid", "mode")
    one.kill()
    one.start()
    assert one.http.get("/v1/switch").json() == {"mode": "ranker"}
    assert one.recommend("u").json()["arm"] == "raw"


def test_kill_9_loses_and_doubles_nothing(serve):
    one = serve()
    one.content("a")
    first = one.recommend("keeper", ["a"], 1, request_id="r1").json()
    clicks = [event(first, "keeper", event_id=f"e{i}") for i in range(3)]
    assert one.tell(*clicks).json()["accepted"] == 3
    one.kill()
    one.start()
    assert one.recommend("keeper", ["a"], 1, request_id="r1").json() == first
    assert one.tell(*clicks).json() == {"accepted": 0, "duplicates": 3, "rejected": []}
    counts = one.http.get("/v1/contents/a").json()["counts"]
    assert (counts["impressions"], counts["clicks"]) == (1, 1)
    assert len(one.http.get("/v1/users/keeper").json()["history"]) == 3


def test_sigterm_ends_what_runs_and_saves_what_was_acknowledged(serve):
    one = serve(UPWELL_FLUSH_S="30")
    one.content("a")
    body = b'{"user_id":"late","size":1,"candidates":[{"id":"a","score":1}]}'

    def slowly():
        yield body[:10]
        one.process.terminate()
        time.sleep(1.0)
        yield body[10:]

    answer = one.recommend("early", ["a"], 1).json()
    assert one.tell(event(answer, "early")).json()["accepted"] == 1
    late = one.http.post("/v1/recommend", content=slowly())
    assert late.status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{one.url}/healthz")
    assert one.process.wait(30) in (0, -15)  # by the signal, after all that was to be done
    for path in (one.folder / "data" / "journal").rglob("*.frames"):
        path.unlink()  # the store alone must have it all
    one.start()
    assert one.http.get("/v1/contents/a").json()["counts"]["clicks"] == 1
    assert one.http.get(f"/v1/decisions/{late.json()['decision_id']}").status_code == 200


def test_erasure_leaves_no_byte(serve):
    one = serve(UPWELL_DEADLINE_MS="5000")  # a slate that is logged nowhere, on a busy machine, would be missed below
    one.content("a")
    id = "erase-me-9f2c"
    answers = [one.recommend(id, ["a"], 1, request_id=f"r{i}").json() for i in range(20)]
    assert one.tell(*(event(answer, id) for answer in answers)).json()["accepted"] == 20
    assert one.tell(event(answers[0], id, decision_id=None)).json()["accepted"] == 1
    one.http.put(f"/v1/users/{id}", json={"created_at": 7})
    assert holding(one, id)
    assert one.http.delete(f"/v1/users/{id}").json()["erased"] > 20
    assert holding(one, id) == []
    refused(one.http.get(f"/v1/users/{id}"), 404)
    refused(one.http.get(f"/v1/decisions/{answers[0]['decision_id']}"), 404)
    assert one.tell(event(answers[0], id)).json()["rejected"][0]["code"] == "unknown_decision"
    one.kill()
    one.start()
    refused(one.http.get(f"/v1/users/{id}"), 404)
    assert holding(one, id) == []


def holding(one, id: str) -> list[str]:
    """Files of the data folder with the id in them."""
    files = [path for path in (one.folder / "data").rglob("*") if path.is_file()]
    return [path.name for path in files if id.encode() in path.read_bytes()]


def test_secrets_are_told_nowhere(guarded):
    shown = [guarded.http.get(path, headers=AUTH_OPERATOR).text for path in ("/metrics", "/openapi.json", "/docs")]
    guarded.http.get("/v1/switch", headers={"Authorization": "Bearer wrong-token-abc"})
    shown.append(guarded.log.read_text())
    for text in shown:
        assert not any(secret in text for secret in (CLIENT, OPERATOR, "wrong-token-abc"))


def test_metrics_name_routes_and_never_ids(served):
    served.recommend("secret-user", ["a"], 1)
    served.http.get("/v1/users/secret-user")
    served.http.get("/secret-path")
    text = served.http.get("/metrics").text
    assert "secret" not in text
    assert 'upwell_requests_total{route="/v1/recommend",status="200"}' in text
    assert 'route="/v1/users/{id:path}"' in text
