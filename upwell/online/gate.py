"""The gate before users: would the new version have earned no less than the current one on the latest traffic?

Users' agents turn their dials with a little noise of known density, so that the log tells what other turns would have
brought: doubly robust, with a ridge regression of gains as its model, each half of the users judged by the model of
the other half. One user counts for no more than a few steps, and no gain for more than the log's extremes: whoever
wants to push a version through must be many.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from upwell.agents.network import Network, forward
from upwell.agents.xp import before_equals
from upwell.errors import BadRequest
from upwell.experiment import ope

Floats = npt.NDArray[np.float64]
OF_USER = 30
"""Steps of one user that count, the latest."""
EXTREME = 0.005
"""Share of gains on either side that is cut to what is just inside it."""
RIDGE = 30.0
MOST_WEIGHT = 10.0


class Steps(NamedTuple):
    """What users' agents did and what came of it, ``[N]``, in order of time."""

    user: npt.NDArray[np.int64]
    seen: Floats  # [N, n]
    action: Floats  # [N, d], before it is clipped to ±1
    noise: Floats  # [N, d], standard normal: what the action was off the mean, over ``std``
    gain: Floats

    def at(self, which: npt.NDArray[Any]) -> Steps:
        """Those of the steps, by place or by mask."""
        return Steps(self.user[which], self.seen[which], self.action[which], self.noise[which], self.gain[which])


class Passed(NamedTuple):
    """What the gate found: of the new version over the current one, a step."""

    passed: bool
    mean: float
    low: float
    steps: int
    users: int
    effective_steps: float


def gate(steps: Steps, std: float, current: Network, new: Network, confidence: float = 0.95) -> Passed:
    """Judge a version. Raises BadRequest where there are too few users or steps to say anything.

    Args:
        std: of the noise; the same for every dial.
    """
    ours, theirs = samples(fair(steps), std, new, current)
    effective = ope.effective_samples(np.minimum(ours.weight, MOST_WEIGHT))
    number = ours.cluster
    mean, low = ope.lower_bound(ope.dr(ours, MOST_WEIGHT), ope.dr(theirs, MOST_WEIGHT), number, confidence)
    return Passed(low >= 0.0, mean, low, len(number), int(number.max()) + 1, effective)


def samples(steps: Steps, std: float, *networks: Network) -> list[ope.Samples]:
    """What users' agents of each network would have done in the place of those logged, for the estimators.

    Raises BadRequest with fewer than twenty users.
    """
    number = np.unique(steps.user, return_inverse=True)[1]
    if number.max(initial=0) < 19:
        raise BadRequest(f"steps of twenty users are needed at least; there are {number.max(initial=-1) + 1} users'")
    half = number % 2
    sides = [(half == side, fitted(steps.at(half != side))) for side in (0, 1)]

    def expected(action: Floats, squared: Floats) -> Floats:
        out = np.empty(len(steps.gain))
        for mine, model in sides:
            out[mine] = facts(steps.seen[mine], action[mine], squared[mine]) @ model
        return out

    logged = expected(steps.action, steps.action**2)
    found: list[ope.Samples] = []
    for network in networks:
        mean = np.asarray(forward(np, network, steps.seen), np.float64)
        off = (steps.action - mean) / std
        weight = np.exp(np.clip(0.5 * (steps.noise**2 - off**2).sum(-1), -20.0, 20.0))
        found.append(ope.Samples(steps.gain, weight, number, logged, expected(mean, mean**2 + std**2)))
    return found


def fair(steps: Steps) -> Steps:
    """Steps as all that is learned or judged goes by them, ``fairly``."""
    counts, gain = fairly(steps.user, steps.gain)
    return steps._replace(gain=gain).at(counts)


def fairly(user: npt.NDArray[np.int64], gain: Floats) -> tuple[npt.NDArray[np.bool_], Floats]:
    """Which of the steps ``[N]`` count, the latest ``OF_USER`` of each user; and gains cut to what most of them are."""
    counts = before_equals(np, user[::-1])[::-1] < OF_USER
    low, high = np.quantile(gain[counts], [EXTREME, 1.0 - EXTREME]) if len(gain) else (0.0, 0.0)
    return counts, np.clip(gain, low, high)


def facts(seen: Floats, action: Floats, squared: Floats) -> Floats:
    """What the model of gains is linear in, ``[N, f]``: what is seen, each dial and its square, and each with each."""
    crossed = (seen[:, :, None] * action[:, None, :]).reshape(len(seen), -1)
    return np.concatenate([np.ones((len(seen), 1)), seen, action, squared, crossed], axis=-1)


def fitted(steps: Steps) -> Floats:
    """Ridge regression of gains, ``[f]``. The mean is not shrunk."""
    x = facts(steps.seen, steps.action, steps.action**2)
    shrink = RIDGE * np.eye(x.shape[1])
    shrink[0, 0] = 0.0
    return np.linalg.solve(x.T @ x + shrink, x.T @ steps.gain).astype(np.float64)
