"""Additive heads: a score is the sum of named parts and nothing else, so that it explains itself by construction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

from upwell.agents.xp import Array

Parts = dict[str, Array]


def total(parts: Parts) -> Array:
    """The sum, in the order of the names."""
    return reduce(add, parts.values())


@dataclass(frozen=True)
class Additive:
    """A head whose logits are the sum of its parts."""

    parts: Callable[..., Parts]

    def __call__(self, *given: Any) -> Array:
        return total(self.parts(*given))


@dataclass(frozen=True)
class AdditiveChoice:
    """A head that says how likely it chooses at all, and by which logits: the sum of its parts."""

    probability: Callable[..., Array]
    parts: Callable[..., Parts]

    def __call__(self, *given: Any) -> tuple[Array, Array]:
        return self.probability(*given), total(self.parts(*given))
