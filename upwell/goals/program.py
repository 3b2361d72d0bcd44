"""Reward programs: small typed expressions over named measures, for what three weights cannot say.

A program gives each content that asks for heating a bonus, or malus, on the system agent's score, within ``BOUND``:

    if tag("food") and followers < 1000 and d1_retention >= 60% then 0.2 else 0

``parse`` is the one door: what it lets through is bounded in depth and size, of one unit, and within known ranges.
``printed`` is its inverse; ``told`` says the same in words. ``value`` is what a program means; ``compiled`` is that
over arrays. Nothing of a text is ever executed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated

import msgspec

from upwell.agents.system import SystemDials
from upwell.agents.xp import Array, Namespace, clip
from upwell.errors import BadRequest
from upwell.goals.program_parser import LETTERS, read
from upwell.goals.program_printer import said, written
from upwell.goals.program_steps import as_number, cleaned, key_of_tag, over, walked
from upwell.goals.program_tree import Call, Named, Node, Tag
from upwell.model import Record

BOUND = 0.3
"""A bonus lies within this on both sides; scores lie in [0, 1], and requests above ``SystemDials.approval`` win."""
SCHEMA = 1
KEPT = 256
"""Texts and programs whose trees, measures and functions stay in memory."""


@dataclass(frozen=True, slots=True)
class Program:
    """A checked tree. Hashable: a static argument of ``jit``."""

    body: Node


@lru_cache(maxsize=KEPT)
def parse(text: str) -> Program:
    """The program that ``text`` spells. Raises BadRequest, which says at which column and what to do."""
    found = read(text)
    if found.sort.unit:
        raise BadRequest(
            f"program, column 1: it comes out in {found.unit}, and a bonus has no unit: divide by an amount, as "
            "followers / 1000 count or price / 100 yuan do"
        )
    low, high = found.sort.low, found.sort.high
    if low > BOUND or high < -BOUND:
        raise BadRequest(
            f"program, column 1: its value lies in {low:g} … {high:g}, all of it beyond ±{BOUND:g}, so that every "
            "content would get the same: make it smaller, or use a test"
        )
    return Program(found.node)


def printed(program: Program) -> str:
    """Its text: ``parse(printed(p)) == p``."""
    return written(program.body)


SAYS = {
    "en": "A content's heating is approved from a score of {bar:g} on. Added to the score, at most ±{bound:g}: {body}.",
    "zh": "内容申请加热,得分达到{bar:g}即获批。得分另加(幅度不超过±{bound:g}):{body}。",
}


def told(program: Program, language: str) -> str:
    """What it does in plain words: "zh" Chinese, else English."""
    language = "zh" if language == "zh" else "en"
    body = said(program.body, language == "zh")
    return SAYS[language].format(bar=SystemDials().approval, bound=BOUND, body=body)


class Saved(Record, frozen=True, kw_only=True):
    """A program as data: its text, which ``parse`` alone turns into a tree again."""

    schema: int = SCHEMA
    program: Annotated[str, msgspec.Meta(max_length=LETTERS)]


def encoded(program: Program) -> bytes:
    """As JSON."""
    return msgspec.json.encode(Saved(program=printed(program)))


def decoded(data: bytes) -> Program:
    """What ``encoded`` wrote. Raises BadRequest, of a newer schema too."""
    try:
        saved = msgspec.json.decode(data, type=Saved)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"not a saved program: {error}") from None
    if saved.schema != SCHEMA:
        raise BadRequest(f"a saved program of schema {saved.schema}; this Upwell reads schema {SCHEMA}: write it anew")
    return parse(saved.program)


def nodes(program: Program) -> Iterator[Node]:
    """All of them, each where it stands."""
    todo = [program.body]
    while todo:
        node = todo.pop()
        yield node
        todo += node.args if isinstance(node, Call) else ()


@lru_cache(maxsize=KEPT)
def reads(program: Program) -> frozenset[str]:
    """The measures that it names."""
    return frozenset(node.name for node in nodes(program) if isinstance(node, Named))


@lru_cache(maxsize=KEPT)
def tags(program: Program) -> frozenset[str]:
    """The tags that it asks for."""
    return frozenset(node.name for node in nodes(program) if isinstance(node, Tag))


def value(program: Program, measures: Mapping[str, float]) -> float:
    """The bonus of one content, by the tree, in double precision: what a program means.

    Args:
        measures: each that it reads, in its unit, clipped to its range; not a number counts as 0. Tags under
            ``key_of_tag``, yes where not 0.
    """
    return min(max(walked(program.body, measures), -BOUND), BOUND)


@lru_cache(maxsize=KEPT)
def compiled(program: Program) -> Callable[[Namespace, Mapping[str, Array]], Array]:
    """``value`` as one function over arrays, f32; whatever the measures hold, it is finite and within ``BOUND``.

    Measures broadcast together: of contents ``[M]``, of the platform scalars; of tags bool ``[M]``.
    """

    def bonus(xp: Namespace, measures: Mapping[str, Array]) -> Array:
        clean = {name: cleaned(xp, name, measures[name]) for name in reads(program)}
        clean |= {key: xp.asarray(measures[key]) != 0 for key in map(key_of_tag, tags(program))}
        return clip(xp, as_number(xp, over(xp, program.body, clean)), -BOUND, BOUND).astype(xp.float32)

    return bonus
