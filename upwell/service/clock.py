"""Time, as a dependency: a simulation brings its own."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Unix milliseconds. All time comes from it, so that a simulation can bring its own."""


def system_clock() -> int:
    return time.time_ns() // 1_000_000


class Simulated:
    """A clock that goes by what it is told, and never back."""

    def __init__(self) -> None:
        self.now_ms = 0

    def __call__(self) -> int:
        return self.now_ms

    def tell(self, now_ms: int) -> None:
        self.now_ms = max(self.now_ms, now_ms)
