"""Item-to-item collaborative filtering: sketches against exact cosines; editors' picks against a lottery."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from upwell.arms import itemcf
from upwell.experiment import runner
from upwell.world import world
from upwell.world.config import reference_world
from upwell.world.state import HISTORY, ORGANIC_TODAY, TODAY

SMALL = reference_world().override(
    {"sizes.users": 400, "sizes.contents": 600, "sizes.creators": 60, "sizes.segments": 2}
)


def histories(views: list[list[int]]) -> jnp.ndarray:
    """[1, users, HISTORY] from each user's contents, latest first."""
    return jnp.array([[row + [-1] * (HISTORY - len(row)) for row in views]], dtype=jnp.int32)


def exact(views: list[list[int]], contents: int) -> np.ndarray:
    """Cosines of the columns of users × contents, each row divided by the root of its length."""
    matrix = np.zeros((len(views), contents))
    for user, row in enumerate(views):
        for content in row:
            matrix[user, content] += 1.0 / np.sqrt(len(row))
    columns = matrix / np.maximum(np.linalg.norm(matrix, axis=0), 1e-9)
    return columns.T @ columns


def test_cosines_of_sketches_estimate_those_of_the_columns():
    # Two kinds of users, each mostly at home among ten contents of thirty; nobody views the last ten.
    rng = np.random.default_rng(0)
    views = [
        [int(rng.integers(10)) + 10 * int((user % 2) ^ (rng.random() < 0.2)) for _ in range(rng.integers(1, HISTORY))]
        for user in range(300)
    ]
    contents = SimpleNamespace(generation=jnp.zeros(30, jnp.int32))
    truth = exact(views, 30)
    errors = []
    for seed in range(5):
        sketch = np.asarray(itemcf.sketches(jnp.uint32(seed), contents, histories(views)))
        assert (sketch[20:] == 0.0).all()
        errors.append((sketch @ sketch.T - truth)[np.triu_indices(20, 1)])
    # Of D random signs the standard error is (1 - cosine²)/sqrt(D) at most 1/sqrt(D); four of them is a sure bound.
    assert np.sqrt(np.mean(np.square(errors))) < 1.0 / np.sqrt(itemcf.DIMS)
    assert np.abs(errors).max() < 4.5 / np.sqrt(itemcf.DIMS)
    assert abs(np.mean(errors)) < 0.03


def test_same_viewers_are_alike_and_replaced_contents_are_forgotten():
    contents = SimpleNamespace(generation=jnp.array([0, 0, 1, 0], jnp.int32))
    # Content 2 of generation 0 is gone (its place holds generation 1, id 2 + 4); content 3 was viewed by nobody.
    views = [[0, 1, 2], [1, 0], [0, 1, 2, 2]]
    sketch = np.asarray(itemcf.sketches(jnp.uint32(1), contents, histories(views)))
    assert sketch[0] @ sketch[1] == pytest.approx(1.0, abs=1e-5)
    assert (sketch[2:] == 0.0).all()
    reborn = np.asarray(itemcf.sketches(jnp.uint32(1), contents, histories([*views, [2 + 4]])))
    assert np.linalg.norm(reborn[2]) == pytest.approx(1.0, abs=1e-5)


def test_a_user_is_scored_by_mean_similarity_to_the_history():
    contents = SimpleNamespace(generation=jnp.zeros(5, jnp.int32))
    history = histories([[0, 1], [1, 2, 3], [0, 3], [4]])
    sketch = itemcf.sketches(jnp.uint32(2), contents, history)
    taste = np.asarray(itemcf.tastes(contents, sketch, history))[0, 1]
    cosine = np.asarray(sketch @ sketch.T)
    mean = cosine[:, [1, 2, 3]].mean(1)
    np.testing.assert_allclose(
        taste @ np.asarray(sketch).T / mean, (taste @ np.asarray(sketch[0])) / mean[0], rtol=1e-4
    )
    nobody = np.asarray(itemcf.tastes(contents, sketch, histories([[]])))
    assert (nobody == 0.0).all()


def test_picks_heat_better_contents_than_a_lottery():
    state = world.reset(SMALL, 3)
    quality = {}
    for arm in itemcf.FAMILY:
        (report,) = runner.run_arm(SMALL, (arm,), state, 1, lambda: None)
        heated = report["stats"][:, TODAY] - report["stats"][:, ORGANIC_TODAY]
        assert heated.sum() > 0
        quality[arm.name] = float((heated * report["log_quality"]).sum() / heated.sum())
    assert quality["itemcf:picks"] > quality["itemcf:uniform"] + 0.3
