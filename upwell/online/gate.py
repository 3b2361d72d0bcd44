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
    steps = fair(steps)
    number = np.unique(steps.user, return_inverse=True)[1]
    if number.max(initial=0) < 19:
        raise BadRequest(f"the gate needs steps of twenty users at least, and has {number.max(initial=-1) + 1}")
    half = number % 2
    models = [fitted(steps.at(half != side)) for side in (0, 1)]
    terms, effective = list[Floats](), 0.0
    for network in (new, current):
        mean = np.asarray(forward(np, network, steps.seen), np.float64)
        off = (steps.action - mean) / std
        weight = np.exp(np.clip(0.5 * (steps.noise**2 - off**2).sum(-1), -20.0, 20.0))
        logged, target = np.empty(len(weight)), np.empty(len(weight))
        for side, model in enumerate(models):
            mine = half == side
            logged[mine] = facts(steps.seen[mine], steps.action[mine], steps.action[mine] ** 2) @ model
            target[mine] = facts(steps.seen[mine], mean[mine], mean[mine] ** 2 + std**2) @ model
        samples = ope.Samples(steps.gain, weight, number, logged, target)
        terms.append(ope.dr(samples, MOST_WEIGHT))
        effective = effective or ope.estimate(samples, ope.dr, MOST_WEIGHT).effective_samples
    mean, low = ope.lower_bound(terms[0], terms[1], number, confidence)
    return Passed(low >= 0.0, mean, low, len(number), int(number.max()) + 1, effective)


def fair(steps: Steps) -> Steps:
    """The latest ``OF_USER`` steps of each user, their gains cut to what most of them are within."""
    latest = np.arange(len(steps.user))[::-1]
    users = steps.user[latest]
    order = np.argsort(users, kind="stable")
    first = np.searchsorted(users[order], users[order])
    kept = np.sort(latest[order[np.arange(len(users)) - first < OF_USER]])
    steps = steps.at(kept)
    low, high = np.quantile(steps.gain, [EXTREME, 1.0 - EXTREME]) if len(kept) else (0.0, 0.0)
    return steps._replace(gain=np.clip(steps.gain, low, high))


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
