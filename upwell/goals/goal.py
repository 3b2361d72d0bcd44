"""What an operator wants, as data: aims, bounds and a period beside their own words; and what was proposed for it."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from upwell.model import Count, Id, Millis, Record, Weights

Finite = Annotated[float, Meta(ge=-1e15, le=1e15)]
Name = Annotated[str, Meta(min_length=1, max_length=64)]
Text = Annotated[str, Meta(max_length=4_000)]
Source = Literal["llm", "search", "fallback", "operator"]


class Aim(Record, frozen=True, kw_only=True):
    """A metric of the platform that is to move. ``target``: in its own unit, where the operator named one."""

    metric: Name  # of ``measures.PLATFORM``
    direction: Literal["up", "down"]
    target: Finite | None = None
    priority: Annotated[float, Meta(gt=0.0, le=100.0)] = 1.0


class Bound(Record, frozen=True, kw_only=True):
    """What a metric must not leave. ``relative``: ``low`` and ``high`` are changes against now, -0.02 a fall by 2%."""

    metric: Name
    low: Finite | None = None
    high: Finite | None = None
    relative: bool = False


class Goal(Record, frozen=True, kw_only=True):
    """What is wanted, in the operator's words and as data. ``until_ms``: when it is lifted; None: never by itself."""

    id_fields = ("id",)
    id: Id
    text: Text
    created_at: Millis
    aims: Annotated[tuple[Aim, ...], Meta(max_length=16)] = ()
    bounds: Annotated[tuple[Bound, ...], Meta(max_length=16)] = ()
    from_ms: Millis | None = None
    until_ms: Millis | None = None


class Effect(Record, frozen=True, kw_only=True):
    """What a proposal does to a metric, by simulation: its mean now and under it, and the change with its interval."""

    before: float
    after: float
    change: float
    low: float
    high: float


class Refusal(Record, frozen=True, kw_only=True):
    """A candidate, or a part of an answer, that was not taken, and why."""

    what: Annotated[str, Meta(max_length=2_000)]
    why: Annotated[str, Meta(max_length=2_000)]


class Proposal(Record, frozen=True, kw_only=True):
    """Weights (and a reward program) that answer a goal, and what came of trying them in simulation.

    ``considered``: of every candidate that was tried, how far it moved what was asked (the distribution that the chosen
    one was picked from). ``aims`` and ``bounds``: what it was proven against; a model's reading, where the goal's words
    named nothing. ``prompt_hash``, ``model`` and ``answer``: what a language model was asked and said.
    """

    goal_id: Id
    weights: Weights
    source: Source
    created_at: Millis
    program: Annotated[str, Meta(max_length=2_000)] = ""
    predicted: dict[str, Effect] = field(default_factory=dict[str, Effect])
    rejected: tuple[Refusal, ...] = ()
    considered: tuple[float, ...] = ()
    aims: tuple[Aim, ...] = ()
    bounds: tuple[Bound, ...] = ()
    meets: bool = False  # every aim moves the asked way with an interval clear of zero, and no bound is broken
    rounds: Count = 0
    model: str = ""
    prompt_hash: str = ""
    answer: str = ""
