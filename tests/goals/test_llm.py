"""Asking: forms, retries, limits, the key and the cache against a played-back protocol; then a real engine."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
from pathlib import Path

import engine
import pytest
from chat_server import Turn, completion, in_turn, playing
from hostile import GOOD, TEXT
from test_answer import NOW, end_bounded

from upwell.errors import BadRequest
from upwell.goals import llm
from upwell.goals.goal import Aim, Goal
from upwell.goals.llm import Asker
from upwell.goals.question import Question, Tried, messages
from upwell.goals.spend import Spend

GOAL = Goal(
    id="618",
    text="今天是618大促,GMV目标1亿,用户留存目标是65%",
    created_at=1,
    aims=(Aim(metric="gmv_per_day", direction="up", target=1e8),),
)
QUESTION = Question(GOAL, {"gmv_per_day": 5.4321e7, "d1_retention": 0.6512}, NOW, language="zh")
BAD = Turn(400, {"error": {"message": "response_format is not supported"}})
BUSY = Turn(429, {"error": {"message": "slow down"}}, (("Retry-After", "0.01"),))
DOWN = Turn(503, {"error": {"message": "loading"}}, (("Retry-After", "0.01"),))


def test_a_good_answer_comes_back_with_all_that_is_recorded():
    with playing(in_turn(completion(TEXT))) as server:
        reply = Asker(server.url).ask(QUESTION)
    assert reply.answers[0].weights == GOOD["weights"]
    assert reply.raw == (TEXT,)
    assert (reply.model, reply.tokens, reply.why_none) == ("qwen2-72b-instruct", 50, "")
    assert reply.seconds > 0
    assert len(reply.prompt_hash) == 64
    (request,) = server.requests
    assert request["messages"] == messages(QUESTION)
    assert request["response_format"]["json_schema"]["schema"]["required"] == list(GOOD)
    assert (request["model"], request["max_tokens"]) == ("qwen2-72b-instruct", 1_500)


@pytest.mark.parametrize(("refused", "form"), [(1, {"type": "json_object"}), (2, None)])
def test_a_server_that_refuses_a_form_is_asked_in_the_next_and_remembered(refused: int, form: object):
    with playing(in_turn(*[BAD] * refused, completion(TEXT))) as server:
        asker = Asker(server.url)
        assert asker.ask(QUESTION).answers[0].weights
        assert asker.ask(QUESTION, 2).answers[1].weights
    assert [request.get("response_format") for request in server.requests[refused:]] == [form] * 3


def test_a_server_that_refuses_everything_is_no_reason_to_remember():
    with playing(in_turn(BAD, BAD, BAD, completion(TEXT))) as server:
        asker = Asker(server.url)
        assert "response_format is not supported" in asker.ask(QUESTION).why_none
        assert asker.ask(QUESTION).answers
    assert server.requests[3]["response_format"]["type"] == "json_schema"


def test_a_busy_server_is_asked_again():
    with playing(in_turn(BUSY, DOWN, Turn(500, {}, (("Retry-After", "0.01"),)), completion(TEXT))) as server:
        assert Asker(server.url).ask(QUESTION).answers
    assert len(server.requests) == 4


@pytest.mark.parametrize(
    ("turn", "why"),
    [
        (DOWN, "InternalServerError: Error code: 503"),
        (BUSY, "RateLimitError: Error code: 429"),
        (Turn(401, {"error": {"message": "no such key"}}), "AuthenticationError: Error code: 401"),
        (Turn(404, {"error": {"message": "no such model"}}), "NotFoundError: Error code: 404"),
        (Turn(200, b"<html>hello</html>", (("Content-Type", "text/html"),)), "AttributeError"),
        (Turn(200, b"{broken"), "Error"),
        (Turn(200, {}), "TypeError"),
        (Turn(200, {"choices": []}), "IndexError"),
        (Turn(200, b"\xff\xfe"), "Error"),
        (completion(TEXT)._replace(cut=True), "APIConnectionError"),
        (Turn(307, {}, (("Location", "http://127.0.0.1:9/"),)), "APIConnectionError"),
    ],
)
def test_whatever_the_server_does_nothing_raises_and_the_reply_says_why(turn: Turn, why: str):
    with playing(in_turn(turn)) as server:
        reply = Asker(server.url, retries=1).ask(QUESTION)
    assert reply.answers == reply.raw == ()
    assert why in reply.why_none


@pytest.mark.parametrize("content", [None, "", [{"type": "text"}], {"a": 1}, 7])
def test_a_message_without_text_is_an_answer_that_is_refused(content: object):
    with playing(in_turn(completion(content))) as server:
        (answer,) = Asker(server.url, retries=0).ask(QUESTION).answers
    assert answer.refused[0].why.startswith("no answer: no JSON object")


def test_no_server_is_told():
    reply = Asker("http://127.0.0.1:9/v1", retries=0).ask(QUESTION)
    assert "Connection error" in reply.why_none


def test_the_time_limit_holds_over_candidates_and_retries_and_keeps_what_came_in_time():
    slow = threading.Event()

    def turns(_: object) -> Turn:
        if slow.is_set():
            return completion(TEXT)._replace(wait_s=3.0)
        slow.set()
        return completion(TEXT)

    with playing(turns) as server:
        started = time.monotonic()
        reply = Asker(server.url, timeout_s=1.0).ask(QUESTION, 3)
        assert time.monotonic() - started < 2.5
        assert len(reply.answers) == 1
        assert reply.why_none == ""
        reply = Asker(server.url, timeout_s=0.3).ask(QUESTION)
        assert reply.why_none == "TimeoutError: no answer within 0.3 s"
    with playing(in_turn(Turn(503, {}, (("Retry-After", "30"),)))) as server:
        started = time.monotonic()
        assert "no answer within" in Asker(server.url, timeout_s=0.3).ask(QUESTION).why_none
        assert time.monotonic() - started < 2.0


def test_the_same_question_is_answered_from_memory_until_something_differs():
    with playing(in_turn(completion(TEXT))) as server:
        asker = Asker(server.url)
        first = asker.ask(QUESTION)
        hardly = QUESTION._replace(state={**QUESTION.state, "d1_retention": 0.65119}, goal=GOAL)
        again = asker.ask(hardly)
        assert again == first._replace(seconds=0.0, tokens=0)
        assert len(server.requests) == 1
        for other in (
            QUESTION._replace(state={**QUESTION.state, "d1_retention": 0.66}),
            QUESTION._replace(weights=NOW.__class__(user_satisfaction=1, platform_revenue=1, long_term=1)),
            QUESTION._replace(rounds=(Tried(NOW),)),
            QUESTION._replace(language="en"),
        ):
            assert asker.ask(other).seconds > 0
        assert len(server.requests) == 5


def test_an_answer_that_says_nothing_is_not_kept():
    with playing(in_turn(completion("sorry"), completion(TEXT))) as server:
        asker = Asker(server.url)
        assert asker.ask(QUESTION).answers[0].weights is None
        assert asker.ask(QUESTION).answers[0].weights


def test_tokens_are_reserved_before_and_counted_after(tmp_path: Path):
    day = [0.0]
    spend = Spend(tmp_path / "spend.json", 30_000, now_s=lambda: day[0])

    def spent() -> int:
        return json.loads(spend.path.read_text())["tokens"]

    with playing(in_turn(completion(TEXT, 1_000), BAD, completion("sorry", None), Turn(500, {}))) as server:
        asker = Asker(server.url, spend=spend, retries=0)
        asker.ask(QUESTION)
        assert spent() == 1_000
        asker.ask(
            QUESTION, 1 + 1
        )  # one is refused and asked again; a server that does not count costs what was reserved
        reserved = sum(len(one["content"].encode()) for one in messages(QUESTION)) + llm.MARKS + 1_500
        assert spent() in (1_000 + reserved, 1_000 + 2 * reserved)
        before = spent()
        asker.ask(QUESTION._replace(language="en"))  # status 500: nothing was said
        assert spent() == before
        small = Asker(server.url, retries=0, spend=Spend(spend.path, before + reserved - 1, now_s=lambda: day[0]))
        asked = len(server.requests)
        assert "tokens are spent" in small.ask(QUESTION).why_none
        assert len(server.requests) == asked
        day[0] = 86_400.0
        assert "tokens are spent" not in small.ask(QUESTION).why_none


def test_a_count_that_cannot_be_read_is_a_day_that_is_spent(tmp_path: Path):
    path, now = tmp_path / "spend.json", [0.0]
    for text in ("{broken", "[]", '{"day": "1970-01-01"}', '{"day": "1970-01-01", "tokens": 1e999}'):
        path.write_text(text)
        spend = Spend(path, 100, now_s=lambda: now[0])
        now[0] = 0.0
        assert not spend.reserve(1)
        now[0] = 86_400.0
        assert spend.reserve(100)
        assert not spend.reserve(1)


def test_two_processes_do_not_spend_more_together(tmp_path: Path):
    code = (
        "import sys; from pathlib import Path; from upwell.goals.spend import Spend; "
        "spend = Spend(Path(sys.argv[1]), 300); print(sum(spend.reserve(1) for _ in range(200)))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "spend.json")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    assert sum(int(one.communicate()[0]) for one in both) == 300


def test_the_key_is_sent_and_told_nowhere(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    key = "sk-0123456789abcdef"
    monkeypatch.setenv(llm.KEY, f" {key}\n")
    caplog.set_level(logging.DEBUG)
    leak = Turn(401, {"error": {"message": f"Incorrect API key provided: {key}"}})
    with playing(in_turn(leak, completion(TEXT.replace("大促", key)))) as server:
        asker = Asker(server.url)
        replies = [asker.ask(QUESTION), asker.ask(QUESTION)]
    assert server.keys == [f"Bearer {key}"] * 2
    assert "Incorrect API key provided: ***" in replies[0].why_none
    assert replies[1].answers[0].why == "*** 🛒"
    assert key not in repr((asker, vars(asker), replies)) + caplog.text


def test_a_key_that_cannot_be_sent_is_not_shown_either(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(llm.KEY, "geheim\nX-Other: 1")
    reply = Asker("http://127.0.0.1:9/v1").ask(QUESTION)
    assert reply.why_none == "BadRequest: UPWELL_LLM_KEY holds characters that no key has"


def test_the_service_needs_no_openai_and_an_asker_says_how_to_get_it():
    code = (
        "import sys; sys.modules['openai'] = None\n"
        "import upwell.goals.llm as llm\n"
        "assert 'jax' not in sys.modules\n"
        "try: llm.Asker('http://x/v1')\n"
        "except llm.BadRequest as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'upwell[llm]'" in done.stdout


def test_a_url_that_is_none_is_refused():
    with pytest.raises(BadRequest, match="must begin with http"):
        Asker("file:///etc/passwd")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory):
    """The real engine on a model that knows nothing."""
    engine.need()
    with engine.running(tmp_path_factory.mktemp("engine")) as started:
        yield started


@pytest.mark.slow
def test_the_engine_holds_to_the_schema(tiny: engine.Engine):
    reply = Asker(tiny.url, max_tokens=4_000, timeout_s=120).ask(QUESTION, 2)
    whole = [json.loads(raw) for raw in reply.raw if raw.rstrip().endswith("}")]
    assert whole, reply
    for said in whole:
        assert list(said) == list(GOOD)
        assert list(said["weights"]) == list(GOOD["weights"])
    assert reply.tokens > 0


@pytest.mark.slow
def test_fifty_proposals_of_the_engine_end_bounded(tiny: engine.Engine):
    asker = Asker(tiny.url, max_tokens=200, timeout_s=120)
    asked = 0
    for day in range(13):
        reply = asker.ask(QUESTION._replace(state={"gmv_per_day": 1e6 * day}), 4)
        assert reply.why_none == ""
        asked += len(reply.answers)
        for answer in reply.answers:
            end_bounded(answer)
    assert asked >= 50


@pytest.mark.slow
def test_an_engine_that_is_killed_in_the_middle_is_told_within_the_time_limit(tmp_path: Path):
    engine.need()
    with engine.running(tmp_path) as started:

        def kill_at_work() -> None:
            while not started.working():
                time.sleep(0.005)
            started.process.kill()

        killer = threading.Thread(target=kill_at_work)
        killer.start()
        begun = time.monotonic()
        reply = Asker(started.url, timeout_s=10.0, retries=1).ask(QUESTION, 4)
        taken = time.monotonic() - begun
        killer.join()
    assert reply.answers == ()
    assert "Connection error" in reply.why_none
    assert taken < 10.0 + 2 * llm.GRACE_S
