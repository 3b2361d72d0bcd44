"""Intervals over seeds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import stats


class Interval(NamedTuple):
    """A mean with its 95% interval."""

    mean: float
    low: float
    high: float


def interval(values: np.ndarray) -> Interval:
    """Mean and 95% Student-t interval of ``[seeds]`` values; with one seed the interval is infinite."""
    mean = float(values.mean())
    if len(values) < 2:
        return Interval(mean, -np.inf, np.inf)
    half = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return Interval(mean, mean - half, mean + half)


def gap_closed(arm: np.ndarray, raw: np.ndarray, oracle: np.ndarray, resamples: int = 10_000) -> Interval:
    """(arm - raw) / (oracle - raw) of mean objectives ``[seeds]``, with a paired bootstrap over seeds.

    Percentile interval (Efron 1979); NaN where oracle and raw do not differ.
    """
    gain, room = arm - raw, oracle - raw
    if room.mean() == 0.0:
        return Interval(np.nan, np.nan, np.nan)
    picks = np.random.default_rng(0).integers(0, len(arm), (resamples, len(arm)))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = gain[picks].mean(1) / room[picks].mean(1)
    low, high = np.nanpercentile(ratios, [2.5, 97.5])
    return Interval(float(gain.mean() / room.mean()), float(low), float(high))


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
