"""Decisions joined with what became of them: steps of user agents, as learning takes them.

A step is six hours of one user: what the agent saw and did at the first slate, and what all slates of these hours
came to. It is given out when the user comes again after them, or is given up. Events merge as they do in the service,
so that what is told twice counts once, and in any order: an event whose decision has not come in yet waits for it.

Gains are shares of the platform's objective, over what the mean slate brings: what people watch, less what they regret
clicking, stands for satisfaction, which no platform sees.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np
import numpy.typing as npt

from upwell.agents.observe import SEES
from upwell.agents.user import CORRECTIONS
from upwell.model import Interaction, Weights
from upwell.online.adaptation import WIDTH, Adaptation
from upwell.regulator.slate import ORGANIC
from upwell.service import records, wire
from upwell.service.keys import digest_of
from upwell.service.learned import WINDOW_MS

GONE_MS = 3 * 86_400_000
"""Who has not come again by then is taken to have left."""
EARLY = 100_000
"""Decisions whose events wait for them, at most."""
EARLY_EVENTS = 200
"""Of one decision: more than any slate has. One that is over is told of here too, and by liars without end."""
MOST_OPEN = 50_000
"""Users whose hours are open, at most: of who comes while so many are here nothing is learned."""
HELD = "holdout"
"""The version of users whom no version decides for."""
STILL = wire.Turned(b"", b"", b"", 1.0, 0.0)
BREADTH = SEES["user"].index("breadth")
HEALTHY_TAGS = 23.0
FADE = 0.999
"""Of what the mean slate brings, a step."""
Floats = npt.NDArray[np.float32]


class Slate(msgspec.Struct):
    """A slate and what became of it."""

    contents: tuple[str, ...]
    ordered: tuple[int, ...]  # places that the order filled: nothing was heated or tried out there
    parts: bytes  # f32 [ordered, CORRECTIONS], of their scores
    places: dict[int, records.Place] = {}


class Open(msgspec.Struct):
    """A user's hours that are not over."""

    window: int
    seen: bytes
    action: bytes
    noise: bytes
    deviation: float
    weights: Weights
    version: str
    credit: float = 0.0
    slates: dict[str, Slate] = {}


class Step(msgspec.Struct, frozen=True):
    """What a user's agent saw and did, and what came of it."""

    user: str
    ts: int
    version: str  # of the policy, or ``HELD``, whose users' agents see nothing and do nothing
    seen: Floats
    action: Floats  # before it is clipped to ±1
    noise: Floats  # standard normal
    gain: float
    next_seen: Floats | None  # None: the user left
    clicks: int
    impressions: int


class Mean(msgspec.Struct):
    """What a slate brings in the mean, fading."""

    slates: float = 0.0
    watched: float = 0.0
    money: float = 0.0
    windows: float = 0.0

    def add(self, slates: int, watched: float, money: float) -> None:
        for name, value in (("slates", slates), ("watched", watched), ("money", money), ("windows", 1)):
            setattr(self, name, FADE * getattr(self, name) + value)


class Experience(msgspec.Struct):
    """Hours that are open, and what events wait for. Plain data: saved with the offsets that it is the state of."""

    open: dict[str, Open] = {}
    user_of: dict[str, str] = {}  # of decisions of open hours
    early: dict[str, list[Interaction]] = {}
    mean: Mean = msgspec.field(default_factory=Mean)
    adaptation: Adaptation = msgspec.field(default_factory=Adaptation)
    adapted: set[str] = set()  # users whose factors are others than the store has

    def decided(self, line: wire.Logged, held: bool = False) -> Step | None:
        """A decision of the log; returns the step of the user's hours before, when this one begins new ones.

        ``held``: the user is in the holdout.
        """
        turned, version = (STILL, HELD) if held else (line.turned, line.policy_version)
        if turned is None or line.decision_id in self.user_of:
            return None
        window, user = line.ts // WINDOW_MS, line.user_id
        hours, done = self.open.get(user), None
        if hours is not None and window > hours.window:
            done, hours = self._closed(user, np.frombuffer(turned.seen, np.float32)), None
        if hours is None:
            if len(self.open) >= MOST_OPEN:
                return done
            hours = self.open[user] = Open(
                window, turned.seen, turned.action, turned.noise, turned.deviation, line.weights, version
            )
        places = line.places if not line.instead else []  # in the shadow something else was shown
        ordered = tuple(k for k, place in enumerate(places) if place.kind == ORGANIC) if not held else ()
        parts = np.array(
            [[places[k].contributions.get(name, 0.0) for name in CORRECTIONS] for k in ordered], np.float32
        )
        hours.slates[line.decision_id] = Slate(tuple(place.id for place in places), ordered, parts.tobytes())
        hours.credit += turned.credit if places else 0.0
        self.user_of[line.decision_id] = user
        for event in self.early.pop(line.decision_id, []):
            self.told(event)
        return done

    def told(self, event: Interaction) -> None:
        """What a user did. Of a decision that never comes in, or is over, it is nothing."""
        if event.decision_id is None:
            return
        user = self.user_of.get(event.decision_id)
        if user is None:
            waiting = self.early.setdefault(event.decision_id, [])
            if len(waiting) < EARLY_EVENTS:
                waiting.append(event)
            while len(self.early) > EARLY:
                del self.early[next(iter(self.early))]
            return
        slate = self.open[user].slates[event.decision_id]
        if user == event.user_id and event.content_id in slate.contents:
            records.merge(slate.places.setdefault(slate.contents.index(event.content_id), records.Place()), event)

    def gone(self, now_ms: int) -> Iterator[Step]:
        """Steps of users who have not come again for ``GONE_MS``."""
        last = (now_ms - GONE_MS) // WINDOW_MS
        for user in [user for user, hours in self.open.items() if hours.window < last]:
            yield self._closed(user, None)

    def erase(self, digest: str) -> None:
        """Forget a user (``keys.digest_of``)."""
        for user in [user for user in self.open if digest_of(user) == digest]:
            for decision in self.open.pop(user).slates:
                del self.user_of[decision]
        for user in [user for user in self.adaptation.users if digest_of(user) == digest]:
            del self.adaptation.users[user]
            self.adapted.discard(user)
        for decision in [id for id, events in self.early.items() if digest_of(events[0].user_id) == digest]:
            del self.early[decision]

    def _closed(self, user: str, next_seen: Floats | None) -> Step:
        hours = self.open.pop(user)
        for decision in hours.slates:
            del self.user_of[decision]
        places = [place for slate in hours.slates.values() for place in slate.places.values()]
        slates = sum(bool(slate.contents) for slate in hours.slates.values())
        clicks = sum(place.clicked for place in places)
        valid = sum(place.valid for place in places)
        money = sum(place.value for place in places)
        watched = valid - 0.5 * (clicks - valid)
        seen, gain = np.frombuffer(hours.seen, np.float32), 0.0
        if hours.version != HELD:
            self.mean.add(slates, watched, money)
            self._adapt(user, list(hours.slates.values()))
            gain = gain_of(hours, self.mean, slates, watched, money, seen, next_seen)
        return Step(
            user, hours.window * WINDOW_MS, hours.version, seen, np.frombuffer(hours.action, np.float32),
            np.frombuffer(hours.noise, np.float32) / np.float32(hours.deviation), gain, next_seen, clicks,
            sum(len(slate.contents) for slate in hours.slates.values()),
        )  # fmt: skip

    def _adapt(self, user: str, slates: list[Slate]) -> None:
        """Learn what moves this user."""
        parts = np.concatenate([np.frombuffer(slate.parts, np.float32) for slate in slates]).reshape(-1, WIDTH)
        where = [(slate, k) for slate in slates for k in slate.ordered]
        watched = [k in slate.places and slate.places[k].valid for slate, k in where]
        interactions = sum(len(slate.places) for slate in slates)
        places = [k for _, k in where]
        if self.adaptation.learn(user, places, parts.astype(np.float64), np.array(watched, np.float64), interactions):
            self.adapted.add(user)


def gain_of(
    hours: Open, mean: Mean, slates: int, watched: float, money: float, seen: Floats, next_seen: Floats | None
) -> float:
    """What the hours were worth, in shares of what a user's mean hours are: 0 for slates like all others."""
    goal = hours.weights
    total = goal.user_satisfaction + goal.platform_revenue + goal.long_term
    user, revenue, long_term = (
        weight / total for weight in (goal.user_satisfaction, goal.platform_revenue, goal.long_term)
    )
    each = max(mean.slates / max(mean.windows, 1e-9), 1e-9)  # slates in the mean hours
    of_watching = watched / max(mean.watched / max(mean.slates, 1e-9), 1e-9) - slates
    of_money = money / (mean.money / mean.slates) - slates if mean.money > 0 else 0.0
    wider = 0.0 if next_seen is None else tags_of(next_seen) - tags_of(seen)
    return (user * of_watching + revenue * of_money) / each + long_term / 3.0 * (wider / HEALTHY_TAGS + hours.credit)


def tags_of(seen: Floats) -> float:
    """Tags engaged within a week, from what the agent saw (``observe.of_user``)."""
    return float(np.expm1(seen[BREADTH] + 2.0))
