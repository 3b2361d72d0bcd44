"""A model's raw text read as an answer: what holds is kept, what does not is told, and nothing raises or is executed.

The answer is one JSON object, which ``SCHEMA`` describes to engines that can hold a model to it; others wrap it in
prose or code fences, cut it off or write it twice. Its weights are checked by ``weights.checked``, not here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn, TypeVar

import msgspec

from upwell.errors import BadRequest
from upwell.goals import program
from upwell.goals.goal import Aim, Bound, Refusal
from upwell.goals.measures import PLATFORM
from upwell.goals.weights import NAMES, told

READ = 100_000
"""Characters of an answer that are read."""
TRIES = 100
"""Places at which an object is looked for: each try may go over the whole text."""
WHY, MOST = 500, 16
"""Characters of a reason that are kept; aims and bounds of an answer that are taken."""


def _object(**properties: object) -> dict[str, object]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


_NUMBER = {"type": ["number", "null"]}
_METRIC = {"type": "string", "enum": list(PLATFORM)}
SCHEMA = _object(
    weights=_object(**{name: {"type": "number"} for name in NAMES}),
    program={"type": "string", "maxLength": 500},  # less than is taken: engines unroll a length into states
    aims={
        "type": "array", "maxItems": 4,
        "items": _object(metric=_METRIC, direction={"type": "string", "enum": ["up", "down"]}, target=_NUMBER),
    },
    bounds={
        "type": "array", "maxItems": 4,
        "items": _object(metric=_METRIC, low=_NUMBER, high=_NUMBER, relative={"type": "boolean"}),
    },
    why={"type": "string", "maxLength": 200},
)  # fmt: skip
"""What an answer is, as JSON Schema."""
KEYS = frozenset(("weights", "program", "aims", "bounds", "why"))


class Answer(NamedTuple):
    """What a model said. ``weights``: unchecked, as decoded from JSON; None where there are none."""

    weights: dict[str, object] | None = None
    program: str = ""
    aims: tuple[Aim, ...] = ()
    bounds: tuple[Bound, ...] = ()
    why: str = ""
    refused: tuple[Refusal, ...] = ()


def read(raw: str | bytes) -> Answer:
    """The answer in a model's text. Raises nothing: what was not taken is in ``refused``."""
    text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw
    refused: list[Refusal] = []
    if len(text) > READ:
        refused.append(Refusal(what=f"{len(text)} characters", why=f"only the first {READ} are read"))
    text = text[:READ].rpartition("</think>")[2]  # where a model that thinks aloud begins to answer
    try:
        found = _found(text)
    except ValueError as error:
        return Answer(refused=(*refused, Refusal(what=told(text), why=printable(str(error), 300))))
    weights = found.get("weights")
    if weights is not None and not isinstance(weights, dict):
        refused.append(Refusal(what=told(weights), why=f"weights are an object of {', '.join(NAMES)}"))
        weights = None
    refused += [Refusal(what=told(key), why="no such key in an answer") for key in sorted(found.keys() - KEYS)[:MOST]]
    return Answer(
        weights,
        _program(found.get("program", ""), refused),
        _records(found.get("aims"), Aim, refused),
        _records(found.get("bounds"), Bound, refused),
        printable(_text("why", found.get("why"), refused), WHY),
        tuple(refused),
    )


def printable(text: str, most: int) -> str:
    """Without what cannot be shown (control and format characters, lone surrogates), in one line, cut to ``most``."""
    return " ".join("".join(c if c.isprintable() else " " for c in text[: 2 * most]).split())[:most].rstrip()


def _found(text: str) -> dict[str, Any]:
    """The one object with keys of an answer. Raises ValueError where there is none, or several that differ."""
    found: dict[str, dict[str, Any]] = {}
    why = "no JSON object with a key of an answer"
    at = text.find("{")
    for _ in range(TRIES):
        if at < 0:
            break
        end = at + 1
        try:
            value, end = _DECODER.raw_decode(text, at)
            if KEYS & value.keys():
                found[text[at:end]] = value
        except (ValueError, RecursionError) as error:
            why = str(error) if why.startswith("no ") else why  # of the outermost: those within it fail too
        at = text.find("{", end)
    if not found:
        raise ValueError(f"no answer: {why}")
    if len(found) > 1:
        raise ValueError(f"{len(found)} answers that differ: one is asked for")
    return next(iter(found.values()))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    decoded = dict(pairs)
    if len(decoded) < len(pairs):
        raise ValueError("a key is given twice")
    return decoded


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number in JSON")


_DECODER = json.JSONDecoder(strict=False, object_pairs_hook=_once, parse_constant=_no_number)


def _text(name: str, value: object, refused: list[Refusal]) -> str:
    if isinstance(value, str):
        return value
    if value is not None:
        refused.append(Refusal(what=told(value), why=f"{name} must be text"))
    return ""


def _program(value: object, refused: list[Refusal]) -> str:
    """The program's text where it is one, "" where it is refused or there is none."""
    text = _text("program", value, refused).strip()
    try:
        if text:
            program.parse(text)
        return text
    except BadRequest as error:
        refused.append(Refusal(what=printable(text, 300), why=printable(str(error), 1_000)))
        return ""


_R = TypeVar("_R", Aim, Bound)


def _records(value: object, kind: type[_R], refused: list[Refusal]) -> tuple[_R, ...]:
    """Those of a list that are aims (or bounds) on metrics that exist."""
    if value is None:
        return ()
    name = f"{kind.__name__.lower()}s"
    if not isinstance(value, list) or len(value) > MOST:
        refused.append(Refusal(what=told(value), why=f"{name} are a list of at most {MOST}"))
        return ()
    taken: list[_R] = []
    for item in value:
        try:
            record = msgspec.convert(item, kind)
            if record.metric not in PLATFORM:
                raise ValueError(f"no metric is called {record.metric!r}")
            taken.append(record)
        except ValueError as error:  # msgspec's are ValueErrors too
            what = item.get("metric", item) if isinstance(item, Mapping) else item
            refused.append(Refusal(what=told(what), why=printable(f"{name}: {error}", 300)))
    return tuple(taken)
