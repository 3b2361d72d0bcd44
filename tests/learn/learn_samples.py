"""What tests of learning share: a small encoder, made-up events, a planted pattern."""

from __future__ import annotations

import numpy as np

from upwell.agents.encoder_parts import Events, Shape
from upwell.learn.sequences import Column, Sequences, laid_out

SMALL = Shape(content=8, tags=5, width=16, heads=2, layers=2, memory=12, slots=2, recent=20, chunk=5)
CONTENTS = 30


def some_events(users: int, length: int, seed: int = 0) -> Events:
    """Random events ``[users, length]`` on the host."""
    rng = np.random.default_rng(seed)
    at = (users, length)
    return Events(
        rng.integers(-1, CONTENTS, at).astype(np.int32),
        rng.integers(0, SMALL.tags, at).astype(np.int32),
        rng.exponential(3_000.0, at).astype(np.float32),
        rng.exponential(20.0, at).astype(np.float32),
        rng.random(at) < 0.4,
    )


def some_table(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(CONTENTS, SMALL.content)).astype(np.float32)


def planted(users: int, length: int, lag: int, seed: int = 0) -> Sequences:
    """Every event engaged, each content the one ``lag`` events before plus one (in a ring), one in eight random."""
    rng = np.random.default_rng(seed)
    rows = np.zeros((users, length), np.int32)
    for t in range(length):
        fresh = rng.integers(0, CONTENTS, users)
        rows[:, t] = fresh if t < lag else np.where(rng.random(users) < 0.125, fresh, (rows[:, t - lag] + 1) % CONTENTS)
    row, n = rows.reshape(-1), users * length
    events = Column(
        np.repeat(np.arange(users, dtype=np.int32), length), row, row % SMALL.tags, np.arange(n, dtype=np.float64),
        np.zeros(n, np.float32), np.ones(n, np.bool_), np.arange(n, dtype=np.int32),
    )  # fmt: skip
    features = np.eye(CONTENTS, dtype=np.float32)
    return laid_out("planted", features, events, length, lambda _, who, held: np.zeros((len(who), CONTENTS), np.bool_))
