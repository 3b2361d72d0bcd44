"""The domain's records: what crosses the wire, the streams and the decision log.

Field names are those of the contract. Times are Unix milliseconds, durations seconds, money yuan. Ids are strings of 1
to 128 bytes of UTF-8. Records are data, never code: JSON in and out by ``msgspec``, which checks every bound below.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct, field

ID_BYTES = 128

Id = Annotated[str, Meta(min_length=1, max_length=ID_BYTES)]
Millis = Annotated[int, Meta(ge=0, le=253_402_300_799_999, description="Unix milliseconds, up to the year 9999")]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Seconds = Annotated[float, Meta(ge=0.0, le=604_800.0)]
Yuan = Annotated[float, Meta(ge=0.0, le=1e9)]
Count = Annotated[int, Meta(ge=0)]
Coordinate = Annotated[float, Meta(ge=-1e6, le=1e6)]
Tag = Annotated[str, Meta(min_length=1, max_length=64)]

Kind = Literal["view", "click", "dwell", "share", "purchase"]


class Record(Struct, frozen=True, kw_only=True, omit_defaults=False):
    """Immutable, with its ids checked in bytes."""

    id_fields: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for name in self.id_fields:
            value = getattr(self, name)
            if value is not None and not value.isascii() and len(value.encode("utf-8")) > ID_BYTES:
                raise ValueError(f"{name} is longer than {ID_BYTES} bytes")


class User(Record, frozen=True, kw_only=True):
    """An account. ``created_at`` starts the protection of the new."""

    id_fields = ("id",)
    id: Id
    created_at: Millis


class Content(Record, frozen=True, kw_only=True):
    """Something to show. ``quality`` is the operator's to set; ``published_at`` never changes once set."""

    id_fields = ("id", "creator_id")
    id: Id
    creator_id: Id
    published_at: Millis
    tags: Annotated[tuple[Tag, ...], Meta(max_length=32)] = ()
    embedding: Annotated[tuple[Coordinate, ...], Meta(max_length=4_096)] | None = None
    quality: Share | None = None
    duration_s: Seconds | None = None
    price: Yuan | None = None
    title: Annotated[str, Meta(max_length=512)] = ""
    category: Annotated[str, Meta(max_length=128)] = ""
    creator_followers: Annotated[int, Meta(ge=0, le=10**12)] | None = None


class Candidate(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """One of the ranker's candidates and its score, in logits or any unit that ranks the same.

    ``pushed``: the platform boosts it here by itself, such as by hand; counted as heated where the ranker's order is
    shown, and no more than any other where Upwell decides. No check of its own: there are hundreds in a request, which
    checks them together.
    """

    id: Id
    score: float
    pushed: bool = False


class Request(Record, frozen=True, kw_only=True):
    """What to show a user. The same ``request_id`` gets the same answer."""

    id_fields = ("user_id", "request_id")
    user_id: Id
    candidates: Annotated[tuple[Candidate, ...], Meta(max_length=10_000)]
    size: Annotated[int, Meta(ge=1, le=200)]
    request_id: Id | None = None
    exclude: Annotated[tuple[Id, ...], Meta(max_length=10_000)] = ()  # never to be shown
    inject: bool = True  # grants may add eligible contents that are not among the candidates
    shadow: bool = False  # decide and log, but answer with the ranker's own order
    context: dict[str, str | float | bool] = field(default_factory=dict[str, str | float | bool])

    def __post_init__(self) -> None:
        super().__post_init__()
        ids = [c.id for c in self.candidates]
        if not "".join(ids).isascii() and any(len(id.encode("utf-8", "surrogatepass")) > ID_BYTES for id in ids):
            raise ValueError(f"the id of a candidate is longer than {ID_BYTES} bytes")


class Item(Record, frozen=True, kw_only=True):
    """One place of a slate.

    ``propensity`` is the probability of this content at this position given those above; 1 where ``stochastic`` is
    false. ``contributions`` are logits by name, and add up to ``logit``, the score that was compared.
    """

    id_fields = ("id",)
    id: Id
    position: Count
    heated: bool
    explored: bool
    propensity: Annotated[float, Meta(gt=0.0, le=1.0)]
    reasons: tuple[str, ...]
    stochastic: bool = False
    logit: float | None = None
    contributions: dict[str, float] = field(default_factory=dict[str, float])


class Shown(Struct, frozen=True):
    """One place of an answer: a decision's item as callers see it."""

    id: str
    position: int
    heated: bool
    explored: bool
    propensity: float
    reasons: tuple[str, ...]


class Answer(Struct, frozen=True):
    """The answer to a request. ``degraded``: a step below the arm gave it, and ``why`` says for what reason, a code."""

    decision_id: str
    items: tuple[Shown, ...]
    arm: str
    policy_version: str
    weights_version: str
    degraded: bool
    why: str | None = None


class Rejected(Struct, frozen=True):
    """An event that was not taken, by its place in the call."""

    index: int
    code: str
    message: str


class Taken(Struct, frozen=True):
    """What became of a call's events."""

    accepted: int
    duplicates: int
    rejected: tuple[Rejected, ...]


class Weights(Record, frozen=True, kw_only=True):
    """Reward weights of a goal; only their ratios count."""

    user_satisfaction: Annotated[float, Meta(ge=0.0)]
    platform_revenue: Annotated[float, Meta(ge=0.0)]
    long_term: Annotated[float, Meta(ge=0.0)]


class Decision(Record, frozen=True, kw_only=True):
    """What was shown, by whom and why: the answer to a request and its line in the decision log.

    ``degraded``: a step below the arm answered (rules for a policy, the ranker's order for both); ``arm`` names it.
    """

    id_fields = ("decision_id", "user_id", "request_id")
    decision_id: Id
    user_id: Id
    ts: Millis
    items: tuple[Item, ...]
    arm: str
    policy_version: str
    weights_version: str
    weights: Weights
    degraded: bool = False
    request_id: Id | None = None


class Interaction(Record, frozen=True, kw_only=True):
    """What a user did. Events of one decision and content merge; no ``decision_id``: it was organic, elsewhere."""

    id_fields = ("event_id", "decision_id", "content_id", "user_id")
    event_id: Id
    content_id: Id
    user_id: Id
    ts: Millis
    kind: Kind = "view"
    decision_id: Id | None = None
    clicked: bool = False
    dwell_s: Seconds = 0.0
    completion: Share = 0.0
    shared: bool = False
    purchased: bool = False
    value: Yuan = 0.0


class Grant(Record, frozen=True, kw_only=True):
    """Heated impressions granted to a content. ``price`` is coins an impression; granted = spent + released + left."""

    id_fields = ("id", "content_id")
    id: Id
    content_id: Id
    granted: Count
    spent: Count
    released: Count
    price: Annotated[float, Meta(ge=0.0)]
    created_at: Millis

    @property
    def outstanding(self) -> int:
        """Impressions still to be shown."""
        return self.granted - self.spent - self.released
