"""Pytrees of arrays in files: a learner with all that it remembers, a burnt-in platform. Data, never code."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from upwell.agents import arrays
from upwell.errors import BadRequest

T = TypeVar("T")
VERSION = 1
"""Of the files' layout: arrays by their paths in the tree."""


def named(tree: Any) -> dict[str, Any]:
    """The leaves of a pytree by their paths in it."""
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in flat}


def save(path: Path, kind: str, tree: Any, about: dict[str, Any]) -> None:
    """Write a pytree of arrays, whole or not at all."""
    arrays.save(path, kind, VERSION, {name: np.asarray(leaf) for name, leaf in named(tree).items()}, about)


def load(path: Path, kind: str, like: T) -> tuple[T, dict[str, Any]]:
    """A pytree of the make of ``like`` (arrays, or their shapes and types), and what was said about it.

    Raises BadRequest where the file is missing, of another kind, or holds a tree of another make.
    """
    found, about = arrays.load(path, kind, VERSION)
    wanted = {name: (np.shape(leaf), np.dtype(leaf.dtype)) for name, leaf in named(like).items()}
    if wanted != {name: (leaf.shape, leaf.dtype) for name, leaf in found.items()}:
        raise BadRequest(f"{path}: its arrays are not those of this version's {kind}")
    # NumPy's own sums round otherwise than JAX's: what was JAX's has to be so again, or a run goes on a bit off.
    leaves = [
        found[name] if isinstance(leaf, (np.ndarray, np.generic)) else jnp.asarray(found[name])
        for name, leaf in named(like).items()
    ]
    return jax.tree.unflatten(jax.tree.structure(like), leaves), about
