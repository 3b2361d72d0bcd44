"""Time, as a dependency: a simulation brings its own."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Unix milliseconds. All time comes from it, so that a simulation can bring its own."""


def system_clock() -> int:
    return time.time_ns() // 1_000_000
