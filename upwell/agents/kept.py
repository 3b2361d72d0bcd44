"""An encoder's weights and its users' states in files: arrays by name; kind, version and sizes beside them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import equinox as eqx
import jax
import numpy as np
import numpy.typing as npt

from upwell.agents import arrays, trees
from upwell.agents.encoder import VERSION, Encoder, State, blank
from upwell.agents.encoder_parts import Shape
from upwell.errors import BadRequest

T = TypeVar("T")
Named = dict[str, npt.NDArray[Any]]


def leaves(tree: Any) -> Named:
    """The arrays of a pytree by their paths in it."""
    return {name: np.asarray(leaf) for name, leaf in trees.named(eqx.filter(tree, eqx.is_array)).items()}


def put_back(path: Path, found: Named, like: T) -> T:
    """The pytree ``like`` with the arrays of ``path``. Raises BadRequest where they are not its own."""
    held, static = eqx.partition(like, eqx.is_array)
    return eqx.combine(trees.put_back(path, found, held, "model"), static)


def save_encoder(path: Path, model: Encoder) -> None:
    """Write an encoder's weights."""
    arrays.save(path, "encoder", VERSION, leaves(model), {"shape": asdict(model.shape)})


def load_encoder(path: Path) -> Encoder:
    """An encoder out of its file. Raises BadRequest on another kind of file, another version, or damaged sizes."""
    found, about = arrays.load(path, "encoder", VERSION)
    return put_back(path, found, Encoder(shape_in(path, about), jax.random.key(0)))


def save_states(path: Path, shape: Shape, states: State) -> None:
    """Write states ``[B]`` of an encoder of this shape."""
    arrays.save(path, "encoder-states", VERSION, leaves(states), {"shape": asdict(shape)})


def load_states(path: Path, shape: Shape) -> State:
    """States ``[B]``. Raises BadRequest on another kind of file, another version, or states of another shape."""
    found, about = arrays.load(path, "encoder-states", VERSION)
    if shape_in(path, about) != shape:
        raise BadRequest(f"{path}: states of another encoder: {about['shape']}, wanted {asdict(shape)}")
    users = len(next(iter(found.values()), ()))
    return put_back(path, found, blank(shape, users))


def shape_in(path: Path, about: dict[str, Any]) -> Shape:
    try:
        return Shape(**about["shape"])
    except (KeyError, TypeError, ValueError):
        raise BadRequest(f"{path}: says nothing sensible of its sizes") from None
