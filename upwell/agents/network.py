"""Policy networks as plain arrays: the same forward pass over NumPy and JAX, and nothing in a file but numbers."""

from __future__ import annotations

import hashlib
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from upwell.agents import arrays
from upwell.agents.dials import TURNS, turned
from upwell.agents.observe import SEES
from upwell.agents.xp import Array, Namespace, clip
from upwell.errors import BadRequest

VERSION = 1
"""Of the file's layout."""

SHIPPED = Path(__file__).parent.parent / "policies"

MODEL, SIGNATURE, SEES_AS, PUTS_OUT_AS = "{role}_agent", "forward", "seen", "action"
"""What a role's network, its forward pass, its input and its output are called where TensorFlow serves them."""


class Layer(NamedTuple):
    """One dense layer."""

    weight: Array  # f32 [n_in, n_out]
    bias: Array  # f32 [n_out]


Network = tuple[Layer, ...]


class Policy(NamedTuple):
    """A network for each role, shared by all agents of it: from what one sees to how it turns its dials."""

    user: Network
    content: Network
    system: Network


def forward(xp: Namespace, network: Network, x: Array) -> Array:
    """The network's output, f32 ``[..., n_out]``; tanh between layers."""
    for layer in network[:-1]:
        x = xp.tanh(xp.matmul(x, layer.weight) + layer.bias)
    return xp.matmul(x, network[-1].weight) + network[-1].bias


def dials(xp: Namespace, role: str, network: Network, seen: Array) -> dict[str, Array]:
    """The dials as the policy turns them, without noise: f32 ``[...]`` by name.

    Args:
        seen: f32 ``[..., n]``, what each agent of the role sees (``agents.observe``).
    """
    return dials_by(xp, role, forward(xp, network, seen))


def dials_by(xp: Namespace, role: str, put_out: Array) -> dict[str, Array]:
    """The dials by what a network puts out, f32 ``[..., n_out]``, wherever it was worked out."""
    return turned(xp, role, clip(xp, put_out, -1.0, 1.0))


def named(policy: Policy) -> dict[str, np.ndarray]:
    """Its arrays, as ``role.layer.weight`` and ``….bias``."""
    return {
        f"{role}.{i}.{name}": np.asarray(array, np.float32)
        for role, network in policy._asdict().items()
        for i, layer in enumerate(network)
        for name, array in layer._asdict().items()
    }


def save_policy(path: Path, policy: Policy, about: dict[str, Any]) -> None:
    """Write the networks as data: arrays by name, and what is said about them."""
    arrays.save(path, "policy", VERSION, named(policy), about)


def load_policy(path: Path) -> Policy:
    """Networks that ``save_policy`` wrote. Raises BadRequest where the file is missing, or of another make."""
    return made_of(arrays.load(path, "policy", VERSION)[0], str(path))


def pack_policy(policy: Policy, about: dict[str, Any]) -> bytes:
    """What ``save_policy`` writes."""
    return arrays.pack("policy", VERSION, named(policy), about)


def unpack_policy(data: bytes, name: str) -> Policy:
    """Networks that ``pack_policy`` packed. Raises BadRequest, about ``name``, where they are of another make."""
    return made_of(arrays.unpack(data, "policy", VERSION, name)[0], name)


def made_of(found: dict[str, np.ndarray], name: str) -> Policy:
    """Networks of arrays by name. Raises BadRequest, about ``name``, where they are none of this version of Upwell."""
    if not all(np.isfinite(array).all() for array in found.values()):
        raise BadRequest(f"{name}: holds numbers that are not finite: its training went astray")
    networks: dict[str, Network] = {}
    for role in TURNS:
        layers: list[Layer] = []
        while f"{role}.{len(layers)}.weight" in found:
            layers.append(Layer(*(found[f"{role}.{len(layers)}.{part}"] for part in Layer._fields)))
        sizes = (layers[0].weight.shape[0], layers[-1].bias.shape[0]) if layers else (0, 0)
        if sizes != (len(SEES[role]), len(TURNS[role])):
            raise BadRequest(
                f"{name}: its {role} network goes from {sizes[0]} numbers to {sizes[1]}; "
                f"this version of Upwell sees {len(SEES[role])} and turns {len(TURNS[role])}"
            )
        networks[role] = tuple(layers)
    return Policy(**networks)


def path_of(name: str) -> Path:
    """Where the policy is: one that is shipped by this name, or else a file."""
    path = SHIPPED / f"{name}.npz"
    return path if path.exists() else Path(name)


def shipped_names() -> list[str]:
    """Names of the policies that come with the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.npz"))


def version_of(path: Path) -> str:
    """What decisions by a policy's file are signed with: its name and a digest of it."""
    return signed(path.stem, path.read_bytes())


def signed(name: str, data: bytes) -> str:
    """A name, and a digest of the file's bytes."""
    return f"{name}-{hashlib.sha256(data).hexdigest()[:8]}"


@cache
def shipped(name: str) -> Policy:
    """The policy of that name that comes with Upwell. Raises BadRequest where there is none."""
    return load_policy(SHIPPED / f"{name}.npz")


def first_network(random: np.random.Generator, n_in: int, n_out: int, hidden: tuple[int, ...]) -> Network:
    """Orthogonal layers with gain sqrt(2), the last one zero: the output is 0 whatever is seen.

    Orthogonal: Saxe, McClelland & Ganguli 2014; as in PPO by Andrychowicz et al. 2021, who make the last layer small.
    """
    sizes = (n_in, *hidden, n_out)
    layers: list[Layer] = []
    for a, b in pairwise(sizes):
        q, r = np.linalg.qr(random.normal(size=(max(a, b), min(a, b))))
        weight = (q * np.sign(np.diag(r)))[: max(a, b), : min(a, b)]
        weight = weight if a >= b else weight.T
        layers.append(Layer((np.sqrt(2.0) * weight).astype(np.float32), np.zeros(b, np.float32)))
    last = layers[-1]
    return (*layers[:-1], Layer(np.zeros_like(last.weight), last.bias))


def first_policy(seed: int, hidden: tuple[int, ...] = (32, 32)) -> Policy:
    """A policy that leaves every dial alone: it begins as the rules."""
    random = np.random.default_rng(seed)
    return Policy(**{role: first_network(random, len(SEES[role]), len(TURNS[role]), hidden) for role in TURNS})
