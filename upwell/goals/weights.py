"""From what was asked for to reward weights that are safe to use: whatever comes in, bounded shares come out.

Parse → schema → bounds → projection to the simplex → limit of the change → smoothing. What fails on the way leaves the
weights as they are, and ``DEFAULT`` where there are none. Asked numbers are JSON numbers; text that looks like one, a
truth value and what a float cannot hold (3e63194) are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from upwell.goals.goal import Refusal
from upwell.model import Weights

NAMES = Weights.__struct_fields__
DEFAULT = Weights(user_satisfaction=0.4, platform_revenue=0.4, long_term=0.2)
SHOWN = 200
"""Characters of what was refused that are told."""


class Limits(NamedTuple):
    """How far weights may go, in shares of their sum."""

    smallest: float = 0.05  # of each weight, 0 to 1/3
    step: float = 0.25  # most that any share moves at once, before smoothing
    smoothing: float = 0.8  # how much of that is gone: the rest stays with the weights of before; above 0, up to 1
    large: float = 0.3  # a share that is asked to move by more takes two to confirm


USUAL = Limits()


class Checked(NamedTuple):
    """Weights to use, as shares; whether what was asked for is a large move; and what was not taken."""

    weights: Weights
    large: bool
    refused: tuple[Refusal, ...]


def checked(asked: object, now: Weights | None, limits: Limits = USUAL) -> Checked:
    """Weights on the simplex, within the bounds, and at most a step from ``now``.

    Args:
        asked: any decoded JSON; taken is an object of the three weights, of which only the ratios count. None: nothing.
        now: the last good weights; ``DEFAULT`` where None or unusable. Where they break the bounds (someone set them
            by hand) the step rules: the result is nearer to the bounds, never further out.

    Raises nothing.
    """
    here = shares(now or DEFAULT)
    if here is None:
        here = _of(DEFAULT)
    if asked is None:
        return Checked(_weights(here), False, ())
    values = _parsed(asked)
    if isinstance(values, Refusal):
        return Checked(_weights(here), False, (values,))
    move = projected(values, limits.smallest) - here
    largest = float(np.abs(move).max())
    kept = limits.smoothing * min(1.0, limits.step / largest) if largest > 0.0 else 0.0
    return Checked(_weights(here + kept * move), largest > limits.large + 1e-9, ())


def shares(weights: Weights) -> np.ndarray | None:
    """``[3]``, adding up to 1; None where a weight is negative or not finite, or all are 0."""
    return _normal(_of(weights))


def projected(values: np.ndarray, smallest: float) -> np.ndarray:
    """The nearest point to ``[n]`` of the simplex with no share under ``smallest``, which is at most 1/n.

    Euclidean projection after Duchi, Shalev-Shwartz, Singer, Chandra (2008), "Efficient projections onto the l1-ball
    for learning in high dimensions", figure 1: with the bounds taken off, onto the simplex of what is left.
    """
    left = 1.0 - smallest * len(values)
    falling = np.sort(values - smallest)[::-1]
    thresholds = (np.cumsum(falling) - left) / np.arange(1, len(values) + 1)
    threshold = thresholds[np.flatnonzero(falling >= thresholds)[-1]]
    return smallest + np.maximum(values - smallest - threshold, 0.0)


def _parsed(asked: object) -> np.ndarray | Refusal:
    """Shares ``[3]`` of what was asked for, in the order of ``NAMES``."""
    if not isinstance(asked, Mapping):
        return _refusal(asked, f"weights are an object of {', '.join(NAMES)}")
    if set(asked) != set(NAMES):
        missing = [name for name in NAMES if name not in asked]
        return _refusal(asked, f"weights are {', '.join(NAMES)}: {_wrong(missing, len(asked) - 3 + len(missing))}")
    values: list[float] = []
    for name in NAMES:
        value: Any = asked[name]
        if isinstance(value, bool) or not isinstance(value, int | float):
            return _refusal(value, f"{name} must be a number")
        try:
            number = float(value)
        except OverflowError:
            number = np.inf
        if not (np.isfinite(number) and number >= 0.0):
            return _refusal(value, f"{name} must be finite and not negative")
        values.append(number)
    normal = _normal(np.array(values))
    return _refusal(asked, "one of the weights must be above 0") if normal is None else normal


def _wrong(missing: list[str], more: int) -> str:
    return " and ".join([*([f"{', '.join(missing)} missing"] if missing else []), *([f"{more} more"] if more else [])])


def _refusal(what: object, why: str) -> Refusal:
    return Refusal(what=told(what), why=why)


def told(what: object) -> str:
    """A value in short: its text where that is cheap to have, its kind where it may be huge or deep."""
    if isinstance(what, Mapping | list | tuple):
        return f"{'an object' if isinstance(what, Mapping) else 'a list'} of {len(what)}"
    if isinstance(what, int) and abs(what) >= 10**SHOWN:
        return f"a whole number of {what.bit_length()} bits"
    return str(what)[:SHOWN].encode("utf-8", "replace").decode()


def _of(weights: Weights) -> np.ndarray:
    return np.array([weights.user_satisfaction, weights.platform_revenue, weights.long_term], dtype=float)


def _normal(values: np.ndarray) -> np.ndarray | None:
    top = values.max()
    if not (np.isfinite(values).all() and values.min() >= 0.0 and top > 0.0):
        return None
    scaled = values / top  # first, so that the sum of large ones is no infinity
    return scaled / scaled.sum()


def _weights(values: np.ndarray) -> Weights:
    return Weights(**dict(zip(NAMES, values.tolist(), strict=True)))
