"""Users of A/A tests who were not made up: counted by hand, and as the platform counts them."""

import jax.numpy as jnp
import numpy as np
import pytest

from upwell.bench import aa, aa_users
from upwell.world import world
from upwell.world.config import reference_world

DAYS = aa.DAYS
SMALL = reference_world().override(
    {"sizes.users": 200, "sizes.contents": 300, "sizes.creators": 30, "sizes.segments": 2, "activity.leave": 0.1}
)


def test_whoever_takes_a_place_is_somebody_else():
    told, came = np.zeros((2 * DAYS, 2, 2)), np.zeros((2 * DAYS, 2), np.int64)
    told[0, 0] = 1.0, 10.0  # the first place's first user, before
    told[DAYS, 0] = 2.0, 20.0  # and during the experiment
    came[DAYS + 1 :, 0] = DAYS + 1  # then somebody else
    told[DAYS + 2, 0] = 3.0, 30.0
    told[1, 1] = 4.0, 40.0  # the second place's user is gone by then
    found = aa_users.by_user(told, came)
    assert found.clicks.sum(0).tolist() == [2, 3]
    assert found.impressions.sum(0).tolist() == [20, 30]
    assert found.impressions[:3].tolist() == [[20, 0], [0, 0], [0, 30]]
    np.testing.assert_array_equal(found.before, [[1.0, 10.0], [np.nan, np.nan]])


def test_the_first_half_of_a_users_events_is_the_past():
    user = np.array([7, 7, 7, 7, 3, 9, 9])
    time_s = np.array([4.0, 1.0, 3.0, 2.0, 1.0, 2.0, 1.0])
    good = np.array([True, True, False, False, True, True, False])
    found = aa_users.halved(user, time_s, good)
    # Who has a single event has no past, and is left out; in the order of names: 7, 9.
    assert found.before.tolist() == [[1.0, 2.0], [0.0, 1.0]]
    assert found.clicks.sum(0).tolist() == [1, 1]
    assert found.impressions.sum(0).tolist() == [2, 1]
    assert found.clicks[DAYS // 2].tolist() == [1, 0]  # the last of 7's comes in the second part of two


@pytest.mark.slow
def test_the_platform_counts_the_same():
    state = world.burnt_in(SMALL, 0, 1)
    shape = state.users.satisfaction.shape
    now, report = world.run_day(SMALL, aa_users.COUNTED, state._replace(arm=jnp.zeros((*shape, 2))))
    clicks, shown = np.asarray(now.arm).reshape(-1, 2).sum(0)
    assert (clicks, shown) == (float(report["clicks"]), float(report["impressions"]))
    users = aa_users.of_world(SMALL, 0, 1, lambda: None)(np.random.default_rng(0))
    assert np.isnan(users.before).any()
    assert users.impressions.shape[0] == DAYS
    assert 0 < users.clicks.sum() < users.impressions.sum()
    found = aa.run(20, 1, lambda: None, aa_users.always(users))
    assert found["coverage"]["mean"] > 0.7
