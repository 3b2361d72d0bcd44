"""What a model says, read: good answers in any wrapping, and broken ones of every kind."""

from __future__ import annotations

import json
import time
from pathlib import Path

import msgspec
import pytest
from hostile import GOOD, TEXT, corpus
from hypothesis import given
from hypothesis import strategies as st

from upwell.goals import answer, program
from upwell.goals.answer import Answer, read
from upwell.goals.goal import Aim, Bound, Proposal
from upwell.goals.measures import PLATFORM
from upwell.goals.weights import NAMES, USUAL, checked, shares
from upwell.model import Weights

NOW = Weights(user_satisfaction=0.4, platform_revenue=0.3, long_term=0.3)


def end_bounded(said: Answer) -> None:
    """Whatever was said: weights within bounds and a step of now, a program that parses, records that can be kept."""
    before, after = shares(NOW), shares(checked(said.weights, NOW).weights)
    assert before is not None
    assert after is not None
    assert after.sum() == pytest.approx(1.0)
    assert after.min() >= USUAL.smallest - 1e-9
    assert abs(after - before).max() <= USUAL.step * USUAL.smoothing + 1e-9
    if said.program:
        program.parse(said.program)
    assert all(one.metric in PLATFORM for one in (*said.aims, *said.bounds))
    refused = (*said.refused, *checked(said.weights, NOW).refused)
    kept = Proposal(goal_id="g", weights=NOW, source="llm", created_at=1, program=said.program, rejected=refused)
    assert msgspec.json.decode(msgspec.json.encode(kept), type=Proposal) == kept
    assert len(said.why.encode()) <= 4 * answer.WHY


def test_hundreds_of_hostile_answers_end_bounded_and_none_raises_or_executes():
    answers = corpus()
    assert len(answers) >= 500
    for one in answers:
        end_bounded(read(one))
    assert not Path("/tmp/upwell-was-here").exists()


@given(st.text() | st.binary() | st.text(alphabet='{}[]":,0.1e\\weightsprogam'))
def test_any_text_is_read(text: str | bytes):
    end_bounded(read(text))


@given(st.integers(0, len(TEXT) - 1), st.integers(0, len(TEXT)), st.text(max_size=8))
def test_any_part_replaced_is_read(begin: int, length: int, new: str):
    end_bounded(read(TEXT[:begin] + new + TEXT[begin + length :]))


@pytest.mark.parametrize(
    "wrapped",
    [
        TEXT, TEXT.encode(), f"\n\n{TEXT}\n", f"Sure! Here it is:\n{TEXT}\nHope {{that}} helps.",
        f"```json\n{TEXT}\n```", f"好的:```\n{json.dumps(GOOD, indent=2)}\n```",
        f'<think>maybe {{"weights": {{}}, "why": "a draft"}}</think>{TEXT}', TEXT + " again: " + TEXT,
    ],
)  # fmt: skip
def test_a_good_answer_is_read_whatever_it_is_wrapped_in(wrapped: str | bytes):
    said = read(wrapped)
    assert said == Answer(
        GOOD["weights"],
        GOOD["program"],
        (Aim(metric="gmv_per_day", direction="up", target=1e8),),
        (Bound(metric="d1_retention", low=0.65),),
        "大促 🛒",
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("I cannot help with that.", "no answer: no JSON object"),
        (TEXT[:-1], "no answer: Expecting ',' delimiter"),
        (TEXT + TEXT.replace("0.5", "0.9"), "2 answers that differ"),
        ('{"weights": {"a": 1, "a": 2}}', "a key is given twice"),
        ('{"weights": {"a": NaN}}', "NaN is no number"),
        ('{"weights": {"a": -Infinity}}', "-Infinity is no number"),
        ('{"weights":' * 9_000, "maximum recursion depth"),
        ('{"weights": ' + "9" * 5_000 + "}", "4300 digits"),
        ("x" * 1_000_000 + TEXT, "only the first 100000 are read"),
        ('{"weights": [0.4, 0.4, 0.2]}', "weights are an object of"),
        ('{"why": "x", "code": "y"}', "no such key"),
        ('{"why": 3}', "why must be text"),
        ('{"program": "ctr.__class__"}', "program, column 4"),
        ('{"program": ["ctr"]}', "program must be text"),
        ('{"aims": {}}', "aims are a list"),
        ('{"aims": [{"metric": "profit", "direction": "up"}]}', "no metric is called 'profit'"),
        ('{"aims": [{"metric": "ctr", "direction": "sideways"}]}', "Invalid enum value"),
        ('{"bounds": [{"metric": "ctr", "low": 3e63194}]}', "bounds: Expected `float` <= 1000000000000000.0"),
        ('{"bounds": [7]}', "bounds: Expected `object`"),
    ],
)
def test_what_is_not_taken_is_told(text: str, why: str):
    said = read(text)
    assert any(why in one.why for one in said.refused), said.refused
    assert said._replace(refused=(), why="") == Answer()


def test_what_holds_beside_what_does_not_is_kept():
    said = read(json.dumps({**GOOD, "program": "import os", "aims": [*GOOD["aims"], {"metric": "x"}]}))
    assert said.weights == GOOD["weights"]
    assert (said.program, len(said.aims), len(said.bounds), len(said.refused)) == ("", 1, 1, 2)


def test_a_reason_is_one_line_that_can_be_shown():
    said = read(json.dumps({"why": "\x1b[31mred\n\u202etfel \ud800" + "长" * 1_000}))
    assert said.why.startswith("[31mred tfel 长长")
    assert len(said.why) == answer.WHY


def test_the_slowest_answers_are_read_in_a_moment():
    started = time.process_time()
    for one in ('{"a":' * 100_000, '{"why": "' * 30_000, "{" * 100_000, '{"a": "' + "x" * 100_000):
        assert read(one).weights is None
    assert time.process_time() - started < 5.0


def test_the_schema_is_what_is_read():
    properties = answer.SCHEMA["properties"]
    assert isinstance(properties, dict)
    assert set(properties) == set(Answer._fields) - {"refused"} == answer.KEYS
    assert list(properties["weights"]["properties"]) == list(NAMES)
