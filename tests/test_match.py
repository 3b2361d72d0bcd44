"""Grants matched to segments: chances that are owed come first, the rest by fit."""

import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from upwell.regulator.match import held_by

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
@settings(deadline=None, max_examples=60)
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
