"""Training of the behaviour encoder: its loss by hand, its data, that it resumes exactly, and that it learns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learn_samples import CONTENTS, planted
from learn_samples import SMALL as TWO_BLOCKS

from upwell.cli import bench_encoder
from upwell.errors import BadRequest
from upwell.learn import lived
from upwell.learn.encode import Recipe, drawn, sampled_loss, train
from upwell.learn.recall import interval, ranks, recall
from upwell.learn.sequences import Column, laid_out, next_engaged

SMALL = replace(TWO_BLOCKS, layers=1)
QUICK = Recipe(steps=6, positions=400, negatives=16, rate=0.02, decay=0.0, dropout=0.1)


def test_the_loss_by_hand() -> None:
    q = np.array([0.5, 0.25, 0.25])
    negatives = np.array([1, 2, 1, 0])
    score, sampled = np.array([1.0]), np.array([[0.5, -0.5, 0.5, 1.0]])
    # Target 0: the last negative is the target itself and left out; each other counts exp(s) / (4 q).
    rest = (np.exp(0.5) + np.exp(-0.5) + np.exp(0.5)) / (4 * 0.25)
    got = sampled_loss(*map(jnp.asarray, (score, np.array([0]), sampled, negatives, np.log(q[negatives]))))
    assert float(got[0]) == pytest.approx(np.log(np.e + rest) - 1.0, rel=1e-5)


def test_the_corrected_denominator_is_unbiased() -> None:
    rng = np.random.default_rng(0)
    logits, q = rng.normal(size=8), rng.dirichlet(np.ones(8) * 3)
    draws = rng.choice(8, (20_000, 32), p=q)
    loss = jax.vmap(lambda j: sampled_loss(
        jnp.full(1, logits[3]), jnp.array([3]), jnp.asarray(logits)[j][None], j, jnp.log(jnp.asarray(q))[j]
    ))(jnp.asarray(draws))  # fmt: skip
    estimate = np.exp(np.asarray(loss, np.float64) + logits[3])
    error = estimate.std() / np.sqrt(len(estimate))
    assert abs(estimate.mean() - np.exp(logits).sum()) < 4 * error
    assert error < 0.02 * np.exp(logits).sum()  # so that the line above could fail


def test_what_is_engaged_next_by_hand() -> None:
    row, slate = np.array([4, 5, 6, 7, 8, 9]), np.array([0, 0, 1, 1, 1, 2])
    engaged = np.array([True, True, False, True, True, False])
    # Within a slate nothing is next: the first slate looks at the second, and finds its first engagement.
    assert next_engaged(row, engaged, slate).tolist() == [7, 7, -1, -1, -1, -1]
    assert next_engaged(row, engaged, np.arange(6)).tolist() == [5, 7, 7, 8, -1, -1]


def test_the_split_by_hand() -> None:
    user = np.array([0] * 6 + [1] * 2)
    engaged = np.array([1, 0, 1, 1, 1, 0, 1, 1], np.bool_)
    slate = np.array([0, 1, 2, 3, 3, 4, 5, 6])
    events = Column(user, np.arange(8), np.zeros(8, np.int32), np.arange(8) * 10.0, np.zeros(8), engaged, slate)
    data = laid_out("hand", np.eye(8), events, 100, lambda _, who, held: np.ones((len(who), 8), np.bool_))
    # The second user has two engagements and is left out. The first one's test is the last of slate 3.
    assert data.row.tolist() == [[0, 1, 2]]
    assert {split: ends.tolist() for split, ends in data.ends.items()} == {"train": [2], "valid": [2], "test": [3]}
    assert {split: held.tolist() for split, held in data.held.items()} == {"test": [4], "valid": [2]}
    assert data.target.tolist() == [[-1, -1, -1]]  # what is engaged next of them is the validation
    assert data.gap_s.tolist() == [[0.0, 10.0, 10.0]]
    assert data.barred["test"].tolist() == [[True] * 4 + [False] + [True] * 3]


def test_no_answer_is_ever_in_the_training() -> None:
    data = planted(40, 30, 1)
    for u in range(40):
        assert (data.target[u, data.ends["train"][u] - 1 :] == -1).all()
        assert data.ends["train"][u] < data.ends["test"][u] == 29


def test_a_run_that_goes_on_is_the_same_run(tmp_path: Path) -> None:
    data, path = planted(30, 40, 1), tmp_path / "run.npz"
    straight = train(data, QUICK, SMALL)
    train(data, QUICK, SMALL, path, until=3)
    done = list[float]()
    resumed = train(data, QUICK, SMALL, path, step=done.append)
    assert len(done) == 3
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(straight), jax.tree.leaves(resumed), strict=True))
    other = train(data, replace(QUICK, seed=1), SMALL)
    assert not np.array_equal(other.contents.bias, straight.contents.bias)
    with pytest.raises(BadRequest, match="its recipe is"):
        train(data, replace(QUICK, rate=0.5), SMALL, path)
    with pytest.raises(BadRequest, match="its shape is"):
        train(data, QUICK, replace(SMALL, layers=2), path)


def test_a_step_hangs_on_seed_and_number_alone() -> None:
    data = planted(30, 40, 1)
    a, b, c = (drawn(data, QUICK, SMALL, n) for n in (5, 5, 6))
    assert all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))
    assert not np.array_equal(a.negatives, c.negatives)


@pytest.mark.slow
def test_a_planted_pattern_is_learnt() -> None:
    data = planted(200, 40, 1)
    learner = train(data, replace(QUICK, steps=150, positions=1_000), SMALL)
    found = ranks(learner, data, SMALL, "test")
    # Seven in eight follow the pattern; one in 30 would be right by chance.
    assert recall(found, 1) > 0.6
    begun = train(data, QUICK, SMALL, until=0)
    assert recall(ranks(begun, data, SMALL, "test"), 1) < 0.2


@pytest.mark.slow
def test_a_pattern_beyond_the_recent_events_is_learnt_through_the_memory() -> None:
    # A secret is said once, early, and asked for every 16 events; the window holds 10 at most.
    shape = replace(SMALL, recent=5, chunk=5, memory=64, width=32)
    rng, users, length, asked = np.random.default_rng(0), 400, 53, [2, 20, 36, 52]
    rows = rng.integers(8, CONTENTS, (users, length)).astype(np.int32)
    rows[:, asked] = rng.integers(0, 8, users)[:, None]
    engaged = np.zeros((users, length), np.bool_)
    engaged[:, asked] = True
    row, n = rows.reshape(-1), users * length
    user = np.repeat(np.arange(users, dtype=np.int32), length)
    events = Column(user, row, row % 5, np.arange(n) * 1.0, np.zeros(n), engaged.reshape(-1), np.arange(n))
    data = laid_out("early", np.eye(CONTENTS), events, length, lambda _, who, h: np.zeros((len(who), CONTENTS), bool))
    learner = train(data, replace(QUICK, steps=250, positions=2_000, rate=0.01), shape)
    assert recall(ranks(learner, data, shape, "test"), 1) > 0.5
    without = eqx.tree_at(lambda l: l.reader.slots.weight, learner, jnp.zeros_like(learner.reader.slots.weight))
    assert recall(ranks(without, data, shape, "test"), 1) < 0.25  # one in 8 by chance


def test_intervals_hold_what_they_should() -> None:
    hits = (np.arange(1_000) % 4 == 0).astype(np.float64)
    mean, low, high = interval(hits)
    assert mean == 0.25
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.25 * 0.75 / 1_000), rel=0.1)


@pytest.mark.slow
def test_sequences_of_the_world_are_what_happened_in_it() -> None:
    from upwell.arms.registry import members
    from upwell.world import world
    from upwell.world.config import reference_world

    config = reference_world().override({"sizes.users": 64, "sizes.contents": 60, "sizes.creators": 20})
    arm, state = members("raw")[0], world.reset(config, 0)
    start = jax.jit(world.start_day, static_argnames="arm")
    day, clicks, valid, seconds = start(config, arm, state), 0, 0, 0.0
    for _ in range(int(day.ticks)):
        day, seen = lived.one_tick(config, arm, day)
        clicks, valid, seconds = (
            clicks + int(seen.clicked.sum()),
            valid + int(seen.valid.sum()),
            seconds + float(seen.dwell_s.sum()),
        )
    assert clicks == int(day.counts.clicks) > 0
    assert valid == int(day.counts.valid) > 0
    assert seconds == pytest.approx(float(day.counts.dwell_s), rel=1e-4)
    data = lived.sequences(config, 0, 1, 4)
    assert (data.held["test"] >= 0).all()
    assert not data.barred["test"][np.arange(len(data.row)), data.held["test"]].any()
    assert (data.gap_s >= 0).all()
    assert data.engaged.sum() > 100


def test_the_command_says_in_one_line_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadRequest, match="one of ml-100k, world"):
        bench_encoder.encoder(data="netflix")
    monkeypatch.setattr(bench_encoder, "find_spec", lambda name: None if name == "optax" else object())
    with pytest.raises(BadRequest, match=r"needs optax: pip install 'upwell\[learn\]'"):
        bench_encoder.encoder()
