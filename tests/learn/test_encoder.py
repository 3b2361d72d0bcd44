"""The behaviour encoder: event by event as in one go, blind to padding and to the future, small cases by hand."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learn_samples import SMALL, some_events, some_table

from upwell.agents import arrays, kept
from upwell.agents.encoder import Encoder, State, blank, encode, update, updater
from upwell.agents.encoder_parts import Block, Compressor, Events, Shape
from upwell.errors import BadRequest
from upwell.learn.rivals import Mean, Plain, Recurrent

MODEL = Encoder(SMALL, jax.random.key(3))
TABLE = jnp.asarray(some_table())


def at(events: Events, n: int) -> Events:
    return Events(*(x[:, n] for x in events))


def close(a: object, b: object, tolerance: float = 2e-5) -> None:
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=tolerance, atol=tolerance)


def test_folding_one_by_one_is_folding_in_one_go() -> None:
    events, state = some_events(3, 73), blank(SMALL, 3)
    step = updater(MODEL)
    for n in range(73):
        state, encoded = step(TABLE, state, at(events, n))
        if n + 1 in (1, 2, 24, 25, 26, 30, 31, 72, 73):
            whole, in_one_go = encode(MODEL, TABLE, events, jnp.full(3, n + 1))
            close(encoded, in_one_go)
            jax.tree.map(close, state, whole)
    assert state.folded.tolist() == [50] * 3
    assert state.filled.tolist() == [23] * 3


def test_users_of_one_batch_stand_at_different_places() -> None:
    events, lengths = some_events(4, 60), [60, 26, 7, 0]
    states, encoded = encode(MODEL, TABLE, events, jnp.array(lengths))
    after, moved = update(MODEL, TABLE, states, at(events, 3))
    for u, n in enumerate(lengths):  # each alone in a batch of its own, the others' rows filled with junk
        alone = Events(
            *(np.where(np.arange(4)[:, None] == u, x, j) for x, j in zip(events, some_events(4, 60, 7), strict=True))
        )
        state, own = encode(MODEL, TABLE, alone, jnp.full(4, n))
        close(encoded[u], own[u])
        _, own = update(MODEL, TABLE, state, at(events, 3))
        close(moved[u], own[u])
    assert after.filled.tolist() == [21, 22, 8, 1]  # 60 and 26 events: 25 and 21 stood in the window; a full one folds


def test_what_stands_after_the_end_does_not_matter() -> None:
    events, lengths = some_events(3, 64), jnp.array([64, 31, 5])
    junk = some_events(3, 64, seed=9)
    past = np.arange(64) >= np.asarray(lengths)[:, None]
    other = Events(*(np.where(past, j, x) for x, j in zip(events, junk, strict=True)))
    longer = Events(*(np.concatenate([x, j], axis=1) for x, j in zip(other, junk, strict=True)))
    states, encoded = encode(MODEL, TABLE, events, lengths)
    for changed in (other, longer):
        again, same = encode(MODEL, TABLE, changed, lengths)
        close(encoded, same)
        jax.tree.map(close, states, again)


def test_what_a_user_did_long_ago_still_counts() -> None:
    events = some_events(1, 60)
    changed = Events(*(x.copy() for x in events))
    changed.row[0, 0] = (events.row[0, 0] + 3) % 20
    before, after = (encode(MODEL, TABLE, e, jnp.array([60]))[1] for e in (events, changed))
    assert float(jnp.abs(before - after).max()) > 1e-6


@pytest.mark.parametrize("model", [MODEL, Recurrent(SMALL, jax.random.key(1)), Mean(SMALL, jax.random.key(1), 0.9),
                                   Plain(SMALL, jax.random.key(1))], ids=lambda m: type(m).__name__)  # fmt: skip
def test_no_output_sees_what_comes_after(model: Encoder) -> None:
    events = Events(*(jnp.asarray(x[0]) for x in some_events(1, 65)))
    other = Events(*(jnp.asarray(x[0]) for x in some_events(1, 65, seed=5)))
    mixed = Events(*(jnp.where(jnp.arange(65) < 41, x, o) for x, o in zip(events, other, strict=True)))
    a, b = model.outputs(TABLE, events), model.outputs(TABLE, mixed)
    close(a[:41], b[:41])
    assert float(jnp.abs(a[41:] - b[41:]).max()) > 1e-3


def test_outputs_for_training_are_what_is_served() -> None:
    # A window of training and one of serving begin at the same event wherever a window of training is full.
    events = some_events(1, 65)
    out = MODEL.outputs(TABLE, Events(*(jnp.asarray(x[0]) for x in events)))
    for n in (1, 4, 24, 25, 45, 65):
        close(out[n - 1], encode(MODEL, TABLE, events, jnp.array([n]))[1][0])


@pytest.mark.slow
@pytest.mark.parametrize("model", [MODEL, Plain(SMALL, jax.random.key(1))], ids=["encoder", "plain"])
def test_frugal_passes_give_the_same(model: Encoder) -> None:
    events = Events(*(jnp.asarray(x[0]) for x in some_events(1, 65)))

    def loss(model: Encoder, frugal: bool) -> jax.Array:
        return (model.outputs(TABLE, events, frugal=frugal) ** 2).sum()

    one, other = (eqx.filter_value_and_grad(loss)(model, frugal) for frugal in (False, True))
    jax.tree.map(lambda a, b: close(a, b, 2e-3), one, other)


def test_sizes_by_hand() -> None:
    shape = Shape()  # recent 50, chunk 10, window 60
    assert [int(shape.folded(jnp.int32(n))) for n in (0, 1, 60, 61, 70, 71, 1_000)] == [0, 0, 0, 10, 10, 20, 940]
    assert [shape.fitting(n) for n in (1, 60, 61, 110, 111, 1_000)] == [60, 60, 110, 110, 160, 1_010]
    with pytest.raises(ValueError, match="multiple"):
        Shape(recent=50, chunk=15)


def test_state_fits_beside_the_hot_record() -> None:
    state = blank(Shape())
    assert state.memory.nbytes + state.folded.nbytes + state.filled.nbytes == 264
    assert sum(x.nbytes for x in state.ring) == 60 * 17


def test_a_chunk_by_hand() -> None:
    fold, tokens = Compressor(SMALL, jax.random.key(0)), np.random.default_rng(0).normal(size=(5, 16))
    memory = np.random.default_rng(1).normal(size=12)

    def sigmoid(x: np.ndarray) -> np.ndarray:
        return 1.0 / (1.0 + np.exp(-x))

    gate = sigmoid(tokens @ np.asarray(fold.gate.weight).T + np.asarray(fold.gate.bias))
    x = (gate * np.tanh(tokens @ np.asarray(fold.value.weight).T + np.asarray(fold.value.bias))).mean(0)
    cell = fold.cell
    given = np.split(np.asarray(cell.weight_ih) @ x + np.asarray(cell.bias), 3)
    kept_back = np.split(np.asarray(cell.weight_hh) @ memory, 3)
    reset, keeps = sigmoid(given[0] + kept_back[0]), sigmoid(given[1] + kept_back[1])
    new = np.tanh(given[2] + reset * (kept_back[2] + np.asarray(cell.bias_n)))
    close(fold(jnp.asarray(memory, jnp.float32), jnp.asarray(tokens, jnp.float32)), keeps * memory + (1 - keeps) * new)


def test_a_block_that_only_reads_its_last_row() -> None:
    block, x = Block(16, 2, jax.random.key(0)), jax.random.normal(jax.random.key(1), (9, 16))
    mask = jnp.tril(jnp.ones((9, 9), jnp.bool_))
    for last in (0, 4, 8):
        close(block(x, mask, jnp.int32(last))[0], block(x, mask)[last])


def test_a_mean_by_hand() -> None:
    model = Mean(replace(SMALL, content=2), jax.random.key(0), fading=0.5)
    model = eqx.tree_at(lambda m: m.head.bias, model, jnp.zeros(2))
    table = jnp.array([[1.0, 0.0], [0.0, 1.0]])
    none = jnp.zeros(4)
    events = Events(jnp.array([0, 1, 1, -1]), jnp.zeros(4, jnp.int32), none, none, jnp.array([True, False, True, True]))
    close(model.outputs(table, events), [[1.0, 0.0], [1.0, 0.0], [1 / 3, 2 / 3], [1 / 3, 2 / 3]])


def test_the_pool_begins_as_a_mean_that_fades_by_a_fifth() -> None:
    events = Events(*(jnp.asarray(x[0]) for x in some_events(1, 25)))
    mean = Mean(SMALL, jax.random.key(0), fading=0.8)
    mean = eqx.tree_at(lambda m: m.head.bias, mean, jnp.zeros(SMALL.content))
    asks = jax.random.normal(jax.random.key(1), (25, SMALL.width))
    seen = MODEL.see(TABLE, events)
    assert 3 < int(seen.engaged.sum()) < 20
    close(MODEL.pool(asks, jnp.arange(25), seen), mean.outputs(TABLE, events))
    nobody = seen._replace(engaged=jnp.zeros(25, jnp.bool_))
    assert not MODEL.pool(asks, jnp.arange(25), nobody).any()


def test_weights_and_states_come_back_from_their_files(tmp_path: Path) -> None:
    kept.save_encoder(tmp_path / "encoder.npz", MODEL)
    again = kept.load_encoder(tmp_path / "encoder.npz")
    events, lengths = some_events(2, 40), jnp.array([40, 9])
    states, encoded = encode(MODEL, TABLE, events, lengths)
    assert np.array_equal(encoded, encode(again, TABLE, events, lengths)[1])
    kept.save_states(tmp_path / "states.npz", SMALL, states)
    back = kept.load_states(tmp_path / "states.npz", SMALL)
    assert isinstance(back, State)
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(states), jax.tree.leaves(back), strict=True))


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "encoder.npz"
    kept.save_encoder(path, MODEL)
    weights, about = arrays.load(path, "encoder", 1)
    with pytest.raises(BadRequest, match="holds 'encoder', wanted 'encoder-states'"):
        kept.load_states(path, SMALL)
    arrays.save(path, "encoder", 99, weights, about)
    with pytest.raises(BadRequest, match="version 99, this Upwell reads version 1"):
        kept.load_encoder(path)
    arrays.save(path, "encoder", 1, weights, about | {"shape": about["shape"] | {"width": 32}})
    with pytest.raises(BadRequest, match="not those of this model"):
        kept.load_encoder(path)
    arrays.save(path, "encoder", 1, weights, {})
    with pytest.raises(BadRequest, match="sizes"):
        kept.load_encoder(path)
    kept.save_states(path, SMALL, blank(SMALL, 2))
    with pytest.raises(BadRequest, match="states of another encoder"):
        kept.load_states(path, Shape())
    for bad in (b"", b"not an archive", pickle.dumps({"weights": 1})):
        path.write_bytes(bad)
        with pytest.raises(BadRequest, match="not a file of arrays"):
            kept.load_encoder(path)
    with path.open("wb") as out:  # an archive whose arrays would need unpickling
        np.savez(out, upwell=np.array([{"kind": "encoder"}], dtype=object))
    with pytest.raises(BadRequest, match="not a file of arrays"):
        kept.load_encoder(path)
    with pytest.raises(BadRequest, match="no such file"):
        kept.load_encoder(tmp_path / "nowhere.npz")
