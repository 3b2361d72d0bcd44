"""What moves a user more than others: after each hundred of their interactions, factors on the parts of their order.

The order of a user's candidates is a sum of parts, each a dial times what the agent sees of a candidate. Whether a
place was watched is explained by these parts: logistic, with weights that all users share and a user's own deviations
from them, whose prior is that there are none. A user's posterior is a normal one (Laplace's approximation, one Newton
step a batch, as in West, Harrison & Migon 1985 for dynamic generalised linear models): it moves by what was seen, and
no further than so many interactions can tell.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from upwell.agents.user import CORRECTIONS

Floats = npt.NDArray[np.float64]

EVERY = 100
"""Interactions of a user between two adaptations."""
DEVIATION = 0.3
"""Of users' own weights around the shared ones: log odds a standard deviation of the ranker's scores."""
KEPT = 0.9
"""Of what a user's posterior knew, each adaptation: tastes change."""
FADE = 0.9999
"""Of what all users share, each user's hours."""
MOST_USERS = 20_000
"""Who was not here for longest is forgotten, and begins anew when they come again."""
LEAST, MOST = 0.5, 2.0
"""Bounds of a factor on a dial."""
WIDTH = len(CORRECTIONS)
PLACES = 100
"""Places of a slate that are told apart; those beyond are the last."""


def stored(numbers: Floats) -> bytes:
    return numbers.astype(np.float32).tobytes()


def vector(data: bytes) -> Floats:
    return np.frombuffer(data, np.float32).astype(np.float64)


def matrix(data: bytes) -> Floats:
    return vector(data).reshape(WIDTH, WIDTH)


class Own(msgspec.Struct):
    """A user: posterior so far, and what came in since."""

    interactions: int = 0
    mean: bytes = stored(np.zeros(WIDTH))
    precision: bytes = stored(np.eye(WIDTH) / DEVIATION**2)
    slope: bytes = stored(np.zeros(WIDTH))
    bend: bytes = stored(np.zeros((WIDTH, WIDTH)))


class Adaptation(msgspec.Struct):
    """All users', and what they share. Plain data."""

    users: dict[str, Own] = {}
    shared: Own = msgspec.field(default_factory=Own)
    mean: bytes = stored(np.zeros(WIDTH))  # of parts, fading
    seen: float = 0.0  # places that it is the mean of
    shown: list[float] = msgspec.field(default_factory=lambda: [20.0] * PLACES)  # by place; as if some were known
    watched: list[float] = msgspec.field(default_factory=lambda: [1.0] * PLACES)

    def learn(self, user: str, places: Sequence[int], parts: Floats, watched: Floats, interactions: int) -> bool:
        """What became of a user's hours; whether their factors are others now.

        Args:
            places: positions of those that the order filled, ``[N]``.
            parts: of their scores, ``[N, 7]``.
            watched: 0 or 1, ``[N]``.
        """
        own = self.users.pop(user, None) or Own()
        self.users[user] = own  # at the end: who was not here for longest goes first
        while len(self.users) > MOST_USERS:
            del self.users[next(iter(self.users))]
        own.interactions += interactions
        if len(places):
            self._fold(own, np.minimum(places, PLACES - 1), parts, watched)
        if own.interactions < EVERY:
            return False
        prior = KEPT * matrix(own.precision) + (1.0 - KEPT) * np.eye(WIDTH) / DEVIATION**2
        moved(own, prior)
        own.interactions = 0
        return True

    def _fold(self, own: Own, places: npt.NDArray[np.int64], parts: Floats, watched: Floats) -> None:
        self.seen = FADE * self.seen + len(places)
        mean = vector(self.mean) + (parts - vector(self.mean)).sum(0) / self.seen
        self.mean = stored(mean)
        rate = np.array([self.watched[k] / self.shown[k] for k in places])
        off = parts - mean
        weight = vector(self.shared.mean) + vector(own.mean)
        chance = 1.0 / (1.0 + np.exp(-np.clip(np.log(rate / (1.0 - rate)) + off @ weight, -20.0, 20.0)))
        slope, bend = off.T @ (watched - chance), (off * (chance * (1.0 - chance))[:, None]).T @ off
        for one in (own, self.shared):
            one.slope = stored(vector(one.slope) + slope)
            one.bend = stored(matrix(one.bend) + bend)
        moved(self.shared, FADE * matrix(self.shared.precision))
        for k, seen in zip(places.tolist(), watched.tolist(), strict=True):
            self.shown[k] = FADE * self.shown[k] + 1.0
            self.watched[k] = FADE * self.watched[k] + seen

    def factors(self, user: str) -> npt.NDArray[np.float32]:
        """Factors on a user's dials, f32 ``[7]``, in the order of ``CORRECTIONS``; 1: as everybody's."""
        return np.clip(1.0 + vector(self.users[user].mean), LEAST, MOST).astype(np.float32)


def moved(own: Own, prior: Floats) -> None:
    """A Newton step by what came in: the posterior is the next prior."""
    precision = prior + matrix(own.bend)
    own.mean = stored(vector(own.mean) + np.linalg.solve(precision, vector(own.slope)))
    own.precision = stored(precision)
    own.slope, own.bend = stored(np.zeros(WIDTH)), stored(np.zeros((WIDTH, WIDTH)))
