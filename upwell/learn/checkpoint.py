"""Pytrees of arrays in files: a learner with all that it remembers, a burnt-in platform. Data, never code."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from upwell.agents import arrays, trees

T = TypeVar("T")
VERSION = 1
"""Of the files' layout: arrays by their paths in the tree."""


def save(path: Path, kind: str, tree: Any, about: dict[str, Any]) -> None:
    """Write a pytree of arrays, whole or not at all."""
    arrays.save(path, kind, VERSION, {name: np.asarray(leaf) for name, leaf in trees.named(tree).items()}, about)


def load(path: Path, kind: str, like: T) -> tuple[T, dict[str, Any]]:
    """A pytree of the make of ``like`` (arrays, or their shapes and types), and what was said about it.

    Raises BadRequest where the file is missing, of another kind, or holds a tree of another make.
    """
    found, about = arrays.load(path, kind, VERSION)
    return trees.put_back(path, found, like, f"version's {kind}"), about
