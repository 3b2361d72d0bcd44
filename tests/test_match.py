"""Grants matched to segments: chances that are owed come first, the rest by fit; and what is left of each, split."""

import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from upwell.agents.xp import before_equals
from upwell.regulator.match import held_by
from upwell.world.heating import shares

SUITS = np.array([[0.9, 0.1, 0.2], [0.8, 0.3, 0.1]], np.float32)  # of two segments to three contents
ALIKE = np.full(3, 0.5, np.float32)


def held(outstanding, owed, u, suits, many, places, xp=np):
    """What each segment holds, best first."""
    outstanding, owed, u, suits = (xp.asarray(x) for x in (outstanding, owed, u, suits))
    ids, there = held_by(xp, outstanding, owed, u, lambda active: suits[:, active], many, places)
    return [[int(i) for i, t in zip(*row, strict=True) if t] for row in zip(ids, there, strict=True)]


def test_without_chances_segments_take_what_suits_them_best():
    assert held([5, 5, 5], [False] * 3, ALIKE, SUITS, 3, 2) == [[0, 2], [0, 1]]


def test_a_chance_comes_first_where_it_fits_best_though_others_fit_better():
    # Content 2 suits nobody: the first segment is the one it suits least badly.
    assert held([5, 5, 5], [False, False, True], ALIKE, SUITS, 3, 1) == [[2], [0]]
    assert held([5, 5, 0], [False, False, True], ALIKE, SUITS, 3, 1) == [[0], [0]]  # without a grant it waits


def test_of_two_chances_the_one_that_fits_better_comes_first():
    assert held([5, 5, 5], [True, False, True], ALIKE, SUITS, 3, 2) == [[0, 2], [0, 1]]


def test_chances_are_drawn_before_all_else():
    u = np.array([0.9, 0.8, 0.1], np.float32)
    assert held([5, 5, 5], [False, False, True], u, SUITS, 1, 1) == [[2], [2]]
    assert held([5, 5, 5], [False] * 3, u, SUITS, 1, 1) == [[0], [0]]


grants = st.tuples(st.integers(0, 3), st.booleans(), st.sampled_from([0.25, 0.5, 0.75]))


@given(st.lists(grants, min_size=2, max_size=12), st.integers(1, 3), st.data())
@settings(max_examples=60)
def test_a_chance_is_held_at_home_unless_chances_fill_it(rows, segments, data):
    outstanding, owed, u = (np.array(column) for column in zip(*rows, strict=True))
    # Steps of a hundredth: sums of them are told apart in float32.
    fits = data.draw(st.lists(st.integers(-500, 500), min_size=segments * len(rows), max_size=segments * len(rows)))
    suits = np.array(fits, np.float32).reshape(segments, len(rows)) / 100
    many, places = data.draw(st.integers(1, len(rows))), data.draw(st.integers(1, 4))
    asked = (outstanding, owed, u.astype(np.float32), suits, many, places)
    got = held(*asked)
    assert got == held(*asked, xp=jnp)
    chances = {int(i) for i in np.flatnonzero(owed & (outstanding > 0))}
    for segment, row in enumerate(got):
        assert (outstanding[row] > 0).all()
        at_home = {i for i in chances if suits[segment, i] == suits[:, i].max()}
        if many >= len(chances):
            assert at_home <= set(row) or (set(row) <= at_home and len(row) == min(places, many))


def test_before_equals_by_hand():
    keys = np.array([7, 3, 7, 7, 3, 9])
    assert before_equals(np, keys).tolist() == [0, 0, 1, 2, 1, 0]
    assert before_equals(jnp, jnp.asarray(keys)).tolist() == [0, 0, 1, 2, 1, 0]


def test_what_is_left_of_a_grant_goes_round_by_hand():
    # Content 1 has five left and four holders, content 2 two left and three.
    ids = jnp.array([[1, 2], [1, 2], [1, 2], [1, 0]])
    held = jnp.array([[True, True], [True, True], [True, True], [True, False]])
    left = jnp.array([9, 5, 2])
    assert shares(left, ids, held, jnp.uint32(0)).tolist() == [[2, 1], [1, 1], [1, 0], [1, 0]]
    assert shares(left, ids, held, jnp.uint32(1)).tolist() == [[1, 0], [2, 1], [1, 1], [1, 0]]
    assert shares(left, ids, held, jnp.uint32(7)).tolist() == [[1, 1], [1, 1], [1, 0], [2, 0]]


@given(st.lists(grants, min_size=3, max_size=12), st.integers(1, 5), st.integers(0, 2**32 - 9), st.data())
@settings(max_examples=60)
def test_segments_share_all_that_is_left_and_no_more(rows, segments, turn, data):
    outstanding, owed, u = (np.array(column) for column in zip(*rows, strict=True))
    fits = data.draw(st.lists(st.integers(-9, 9), min_size=segments * len(rows), max_size=segments * len(rows)))
    suits = jnp.asarray(np.array(fits, np.float32).reshape(segments, len(rows)))
    ids, there = held_by(jnp, outstanding, owed, u.astype(np.float32), lambda active: suits[:, active], len(rows), 3)
    given = [shares(jnp.asarray(outstanding), ids, there, jnp.uint32(turn + i)) for i in range(segments)]
    held_at_all = np.zeros(len(rows), bool)
    held_at_all[np.asarray(ids)[np.asarray(there)]] = True
    for share in given:
        together = np.zeros(len(rows), int)
        np.add.at(together, np.asarray(ids), np.asarray(share))
        assert together.tolist() == np.where(held_at_all, outstanding, 0).tolist()
    # Once around, every holder had as much as every other.
    rounds = np.sum([np.asarray(share) for share in given], axis=0)
    for content in np.flatnonzero(held_at_all):
        of = rounds[np.asarray(there) & (np.asarray(ids) == content)]
        assert (of == of[0]).all() or segments != len(of), "each holder is first at one turn"
