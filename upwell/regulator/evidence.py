"""What counts say for certain, however often one looks at them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


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
    spread = (-2.0 * np.log(alpha) + np.log(-2.0 * np.log(alpha) + 1.0)) / planned
    grown = count * spread + 1.0
    half = float(np.sqrt(variance * 2.0 * grown / (count**2 * spread) * np.log(np.sqrt(grown) / alpha)))
    return Interval(mean, mean - half, mean + half)
