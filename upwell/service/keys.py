"""Under which keys things are kept: decisions, what became of them, requests, what was seen elsewhere."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from upwell.model import Interaction
from upwell.service.records import key_of

OUTCOME, EARLY = "/outcome", "/early"
"""End the ids of a decision's outcome, and of events that came in before it."""
BESIDE = (OUTCOME, EARLY)
"""Ends of ids of the kind ``decision`` that are none."""


def decision_keys(ids: Iterable[str]) -> npt.NDArray[np.uint64]:
    """64-bit keys of decisions, none of them 0."""
    return np.asarray([key_of(id) | (1 << 32) for id in ids], np.uint64)


def request_key(user_id: str, request_id: str) -> str:
    return f"{len(user_id)}:{user_id}:{request_id}"


def digest_of(user_id: str) -> str:
    """Tells who is meant to whoever knows the user, and to nobody else."""
    return hashlib.blake2b(user_id.encode(), digest_size=16).hexdigest()


def organic_key(event: Interaction) -> str:
    """Events without a decision merge by user, content and day."""
    return f"organic:{event.ts // 86_400_000}:{len(event.user_id)}:{event.user_id}:{event.content_id}"


def organic_of(key: str, user_id: str) -> bool:
    """Whether an ``organic_key`` is of this user."""
    name, _, rest = key.partition(":")
    return name == "organic" and rest.partition(":")[2].startswith(f"{len(user_id)}:{user_id}:")
