"""Segments of users, found from what they like."""

import numpy as np
import pytest
from service_samples import known_user, settings

from upwell.service import ticker
from upwell.service.live import Live
from upwell.service.records import DIMS


def users_of(profiles: np.ndarray):
    live = Live(settings(), "s")
    for n, profile in enumerate(profiles):
        row = known_user(live, f"u{n}")
        live.users.record["profile"][row] = profile
    return live.users


def test_segments_find_the_cells_of_profiles():
    rng = np.random.default_rng(0)
    truth = np.eye(DIMS)[:16]
    cell = rng.integers(0, 16, 800)
    profiles = truth[cell] + rng.normal(scale=0.02, size=(800, DIMS))
    centres = ticker.segments(users_of(profiles), 1)
    assert centres.shape == (ticker.SEGMENTS, DIMS)
    np.testing.assert_allclose(np.linalg.norm(centres, axis=-1), 1.0, rtol=1e-5)
    found = (centres @ truth.T).max(0)
    assert (found > 0.95).mean() >= 0.8
    np.testing.assert_array_equal(centres, ticker.segments(users_of(profiles), 1))


@pytest.mark.parametrize("count", [0, 1, 63, 64, 200])
@pytest.mark.parametrize("kinds", [1, 2, 5])
def test_users_alike_make_few_segments_and_no_complaint(count, kinds):
    """Fewer different profiles than segments: none is empty, none is not a number."""
    profiles = np.eye(DIMS)[np.arange(count) % kinds] if count else np.zeros((0, DIMS))
    centres = ticker.segments(users_of(profiles), 1)
    assert 1 <= len(centres) <= ticker.SEGMENTS
    assert np.isfinite(centres).all()
    lengths = np.linalg.norm(centres, axis=-1)
    assert ((np.abs(lengths - 1.0) < 1e-5) | (lengths == 0)).all()
    if count >= 64:
        assert sorted({int(c.argmax()) for c in centres}) == list(range(kinds))


def test_users_without_a_taste_tell_nothing():
    centres = ticker.segments(users_of(np.zeros((300, DIMS))), 1)
    assert centres.shape == (1, DIMS)
    assert not centres.any()
