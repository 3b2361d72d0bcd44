"""The policy worked out by a server of TensorFlow: right answers are taken, wrong ones and none cost nobody a slate."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from http_server import NOW_MS
from service_samples import any_request, server, shown

from upwell.agents import network
from upwell.errors import BadRequest
from upwell.service import learned, tfserving
from upwell.service.settings import Settings, load

POLICY = network.shipped("marl")
SEEN = np.random.default_rng(0).uniform(-3, 3, (5, 12)).astype(np.float32)
OWN = network.forward(np, POLICY.user, SEEN)
DAY_MS = 86_400_000


class Answers(tfserving.service.PredictionServiceServicer):
    """A gRPC server that answers what a test wants: ``of(role, seen)`` gives an array, or a whole answer, or waits."""

    def __init__(self) -> None:
        self.of = lambda role, seen: network.forward(np, getattr(POLICY, role), seen)
        self.version, self.rows = 3, list[int]()
        self._server = grpc.server(ThreadPoolExecutor(2))
        tfserving.service.add_PredictionServiceServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def Predict(self, request, context):  # noqa: N802
        seen = request.inputs["seen"]
        shape = [dim.size for dim in seen.tensor_shape.dim]
        self.rows.append(shape[0])
        assert request.model_spec.signature_name == "forward"
        role = request.model_spec.name.removesuffix("_agent")
        found = self.of(role, np.frombuffer(seen.tensor_content, np.float32).reshape(shape))
        if not isinstance(found, np.ndarray):
            return found
        answer = tfserving.predict.PredictResponse(outputs={"action": tfserving.message_of(found)})
        answer.model_spec.version.value = self.version
        return answer

    def close(self) -> None:
        self._server.stop(0).wait()


@pytest.fixture
def answers():
    made = Answers()
    yield made
    made.close()


def served(answers: Answers, **given) -> dict[str, tfserving.Served]:
    return tfserving.served(Settings(tfserving=answers.address, **{"tfserving_ms": 1_000.0} | given), POLICY)


def test_right_answers_are_taken(answers):
    user = served(answers)["user"]
    for rows in (1, 2, 3, 5):
        # As many rows as are asked, padded: BLAS may round them otherwise.
        np.testing.assert_allclose(user(SEEN[:rows]), network.forward(np, POLICY.user, SEEN[:rows]), atol=1e-6)
    assert answers.rows == [1, 2, 4, 8]  # few numbers of rows, each of which a server compiles
    assert (user.answered, user.failed, user.fallbacks) == (4, 0, 0)
    assert user(SEEN[:0]).shape == (0, 11)
    assert len(answers.rows) == 4  # nobody asks about nothing


def test_numbers_may_come_one_by_one(answers):
    def one_by_one(_role, seen):
        found = network.forward(np, POLICY.user, seen)
        message = tfserving.message_of(found)
        message.ClearField("tensor_content")
        message.float_val.extend(found.ravel())
        return tfserving.predict.PredictResponse(outputs={"action": message})

    answers.of, user = one_by_one, served(answers)["user"]
    np.testing.assert_allclose(user(SEEN), OWN, atol=1e-6)
    assert user.answered == 1


def said(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == tfserving.log.name]


def cut(_role, seen):
    message = tfserving.message_of(network.forward(np, POLICY.user, seen))
    message.tensor_content = message.tensor_content[:-2]
    return tfserving.predict.PredictResponse(outputs={"action": message})


def late(_role, seen):
    time.sleep(0.15)
    return network.forward(np, POLICY.user, seen)


@pytest.mark.parametrize(
    ("of", "told"),
    [
        (lambda _, seen: np.full((len(seen), 11), np.nan, np.float32), "not finite"),
        (lambda _, seen: np.full((len(seen), 11), np.inf, np.float32), "not finite"),
        (lambda _, seen: np.zeros((len(seen), 10), np.float32), r"wanted 1 of \(8, 11\)"),
        (lambda _, seen: np.zeros((1, 11), np.float32), r"wanted 1 of \(8, 11\)"),
        (lambda _, seen: network.forward(np, POLICY.user, seen) + np.float32(0.01), "version 3 is another policy"),
        (lambda _, seen: tfserving.predict.PredictResponse(), "type 0"),
        (lambda _, seen: 7, "INTERNAL"),
        (lambda _, seen: 1 / 0, "UNKNOWN"),
        (cut, "buffer size"),
        (late, "DEADLINE_EXCEEDED"),
    ],
    ids=["nan", "inf", "narrow", "short", "another policy", "nothing", "no message", "error", "cut", "late"],
)
def test_wrong_answers_are_refused(answers, caplog, monkeypatch, of, told):
    answers.of, user = of, served(answers, tfserving_ms=100.0)["user"]
    for _ in range(3):
        np.testing.assert_array_equal(user(SEEN), OWN)
    assert (user.answered, user.failed, user.fallbacks) == (0, 1, 3)  # it is left alone for a while
    monkeypatch.setattr(tfserving, "PAUSE_S", 0.05)
    with caplog.at_level(logging.INFO):
        for _ in range(80):
            np.testing.assert_array_equal(user(SEEN), OWN)
            time.sleep(0.005)
    assert 5 <= user.failed < user.fallbacks == 83
    (line,) = said(caplog)  # once an outage
    assert re.search(rf"user_agent is not served \(.*{told}.*\): the local policy decides", line)


def test_it_is_asked_again_after_a_while(answers, caplog, monkeypatch):
    monkeypatch.setattr(tfserving, "PAUSE_S", 0.1)
    right, user = answers.of, served(answers)["user"]

    def failing(times: int) -> None:
        answers.of = lambda role, seen: right(role, seen) * np.nan
        for _ in range(times):
            user(SEEN)
            time.sleep(0.15)
        answers.of = right
        for _ in range(3):
            user(SEEN)

    with caplog.at_level(logging.INFO):
        failing(2)  # a wrong answer now and then is counted, and not told
        assert said(caplog) == []
        failing(5)
    assert (user.answered, user.failed, user.fallbacks) == (6, 7, 7)
    assert ["is not served (" in line for line in said(caplog)] == [True, False]


def test_another_version_is_held_against_the_policy_before_it_is_taken(answers):
    right, user = answers.of, served(answers)["user"]
    user(SEEN)
    answers.of = lambda role, seen: right(role, seen) + np.float32(0.01)
    answers.version = 4
    np.testing.assert_array_equal(user(SEEN), OWN)
    assert (user.answered, user.failed) == (1, 1)


def test_each_role_fails_alone(answers):
    right, roles = answers.of, served(answers)
    answers.of = lambda role, seen: right(role, seen) if role != "content" else 7
    seen = np.zeros((3, 16), np.float32)
    for role, served_by in roles.items():
        served_by(SEEN if role == "user" else seen)
    assert {role: one.failed for role, one in roles.items()} == {"user": 0, "content": 1, "system": 0}


def test_slates_are_those_of_the_local_policy(answers):
    def slates(by):
        live = server(3)
        live.learned, live.mode = learned.Learned(POLICY, "marl-1", by), "policy"
        live.look(live.settings.scale, NOW_MS)
        rng = np.random.default_rng(3)
        return [
            [(line.arm, line.why, line.places) for line in shown(live, [any_request(live, rng, f"u{n}", 10)])]
            for n in range(60)
        ]

    by = served(answers)
    assert slates(by) == slates(None)
    assert by["user"].answered == 60


# ---- settings


@pytest.mark.parametrize("address", ["nowhere", "a:b", "a:0", "a:70000", ":8500", "http://a:8500", "a b:1", "::1:8500"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(BadRequest, match="options: tfserving: Value error, give HOST:PORT"):
        load(tfserving=address)


@pytest.mark.parametrize("address", ["", "127.0.0.1:8500", "tf.example:1", "[::1]:8500"])
def test_addresses(address):
    assert load(tfserving=address).tfserving == address


def test_a_backend_that_cannot_be_asked_is_refused(monkeypatch):
    with pytest.raises(BadRequest, match="tfserving needs `tfserving`, the HOST:PORT"):
        load(policy_backend="tfserving")
    with pytest.raises(BadRequest, match="`policy` is empty"):
        load(policy_backend="tfserving", tfserving="a:1", policy="")
    with pytest.raises(BadRequest, match="policy_backend: Input should be 'local' or 'tfserving'"):
        load(policy_backend="triton")
    with pytest.raises(BadRequest, match="tfserving_ms: Input should be greater than 0"):
        load(tfserving_ms=0)
    monkeypatch.setattr("upwell.service.settings.find_spec", lambda name: None)
    with pytest.raises(BadRequest, match=r"needs tensorflow-serving-api: pip install 'upwell\[export\]'"):
        load(policy_backend="tfserving", tfserving="a:1")


def test_a_service_does_not_load_tensorflow():
    program = (
        "import sys, upwell.service.tfserving as t; t.predict.PredictRequest(); print('tensorflow' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"


# ---- the service over HTTP, before a server that runs the SavedModels


def figure(one, name: str) -> float:
    found = re.search(rf"^upwell_{name} (\S+)$", one.http.get("/metrics").text, re.M)
    assert found is not None
    return float(found[1])


def stocked(one):
    """Contents of every age, and users who may be tried on."""
    for n in range(40):
        one.content(f"c{n}", published_at=NOW_MS - n * DAY_MS // 4, tags=[f"t{n % 5}"])
    for n in range(20):
        assert one.http.put(f"/v1/users/u{n}", json={"created_at": NOW_MS - 30 * DAY_MS}).is_success
    return one


def items(one, n: int) -> list[str]:
    """A slate of two, in which nothing is drawn."""
    answer = one.recommend(f"u{n % 20}", [f"c{(7 * n + k) % 40}" for k in range(20)], size=2)
    assert answer.status_code == 200
    body = answer.json()
    assert (body["arm"], body["degraded"]) == ("marl", False)
    return [body["policy_version"], *(item["id"] for item in body["items"])]


@pytest.mark.slow
def test_over_http_slates_are_the_same(serve, prediction_server):
    """Minute after minute of a simulated clock, with a slow tick in each: heated places included."""

    def minutes(*asked: str) -> tuple[list[list[str]], list[float]]:
        variables = {"UPWELL_CLOCK": "request", "UPWELL_HOLDOUT": "0", "UPWELL_TFSERVING_MS": "1000"}
        one, slates = serve(*asked, **variables), []
        for n in range(-1, 60):
            one.http.headers["upwell-now-ms"] = str(NOW_MS + 60_000 * n)
            slates.append(items(one, n) if n >= 0 else stocked(one) and [])
        return slates, [figure(one, f"tfserving_{name}") for name in ("answered", "fallbacks")]

    here, never = minutes()
    there, asked = minutes("--policy-backend", "tfserving", "--tfserving", prediction_server.address)
    assert here == there
    assert sum(slate[1] != f"c{7 * n % 40}" for n, slate in enumerate(here[1:])) > 10  # not the ranker's order
    assert never == [0, 0]
    assert (
        asked[0] > 170
    )  # at each request and for contents and the system at each tick, but for what is compiled first
    assert asked[1] < 10


@pytest.mark.slow
def test_a_server_that_is_killed_costs_no_request(serve, prediction_server):
    # A deadline that a busy machine meets: this is of a server that is gone, not of one that is slow.
    variables = {"UPWELL_TFSERVING_MS": "1000"}
    one = stocked(serve("--policy-backend", "tfserving", "--tfserving", prediction_server.address, **variables))
    stop, counted = threading.Event(), [0, 0]

    def traffic(who: int) -> None:
        while not stop.is_set():
            items(one, counted[who])
            counted[who] += 1

    def until(met) -> None:
        end = time.monotonic() + 60
        while not met():
            assert time.monotonic() < end, one.log.read_text()
            time.sleep(0.05)

    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(traffic, who) for who in range(2)]
        try:
            until(lambda: figure(one, "tfserving_answered") > 20)
            prediction_server.kill()
            before = sum(counted)
            until(lambda: sum(counted) > before + 200 and "is not served (UNAVAILABLE" in one.log.read_text())
            assert figure(one, "tfserving_fallbacks") > 100
            prediction_server.start()
            until(lambda: "user_agent is served again" in one.log.read_text())
            answered = figure(one, "tfserving_answered")
            until(lambda: figure(one, "tfserving_answered") > answered + 20)
        finally:
            stop.set()
    for ran in running:
        ran.result()  # raises what any request failed by
