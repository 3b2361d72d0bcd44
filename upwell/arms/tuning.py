"""What may be tuned of an arm, and within which bounds: the same kind of declaration for every arm."""

from __future__ import annotations

import math
from typing import NamedTuple


class Range(NamedTuple):
    """Bounds of a tunable."""

    low: float
    high: float
    log: bool = False  # drawn evenly in its logarithm

    def at(self, u: float) -> float:
        """The value a share ``u`` in [0, 1] of the way up."""
        if self.log:
            return math.exp((1.0 - u) * math.log(self.low) + u * math.log(self.high))
        return (1.0 - u) * self.low + u * self.high
