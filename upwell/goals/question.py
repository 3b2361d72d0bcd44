"""What a model is asked: a goal, the platform's state and what was tried, filled into the prompts of ``prompts/``.

Whatever people wrote stands as JSON between ``<data>`` and ``</data>`` with every ``<`` and ``>`` escaped, so that no
text can close its block, open another, or spell a chat template's marks; what cannot be printed is dropped.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from string import Template
from typing import Literal, NamedTuple

import msgspec

from upwell.agents.system import SystemDials
from upwell.goals.answer import printable
from upwell.goals.goal import Effect, Goal
from upwell.goals.measures import PLATFORM
from upwell.goals.program import BOUND
from upwell.goals.program_tree import MEASURES
from upwell.goals.weights import NAMES, USUAL, Limits, shares
from upwell.model import Weights

TITLES, TITLE, TRIED, TEXT = 20, 120, 8, 4_000
"""Titles that are told and their characters, attempts that are told, characters of any other text."""


class Tried(NamedTuple):
    """Weights (and a program) that were proposed, and what they did, or are predicted to do, by metric."""

    weights: Weights
    program: str = ""
    effects: Mapping[str, Effect] = {}
    became: str = ""  # what came of it: approved, rolled back and why, refused and why


class Question(NamedTuple):
    """``state``: metrics by name, in their units. ``past``: for earlier goals; ``rounds``: for this one, simulated."""

    goal: Goal
    state: Mapping[str, float]
    weights: Weights
    past: tuple[Tried, ...] = ()
    rounds: tuple[Tried, ...] = ()
    limits: Limits = USUAL
    titles: tuple[str, ...] = ()
    language: Literal["zh", "en"] = "en"


def messages(question: Question) -> list[dict[str, str]]:
    """The chat's messages. Numbers are rounded, so that a state that hardly differs asks the same question."""
    language = "zh" if question.language == "zh" else "en"
    goal = {"text": question.goal.text, "aims": question.goal.aims, "bounds": question.goal.bounds}
    system = template("system", language).substitute(
        smallest=f"{question.limits.smallest:g}",
        step=f"{question.limits.step:g}",
        bonus=f"{BOUND:g}",
        approval=f"{SystemDials().approval:g}",
        measures=", ".join(f"{m.name} ({m.unit})" if m.unit else m.name for m in MEASURES.values()),
    )
    user = template("goal", language).substitute(
        state=state(question.state, language),
        weights=json.dumps(told_weights(question.weights)),
        past=block("past", attempts(question.past)),
        rounds=block("attempts", attempts(question.rounds)),
        titles=block("titles", [printable(title, TITLE) for title in question.titles[:TITLES]]),
        goal=block("goal", msgspec.to_builtins(goal)),
    )
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]


@cache
def template(name: str, language: str) -> Template:
    """A prompt's file. It is filled once: what is filled in is never looked through for places to fill."""
    return Template(files("upwell.goals").joinpath("prompts", f"{name}.{language}.md").read_text("utf-8"))


def block(name: str, value: object) -> str:
    """Data that cannot leave its block."""
    text = json.dumps(cleaned(value), ensure_ascii=False)
    for mark in "<>":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return f'<data name="{name}">\n{text}\n</data>'


def cleaned(value: object) -> object:
    """The same with every text printable."""
    if isinstance(value, str):
        return printable(value, TEXT)
    if isinstance(value, Mapping):
        return {printable(str(key), TITLE): cleaned(inner) for key, inner in value.items()}
    return [cleaned(inner) for inner in value] if isinstance(value, list | tuple) else value


def state(metrics: Mapping[str, float], language: str) -> str:
    """A line a metric that exists: its value, unit and meaning."""
    return "\n".join(
        f"- {name}: {metrics[name]:.3g} {m.unit}".rstrip() + f": {m.meaning_zh if language == 'zh' else m.meaning}"
        for name, m in PLATFORM.items()
        if name in metrics and math.isfinite(metrics[name])
    )


def attempts(tried: Sequence[Tried]) -> list[dict[str, object]]:
    """The last ones, oldest first."""
    return [
        {
            "weights": told_weights(one.weights),
            "program": one.program,
            "effects": {
                name: [rounded(e.before), rounded(e.after), [rounded(e.low), rounded(e.high)]]
                for name, e in one.effects.items()
                if name in PLATFORM
            },
            "became": one.became,
        }
        for one in tried[-TRIED:]
    ]


def told_weights(weights: Weights) -> dict[str, float]:
    values = shares(weights)
    return {} if values is None else {name: round(float(value), 3) for name, value in zip(NAMES, values, strict=True)}


def rounded(value: float) -> float | None:
    """Three digits; None where it is not finite, for which JSON has no word."""
    return float(f"{value:.3g}") if math.isfinite(value) else None
