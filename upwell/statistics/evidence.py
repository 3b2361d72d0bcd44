"""What counts say for certain, however often one looks at them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


class Interval(NamedTuple):
    """A mean with its interval."""

    mean: float
    low: float
    high: float


def always_valid(mean: float, variance: float, count: float, alpha: float = 0.05, planned: float = 1_000.0) -> Interval:
    """An interval that holds at every look together with chance 1 - ``alpha``, however often one looks.

    Asymptotic confidence sequence by a normal mixture (Waudby-Smith et al. 2021, arXiv 2103.06476, Theorem 2.2; the
    mixture's width by eq. 20, so that it is shortest at ``planned`` observations).

    Args:
        mean, variance: of ``count`` independent observations so far. Infinite with fewer than two.
    """
    if count < 2:
        return Interval(mean, -np.inf, np.inf)
    half = float(np.sqrt(variance / count) * reach(count, alpha, planned))
    return Interval(mean, mean - half, mean + half)


def reach(count: Any, alpha: float, planned: float) -> Floats:
    """Standard errors from the mean to either end of ``always_valid``, for each count ``[...]``."""
    grown = growth(count, alpha, planned)
    return np.sqrt(2.0 * grown / (grown - 1.0) * np.log(np.sqrt(grown) / alpha))


def always_valid_p(z: Any, count: Any, alpha: float, planned: float) -> Floats:
    """Of means that are ``z [...]`` standard errors off zero: p-values that hold at every look together.

    One over the mixture's likelihood ratio (Johari, Pekelis & Walsh 2015, arXiv 1512.04922), at most 1: below ``alpha``
    where ``always_valid`` leaves zero out.
    """
    grown = growth(count, alpha, planned)
    return np.minimum(np.sqrt(grown) * np.exp(-(np.square(z)) / 2.0 * (1.0 - 1.0 / grown)), 1.0)


def growth(count: Any, alpha: float, planned: float) -> Floats:
    """1 + count · the mixture's variance, which is the one that is best at ``planned``."""
    spread = (-2.0 * np.log(alpha) + np.log(-2.0 * np.log(alpha) + 1.0)) / planned
    return np.asarray(count) * spread + 1.0
