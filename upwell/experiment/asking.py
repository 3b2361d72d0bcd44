"""A model asked for candidates, round by round: what they do in simulation goes back into the next question."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from upwell.experiment.proof import Candidate, meets
from upwell.experiment.search import Predicted, Prove, Region, array_of
from upwell.goals.answer import MOST, Answer
from upwell.goals.goal import Goal, Refusal
from upwell.goals.llm import Asker, Reply
from upwell.goals.program import parse, printed
from upwell.goals.question import Question, Tried
from upwell.goals.reading import CHINESE
from upwell.goals.weights import Limits, checked

log = logging.getLogger(__name__)

MANY = 4
"""Candidates that a model is asked for in a round."""
PROGRAMS = 2
"""Reward programs that are lived for one goal: each compiles the world anew."""


class Asking(NamedTuple):
    """A model, and what it is told beside the goal and the present weights."""

    asker: Asker
    past: tuple[Tried, ...] = ()  # what was proposed for earlier goals, and what it did
    titles: tuple[str, ...] = ()
    state: Mapping[str, float] = {}  # metrics of the real platform; none: those of the simulated ones


class Said(NamedTuple):
    """What came of asking: the goal, with the model's aims where it had none; what its candidates do; the rest."""

    goal: Goal
    found: Mapping[Candidate, Predicted]
    refused: Sequence[Refusal]
    replies: Sequence[Reply]


def consult(goal: Goal, now: Candidate, asking: Asking, limits: Limits, prove: Prove, rounds: int) -> Said:
    """Ask for candidates, prove them, tell the model what they do, and ask for better ones."""
    region = Region(now.weights, limits)
    found: dict[Candidate, Predicted] = {}
    refused, replies, tried = list[Refusal](), list[Reply](), list[Tried]()
    language = "zh" if CHINESE.search(goal.text) else "en"
    for _ in range(rounds):
        question = Question(goal, asking.state, now.weights, asking.past, tuple(tried), limits, asking.titles, language)
        reply = asking.asker.ask(question, MANY)
        replies.append(reply)
        if reply.why_none:
            log.warning("the model %s did not answer: %s", reply.model, reply.why_none[:500])
            refused.append(Refusal(what=f"the model {reply.model}", why=reply.why_none[:2_000]))
        new = list[Candidate]()
        for answer in reply.answers:
            goal = with_aims(goal, answer)
            candidate, why = candidate_of(answer, now, region, limits)
            refused += (*answer.refused, *why)
            if candidate is None or candidate in found or candidate in new:
                continue
            programs = {one.program for one in (*found, *new) if one.program}
            if candidate.program and len(programs | {candidate.program}) > PROGRAMS:
                refused.append(Refusal(what=candidate.program, why=f"{PROGRAMS} programs were tried for this goal"))
                continue
            new.append(candidate)
        if not new:
            break  # the next question would be the same
        for candidate, does in zip(new, prove(new), strict=True):
            found[candidate] = does
            tried.append(Tried(candidate.weights, candidate.program, does, became(goal, does)))
    return Said(goal, found, refused, replies)


def with_aims(goal: Goal, answer: Answer) -> Goal:
    """The goal with the aims that the model read where none were; its bounds come on top and replace none."""
    if goal.aims or not answer.aims:
        return goal
    bounded = {bound.metric for bound in goal.bounds}
    more = tuple(bound for bound in answer.bounds if bound.metric not in bounded)
    return replace(goal, aims=answer.aims, bounds=(*goal.bounds, *more)[:MOST])


def candidate_of(
    answer: Answer, now: Candidate, region: Region, limits: Limits
) -> tuple[Candidate | None, tuple[Refusal, ...]]:
    """What of an answer may be lived: weights within the limits, on the grid; the present ones where none are given."""
    program = answer.program and printed(parse(answer.program))
    if answer.weights is None:
        return (now._replace(program=program) if program else None), ()
    weights, _, refused = checked(answer.weights, now.weights, limits)
    if refused:
        return None, refused
    return Candidate(region.nearest(array_of(weights)), program), ()


def failed(failures: Sequence[Refusal]) -> str:
    return "; ".join(f"{failure.what}: {failure.why}" for failure in failures)


def became(goal: Goal, does: Predicted) -> str:
    """What a model is told of an attempt of its own."""
    if not does:
        return "not simulated"
    answers, score, failures = meets(goal, does)
    return f"score {score:.2f}: " + (
        "answers the goal" if answers else "; ".join(f"{f.what}: {f.why}" for f in failures)
    )
