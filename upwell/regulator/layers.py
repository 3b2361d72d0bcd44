"""What an experiment is: arms, the experiment they belong to, the layer that it shares with others.

The experiments of a layer own disjoint ranges of its buckets, so that nobody is in two of them; those of different
layers overlap, and are independent of each other (Tang et al., "Overlapping Experiment Infrastructure", KDD 2010).
Definitions are data: they are checked when they are made, and what is wrong raises BadRequest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import accumulate, pairwise
from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta, Struct, field

from upwell.errors import BadRequest
from upwell.model import Share
from upwell.regulator.targeting import Target

BUCKETS = 10_000
"""Of a layer, and of an experiment. Shares are whole numbers of them, so that every backend draws the same line."""

Design = Literal["user_split", "budget_split", "co_diverted", "switchback"]
"""What is given to an arm, and hence which arm decides what user ``u`` is shown of content ``c`` at time ``t``.

user_split: users; ``u``'s arm. Arms compete for the same pool and contents, so that one's gain may be another's loss.
budget_split: users, and the pool and each content's demand in the same shares (Liu, Mao & Kang, "Trustworthy and
  Powerful Online Marketplace Experimentation with Budget-split Design", KDD 2021); ``u``'s arm, out of its own part.
co_diverted: clusters of users and contents; the arm of ``u``'s cluster where ``c``'s is in the same, else none. Whoever
  has no cluster is one of its own: give the id.
switchback: slots of time, for all of its users at once; the arm of ``t``'s slot (Bojinov, Simchi-Levi & Zhao, "Design
  and Analysis of Switchback Experiments", Management Science 2023).
"""

Name = Annotated[str, Meta(min_length=1, max_length=64)]
Setting = str | int | float | bool | None
Settings = dict[Name, Setting | dict[Name, Setting]]


class Arm(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a share of an experiment's units gets.

    Attributes:
        share: of the experiment's units, in steps of 1 / ``BUCKETS``.
        room: what ``share`` may be widened to while the experiment runs. None: an even part of what the rooms of others
            leave.
        settings: what decides, by name (mode, policy, weights, guards …). Only its shape is checked here.
    """

    name: Name
    share: Share
    room: Share | None = None
    settings: Annotated[Settings, Meta(max_length=64)] = field(default_factory=dict[str, Setting | dict[str, Setting]])


class Experiment(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Arms that are compared on the same units.

    Attributes:
        name: also its salt: two experiments' arms are independent. The same name again means the same people again.
        buckets: first and end of what it owns of its layer's buckets, the end not included.
        targets: all must hold, else no arm decides.
        slot_s: length of a switchback's slots, seconds. Slots are counted from the Unix epoch.
        washout_s: how long at each slot's start what the arm before did still shows, see ``washes_out``.
    """

    name: Name
    arms: Annotated[tuple[Arm, ...], Meta(min_length=1, max_length=64)]
    buckets: tuple[int, int] = (0, BUCKETS)
    design: Design = "user_split"
    targets: Annotated[tuple[Target, ...], Meta(max_length=32)] = ()
    slot_s: int = 0
    washout_s: int = 0

    def __post_init__(self) -> None:
        it = f"experiment {self.name}"
        first, end = self.buckets
        if not 0 <= first < end <= BUCKETS:
            raise BadRequest(f"{it}: buckets {first} to {end} are no range of 0 to {BUCKETS}")
        if self.design not in get_args(Design):
            raise BadRequest(f"{it}: design {self.design!r} is none of {', '.join(get_args(Design))}")
        if not self.arms:
            raise BadRequest(f"{it}: it has no arm")
        distinct(f"{it}: arm", (arm.name for arm in self.arms))
        if sum(self.widths) > BUCKETS:
            raise BadRequest(f"{it}: the shares of its arms are {sum(self.widths) / BUCKETS:g}, more than 1")
        if self.lanes[-1] > BUCKETS:
            raise BadRequest(f"{it}: the rooms of its arms are {self.lanes[-1] / BUCKETS:g}, more than 1")
        for arm, width, (lane, until) in zip(self.arms, self.widths, pairwise(self.lanes), strict=True):
            if width > until - lane:
                room = (until - lane) / BUCKETS
                raise BadRequest(f"{it}: arm {arm.name}: share {arm.share:g} is over its room {room:g}; give it one")
        switches = self.design == "switchback"
        if switches != (self.slot_s > 0) or not 0 <= self.washout_s <= max(self.slot_s - 1, 0):
            raise BadRequest(f"{it}: slot_s > washout_s >= 0 is for a switchback, which needs it")
        if self.design == "budget_split" and self.targets:
            # Which share of the platform the targeted are, and so of the pool, is not written here.
            raise BadRequest(f"{it}: a budget_split takes no targets")

    @property
    def splits_money(self) -> bool:
        """Whether each arm has its own part of the pool and of contents' accounts."""
        return self.design in ("budget_split", "co_diverted")

    @property
    def widths(self) -> list[int]:
        """The arms' shares in buckets."""
        return [whole(f"experiment {self.name}: arm {arm.name}: share", arm.share) for arm in self.arms]

    @property
    def lanes(self) -> list[int]:
        """Where each arm's lane begins, in buckets, and where the last one ends: one more than there are arms."""
        what = f"experiment {self.name}: arm"
        rooms = [None if arm.room is None else whole(f"{what} {arm.name}: room", arm.room) for arm in self.arms]
        left = BUCKETS - sum(room or 0 for room in rooms)
        even = max(left, 0) // max(rooms.count(None), 1)
        return list(accumulate((even if room is None else room for room in rooms), initial=0))

    def ramped(self, shares: Mapping[str, float]) -> Experiment:
        """The same experiment with other shares, by arm: nobody who stays in any arm moves to another.

        Raises BadRequest for an arm that it does not have, and for a share over the arm's room.
        """
        if unknown := shares.keys() - {arm.name for arm in self.arms}:
            raise BadRequest(f"experiment {self.name}: it has no arm {min(unknown)}")
        arms = (msgspec.structs.replace(arm, share=shares.get(arm.name, arm.share)) for arm in self.arms)
        return msgspec.structs.replace(self, arms=tuple(arms))


class Layer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Experiments of which a unit is in one at most. ``name`` is also the salt."""

    name: Name
    experiments: tuple[Experiment, ...] = ()

    def __post_init__(self) -> None:
        distinct(f"layer {self.name}: experiment", (one.name for one in self.experiments))
        for one, other in pairwise(sorted(self.experiments, key=lambda one: one.buckets)):
            if other.buckets[0] < one.buckets[1]:
                where = f"{other.buckets[0]} to {min(one.buckets[1], other.buckets[1])}"
                raise BadRequest(f"layer {self.name}: {one.name} and {other.name} overlap in buckets {where}")
        if len({one.design == "co_diverted" for one in self.experiments}) > 1:
            # A user would be in one by their own number, and in another by their cluster's.
            raise BadRequest(f"layer {self.name}: give co_diverted experiments a layer of their own")


def distinct(what: str, names: Iterable[str]) -> None:
    """Raises BadRequest for a name that comes twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise BadRequest(f"{what} {name} comes twice")
        seen.add(name)


def whole(what: str, share: float) -> int:
    """A share in buckets. Raises BadRequest where it is no whole number of them."""
    if not 0.0 <= share <= 1.0:
        raise BadRequest(f"{what} {share:g} is not within 0 and 1")
    count = round(share * BUCKETS)
    if abs(count - share * BUCKETS) > 1e-6:
        raise BadRequest(f"{what} {share:g} is not in steps of {1 / BUCKETS:g}")
    return count
