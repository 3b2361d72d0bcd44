"""``upwell explain`` asks the running service: decisions in numbers and words, and contents' stories."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

NAMES = tuple(f"told{n}" for n in range(12))


def explain(url: str, *words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", "from upwell.cli import main; main()", "explain", *words, "--url", url]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=120)


@pytest.fixture(scope="module")
def decision(served) -> dict:
    for name in NAMES:
        assert served.content(name).is_success
    return served.recommend("curious", NAMES, size=3).json()


def test_a_decision_is_explained_in_numbers_that_add_up_and_in_words(served, decision):
    done = explain(served.url, decision["decision_id"], "--content", "told11", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["decision_id"] == decision["decision_id"]
    assert told["mind"].keys() == {"exploitation", "curiosity", "fatigue", "satisfaction"}
    for item in told["items"]:
        assert sum(item["contributions"].values()) == sum(item["groups"].values()) == item["logit"]
        assert item["sentence"].endswith(".")
        assert item["sentence_zh"].endswith("。")
    ranked, heated, explored = told["ways"]
    assert ranked["lacked"] > 0
    assert "too low" in ranked["sentence"]
    assert heated["way"] == "heated"
    assert explored["sentence_zh"]


def test_people_get_a_table_in_their_language(served, decision):
    english = explain(served.url, decision["decision_id"])
    assert english.returncode == 0, english.stderr
    assert all(item["id"] in english.stdout for item in decision["items"])
    chinese = explain(served.url, decision["decision_id"], "--content", "told11", "--language", "zh")
    assert chinese.returncode == 0, chinese.stderr
    assert "按序得分低了" in chinese.stdout


def test_a_content_tells_its_story(served, decision):
    until = time.monotonic() + 30.0
    while time.monotonic() < until:
        told = json.loads(explain(served.url, "content", "told3", "--json").stdout)
        if told["story"]:
            break
    assert told["content"]["id"] == "told3"
    assert told["story"][0]["what"] == "chance"
    people = explain(served.url, "content", "told3")
    assert people.returncode == 0
    assert "chance" in people.stdout


def test_wrong_requests_say_what_to_do(served):
    for words, code, message in (
        (("nothing-of-the-kind",), 2, "no decision"),
        (("content", "nobody"), 2, "no content"),
        (("a", "b"), 2, "content"),
    ):
        done = explain(served.url, *words)
        assert done.returncode == code
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
    away = explain("http://127.0.0.1:9", "any")
    assert away.returncode == 1
    assert "upwell serve" in away.stderr
