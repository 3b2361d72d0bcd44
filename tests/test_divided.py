"""Two arms on one platform: who is served by whom, what each has to itself, and that nothing else changes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from upwell.arms.registry import members
from upwell.experiment import interference
from upwell.regulator import ledger
from upwell.world import divided, world
from upwell.world.config import reference_world
from upwell.world.divided import Split
from upwell.world.state import HEATED

SMALL = reference_world().override(
    {
        "sizes.users": 200, "sizes.contents": 300, "sizes.creators": 30, "sizes.segments": 2, "sizes.visits": 0,
        "heating.holdout": 0.0, "heating.protection_days": 0.0,
    }
)  # fmt: skip
(RAW,), (RULES,) = members("raw"), members("rules")
HALVES = Split("user_split")
MONEY = Split("budget_split")
APART = Split("co_diverted")
TURNS = Split("switchback", slot_s=6 * 3_600, washout_s=3_600)


@pytest.fixture(scope="module")
def platform():
    return world.burnt_in(SMALL, 0, 2)


def lived(split, arms, state, days=2):
    now, told = divided.opened(SMALL, split, arms, state), []
    for _ in range(days):
        now, reports = divided.run_day(SMALL, split, arms, now)
        told.append([world.to_host(report) for report in reports])
    return now, told


def alone(arm, state, days=2):
    now, told = world.under(SMALL, arm, jax.tree.map(jnp.copy, state)), []
    for _ in range(days):
        now, report = world.run_day(SMALL, arm, now)
        told.append(world.to_host(report))
    return now, told


COUNTED = ("impressions", "clicks", "valid", "requests", "new_clicks")


@pytest.mark.parametrize("split", [HALVES, MONEY])
def test_the_same_arm_twice_is_the_platform_as_it_is(platform, split):
    """Nothing is heated under raw ranking, so that it matters to nobody by which of two such arms they are served."""
    (now, told), (plain, days) = lived(split, (RAW, RAW), platform), alone(RAW, platform)
    for halves, whole in zip(told, days, strict=True):
        for name in COUNTED:
            assert halves[0][name] + halves[1][name] == whole[name], name
            assert halves[0][name] > 0, name
    np.testing.assert_array_equal(now.state.contents.stats, plain.contents.stats)
    np.testing.assert_allclose(now.state.users.satisfaction, plain.users.satisfaction, rtol=1e-5)


def test_active_users_are_parted(platform):
    _, told = lived(HALVES, (RAW, RAW), platform, 1)
    _, (whole,) = alone(RAW, platform, 1)
    assert told[0][0]["active"] + told[0][1]["active"] == whole["active"]
    assert 0.3 < told[0][0]["active"] / whole["active"] < 0.7


@pytest.mark.slow
def test_in_a_user_split_one_pool_serves_whoever_heats(platform):
    now, told = lived(HALVES, (RAW, RULES), platform)
    assert all(control["heated"] == 0 < treated["heated"] for control, treated in told)
    assert ledger.balanced(now.lanes[0].regulator.ledger)
    for mine, theirs in zip(now.lanes[0].regulator.ledger, now.lanes[1].regulator.ledger, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.slow
def test_a_budget_split_keeps_two_books(platform):
    now, told = lived(MONEY, (RULES, RULES), platform)
    whole = divided.its_own(SMALL, HALVES, platform, 0).heating.pool
    assert divided.its_own(SMALL, MONEY, platform, 0).heating.pool == whole / 2
    heated = np.zeros(300)
    for lane in now.lanes:
        assert ledger.balanced(lane.regulator.ledger)
        # Half of the coins that a content begins with, and of what it may have earned since.
        assert (np.asarray(lane.regulator.ledger.budget) <= (50 + 3 * 25) * ledger.COIN).all()
        heated += np.asarray(lane.heated)
    born = np.asarray(now.state.contents.born_day)
    old = born < 2  # else their places were others' before
    np.testing.assert_array_equal(heated[old], np.asarray(now.state.contents.stats[:, HEATED])[old])
    assert all(report["heated"] > 0 for halves in told for report in halves)


@pytest.mark.slow
def test_a_small_chance_is_parted_and_not_given_by_each_arm(platform):
    """Every content has one chance of three impressions, however many arms there are to give it."""
    quarters = Split("budget_split", shares=(0.25,) * 4)
    scale = float(platform.scale)
    config = SMALL.override({"heating.chance": 2.6 / scale})
    owed = [
        np.maximum(np.ceil(divided.its_own(config, quarters, platform, k).heating.chance * scale), 0) for k in range(4)
    ]
    assert (np.sum(owed, axis=0) == 3).all()
    assert np.stack(owed).mean(1) == pytest.approx([0.75] * 4, abs=0.1)


def test_co_diverted_users_are_heated_to_with_their_own_contents_alone(platform):
    now, told = lived(APART, (RULES, RULES), platform)
    mine = [np.asarray(divided.own_contents(APART, now.state, k)) for k in range(2)]
    assert (mine[0] != mine[1]).all()
    assert 100 < mine[0].sum() < 200
    for lane, own in zip(now.lanes, mine, strict=True):
        assert ledger.balanced(lane.regulator.ledger)
        assert np.asarray(lane.heated)[own].sum() > 0
        assert np.asarray(lane.heated)[~own].sum() == 0
    # New contents are each counted by one arm.
    graduates = [sum(report["graduates"] for report in halves) for halves in told]
    ages = np.asarray(now.state.day - now.state.contents.born_day)
    assert graduates[-1] == (ages == 4).sum()  # the morning after


@pytest.mark.slow
def test_a_kept_arm_orders_its_own_contents_first(platform):
    """But for users who ask so often that they have seen all of theirs: half of so few contents."""
    now, _ = lived(APART, (RAW, RAW), platform, 1)
    users = np.arange(now.state.users.satisfaction.size).reshape(now.state.users.satisfaction.shape)
    code = np.asarray(divided.dealt(np, APART, users))
    mine = np.asarray(divided.own_contents(APART, now.state, 0))
    seen = np.asarray(now.state.users.seen)
    words = (seen[..., :, None] >> np.arange(32, dtype=np.uint32)) & 1
    shown = words.reshape(*seen.shape[:2], -1)[..., :300]
    of_control = shown[code == 0].sum(0)
    assert of_control[mine].sum() > 0
    assert of_control[~mine].sum() < 0.25 * of_control.sum()


@pytest.mark.slow
def test_a_switchback_takes_turns(platform):
    now, told = lived(TURNS, (RAW, RULES), platform, 4)
    _, days = alone(RAW, platform, 4)
    assert sum(float(day[0]["heated"]) for day in told) == 0
    assert sum(float(day[1]["heated"]) for day in told) > 0
    counted = sum(float(report["impressions"]) for day in told for report in day)
    everything = sum(float(day["impressions"]) for day in days)
    assert 0.6 < counted / everything < 0.95  # an hour of six washes out
    assert ledger.balanced(now.lanes[0].regulator.ledger)


def test_effects_and_biases_by_hand():
    pairs, truth = np.array([[1.0, 3.0], [1.0, 3.0]]), np.array([[1.0, 2.0], [1.0, 2.0]])
    assert interference.told(pairs)["mean"] == 2.0
    bias = interference.told(pairs, truth)
    assert bias["mean"] == bias["low"] == bias["high"] == 1.0  # twice the truth
