"""Intervals over seeds, and of rates."""

from __future__ import annotations

import numpy as np
from scipy import stats

from upwell.statistics.evidence import Interval


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


def rate(hits: int, of: int) -> Interval:
    """Share of trials that hit, with a 95% Clopper-Pearson interval."""
    low, high = stats.binomtest(hits, of).proportion_ci()
    return Interval(hits / of, float(low), float(high))
