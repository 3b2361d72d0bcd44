"""Pytrees as arrays by name, and back: how weights, states and checkpoints stand in their files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from upwell.errors import BadRequest

T = TypeVar("T")


def named(tree: Any) -> dict[str, Any]:
    """The leaves of a pytree by their paths in it."""
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in flat}


def put_back(path: Path | str, found: dict[str, Any], like: T, what: str) -> T:
    """The pytree ``like`` (of arrays, or of their shapes and types) with the arrays that were found in ``path``.

    Raises BadRequest where they are not those of such a tree; ``what`` says what it is.
    """
    wanted = {name: (np.shape(leaf), np.dtype(leaf.dtype)) for name, leaf in named(like).items()}
    if wanted != {name: (leaf.shape, leaf.dtype) for name, leaf in found.items()}:
        raise BadRequest(f"{path}: its arrays are not those of this {what}")
    # NumPy's own sums round otherwise than JAX's: what was JAX's has to be so again, or a run goes on a bit off.
    leaves = [
        found[name] if isinstance(leaf, (np.ndarray, np.generic)) else jnp.asarray(found[name])
        for name, leaf in named(like).items()
    ]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)
