"""The judge as ``upwell serve`` starts it: bought clicks are found out over HTTP, an operator has the last word, and
a judge that is gone stops heating and nothing else."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import time
from contextlib import closing

import numpy as np
import pytest
from http_server import NOW_MS, OPERATOR, event

DAY_MS = 86_400_000
NAMES = [f"c{n}" for n in range(12)]
WAIT_S = 180.0


def figure(one, name: str) -> float:
    found = re.search(rf"^upwell_{name} (\S+)$", one.http.get("/metrics").text, re.M)
    assert found is not None
    return float(found[1])


def until(met, what: str, one) -> None:
    end = time.monotonic() + WAIT_S
    while not met():
        assert time.monotonic() < end, (
            f"not so: {what}; {one.http.get('/v1/trust').text[:1_000]} {one.log.read_text()[-2_000:]}"
        )
        time.sleep(0.1)


def stocked(one):
    for n, name in enumerate(NAMES):
        assert one.content(name, creator_id=f"by{n % 6}", tags=[f"t{n % 3}"], published_at=NOW_MS - DAY_MS).is_success
    for n in range(30):
        assert one.http.put(f"/v1/users/u{n}", json={"created_at": NOW_MS - 400 * DAY_MS}).is_success


def people(one, rounds: int) -> None:
    """Users who look at slates, and click and watch some of them."""
    rng = np.random.default_rng(0)
    for n in range(30 * rounds):
        user = f"u{n % 30}"
        answer = one.recommend(user, NAMES, size=6).json()
        told = [event(answer, user, k, completion=0.9) for k in np.flatnonzero(rng.random(6) < 0.4).tolist()]
        if told:
            assert one.tell(*told).json()["rejected"] == []


def bots(one, content: str, many: int) -> None:
    """Clicks that no slate led to, by accounts that do nothing else and watch nothing."""
    for first in range(0, many, 50):
        batch = [
            {
                "event_id": f"{content}-{n}", "content_id": content, "user_id": f"{content}-bot{n % 150}",
                "ts": time.time_ns() // 1_000_000 - n, "kind": "click", "clicked": True, "completion": 0.02,
            }
            for n in range(first, min(first + 50, many))
        ]  # fmt: skip
        assert one.tell(*batch).json()["rejected"] == []


@pytest.mark.slow
@pytest.mark.parametrize("shared", [False, True], ids=["one server", "two servers and a worker"])
def test_bought_clicks_cost_their_buyer_and_nobody_else(serve, request, shared):
    variables = {"UPWELL_TRUST": "true", "UPWELL_DAILY_IMPRESSIONS": "20000", "UPWELL_LIVE_CONTENTS": "12"}
    if shared:
        broker = request.getfixturevalue("kafka_server").address
        variables |= {"UPWELL_EVENTS": f"kafka://{broker}?partitions=2", "UPWELL_WORKERS": "2"}
    one = serve(**variables)
    stocked(one)
    people(one, 4)
    bots(one, "c3", 300)
    until(lambda: one.http.get("/v1/trust/c3").json()["consequence"] in ("frozen", "zeroed"), "c3 is found out", one)
    told = one.http.get("/v1/trust").json()
    assert told["judge"] == "there"
    assert next(content["content"] for content in told["contents"] if content["consequence"] != "none") == "c3"
    honest = [one.http.get(f"/v1/trust/{name}").json()["consequence"] for name in NAMES if name != "c3"]
    assert set(honest) <= {"none", "narrowed"}
    assert figure(one, "trust_frozen") >= 1
    people(one, 1)
    until(lambda: one.http.get("/v1/contents/c3").json()["grant"]["outstanding"] == 0, "its grant is taken back", one)
    said = one.http.put("/v1/trust/c3", json={"verdict": "honest", "why": "a test"}).json()
    assert (said["appeal"]["word"], said["consequence"]) == ("honest", "none")
    until(lambda: one.http.get("/v1/contents/c3").json()["trust"]["consequence"] == "none", "servers heard of it", one)
    assert one.http.get("/v1/audit").json()["entries"][-1]["what"] == "trust: honest"
    assert one.http.put("/v1/trust/nothing", json={"verdict": "honest"}).status_code == 404
    assert one.http.put("/v1/trust/c3", json={"verdict": "perhaps"}).status_code == 422


@pytest.mark.slow
def test_a_judge_that_hangs_stops_heating_and_nothing_else(serve):
    one = serve(UPWELL_TRUST="true", UPWELL_DAILY_IMPRESSIONS="20000", UPWELL_LIVE_CONTENTS="12")
    stocked(one)
    people(one, 1)
    until(lambda: one.http.get("/v1/trust").json()["judge"] == "there", "the judge is there", one)
    until(lambda: granted(one) > 0, "something is granted", one)
    (pid,) = judges(one)
    hang(one, pid)
    try:
        until(lambda: one.http.get("/v1/trust").json()["judge"] == "silent", "its silence is noticed", one)
        until(lambda: outstanding(one) == 0, "all grants are taken back", one)
        for n in range(20):
            answer = one.recommend(f"u{n}", NAMES, size=6)
            assert answer.status_code == 200
            assert not answer.json()["degraded"]
            assert not any(item["heated"] for item in answer.json()["items"])
    finally:
        os.kill(pid, signal.SIGCONT)
    until(lambda: one.http.get("/v1/trust").json()["judge"] == "there", "it is back", one)


def hang(one, pid: int) -> None:
    """Stop the judge, but not in the middle of a write: SQLite's lock would be held for as long as it hangs."""
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        os.kill(pid, signal.SIGSTOP)
        with closing(sqlite3.connect(one.folder / "data" / "state.db", timeout=1.0, isolation_level=None)) as store:
            try:
                store.execute("BEGIN IMMEDIATE")
                store.execute("ROLLBACK")
                return
            except sqlite3.OperationalError:
                os.kill(pid, signal.SIGCONT)
                time.sleep(0.2)
    raise AssertionError("the judge never lets go of the store")


def judges(one) -> list[int]:
    """Judges whose parent is this service."""
    found = subprocess.run(
        ["pgrep", "-P", str(one.process.pid), "-f", "upwell.online.child judge"], capture_output=True, text=True
    )
    return [int(pid) for pid in found.stdout.split()]


def granted(one) -> int:
    return sum(one.http.get(f"/v1/contents/{name}").json()["grant"]["granted"] for name in NAMES)


def outstanding(one) -> int:
    return sum(one.http.get(f"/v1/contents/{name}").json()["grant"]["outstanding"] for name in NAMES)


def test_only_operators_see_and_say_who_cheats(serve):
    one = serve(UPWELL_CLIENT_TOKEN="client-token-91bc", UPWELL_OPERATOR_TOKEN=OPERATOR)
    for method, path in (("GET", "/v1/trust"), ("GET", "/v1/trust/c"), ("PUT", "/v1/trust/c")):
        answer = one.http.request(
            method, path, json={"verdict": "honest"}, headers={"Authorization": "Bearer client-token-91bc"}
        )
        assert answer.status_code == 403, path
