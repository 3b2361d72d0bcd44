"""Assignment to experiments' arms: how fast, how even, and whether layers know of each other.

Times are the processor's, of one core: nothing waits here, and machines are shared.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import stats

from upwell.regulator.assignment import Table
from upwell.regulator.layers import BUCKETS, Arm, Experiment, Layer

CHUNK = 1 << 18
"""Ids at once: few MB, whatever their number."""
ARMS = 10
EVEN = 100
ROUNDS = 5
REQUESTS = 20_000
"""A round."""
HOLDOUT = 0.05


def chunks(ids: int) -> range:
    """Where each chunk of ids begins."""
    return range(0, ids, CHUNK)


def run(ids: int, seed: int, step: Callable[[], None]) -> dict[str, Any]:
    """The figures for the ids 0, 1, … ``ids`` - 1.

    An assignment is one id's arm in one layer, its holdout worked out anew. ``uniformity_p``: chi-square over 100 equal
    ranges of a layer; ``independence_p``: of the table of ten arms of one layer by ten of another.
    """
    tables = [Table(tenths(f"bench {seed} {n}"), HOLDOUT) for n in range(2)]
    even = Table(ranges(f"bench {seed}"), 0.0)
    counts, pairs, spent_s = np.zeros(EVEN, np.int64), np.zeros(ARMS * ARMS, np.int64), 0.0
    for first in chunks(ids):
        some = np.arange(first, min(first + CHUNK, ids), dtype=np.uint32)
        began = time.process_time()
        one, other = [table.arms_of(np, some) for table in tables]
        spent_s += time.process_time() - began
        let_in = one >= 0  # the rest is the holdout, in no layer's experiments
        pairs += np.bincount(one[let_in].astype(np.int64) * ARMS + other[let_in], minlength=len(pairs))
        counts += np.bincount(even.arms_of(np, some), minlength=EVEN)
        step()
    crossed: Any = stats.chi2_contingency(pairs.reshape(ARMS, ARMS))
    return {
        "assignments_per_second": len(tables) * ids / spent_s,
        "request_path_us": statistics.median(request_us(tables[0], REQUESTS * n) for n in range(ROUNDS)),
        "uniformity_p": float(stats.chisquare(counts).pvalue),
        "independence_p": float(crossed.pvalue),
        "ids": ids,
    }


def request_us(table: Table, first: int) -> float:
    """Microseconds a call of the request path, the loop around it included."""
    users, arm_of = range(first, first + REQUESTS), table.arm_of
    began = time.process_time()
    for user in users:
        arm_of(user)
    return (time.process_time() - began) / REQUESTS * 1e6


def tenths(name: str) -> Layer:
    """A layer of one experiment of ten equal arms."""
    arms = tuple(Arm(name=str(n), share=1 / ARMS) for n in range(ARMS))
    return Layer(name=name, experiments=(Experiment(name=name, arms=arms),))


def ranges(name: str) -> Layer:
    """A layer of a hundred experiments of one arm, each of which owns as many buckets."""
    width, only = BUCKETS // EVEN, (Arm(name="only", share=1.0),)
    made = (Experiment(name=f"{name} {n}", arms=only, buckets=(n * width, (n + 1) * width)) for n in range(EVEN))
    return Layer(name=name, experiments=tuple(made))
