"""Effects by hand, what answers a goal and what does not, and days that are lived once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upwell.errors import BadRequest
from upwell.experiment import proof
from upwell.experiment.proof import Candidate, Kept, Platforms
from upwell.goals.goal import Aim, Bound, Effect, Goal
from upwell.model import Weights
from upwell.world.arm import RAW
from upwell.world.config import WorldConfig

NOW = Candidate(Weights(user_satisfaction=0.4, platform_revenue=0.4, long_term=0.2))
OTHER = Candidate(Weights(user_satisfaction=0.2, platform_revenue=0.6, long_term=0.2))


def effect(change: float, half: float, before: float = 1.0) -> Effect:
    return Effect(before=before, after=before + change, change=change, low=change - half, high=change + half)


def goal(*wanted: Aim | Bound) -> Goal:
    aims = tuple(one for one in wanted if isinstance(one, Aim))
    bounds = tuple(one for one in wanted if isinstance(one, Bound))
    return Goal(id="g", text="…", created_at=0, aims=aims, bounds=bounds)


def test_effects_are_paired_over_platforms():
    found = proof.effects([{"ctr": 1.0}, {"ctr": 2.0}, {"ctr": 3.0}], [{"ctr": 1.5}, {"ctr": 2.5}, {"ctr": 4.0}])["ctr"]
    # Differences .5, .5 and 1: mean 2/3, deviation .28868, over sqrt(3) .16667, times t(2) 4.3027
    assert (found.before, found.after) == (2.0, pytest.approx(8 / 3))
    assert found.change == pytest.approx(2 / 3)
    assert found.high - found.change == pytest.approx(found.change - found.low) == pytest.approx(0.71711, rel=1e-4)


def lived(net: float) -> dict[str, float]:
    return {"net_gmv_per_dau": 9.0, "expected_net_gmv_per_dau": net, "heating_yuan_per_day": 50.0, "dau": 100.0}


def test_money_is_what_was_to_be_expected_of_what_was_watched():
    found = proof.expected(lived(2.0))
    assert found["net_gmv_per_dau"] == 2.0
    assert found["gmv_per_dau"] == 2.5, "heating took 50 yuan of 100 users"
    assert found["gmv_per_day"] == 250.0


def test_the_present_setting_does_nothing_to_itself():
    kept = Kept()
    for seed, net in enumerate((1.0, 3.0)):
        kept.put(NOW, seed, "raw", lived(net))
        kept.put(OTHER, seed, "raw", lived(net + 0.25))
    platforms = Platforms(WorldConfig(), RAW, {}, 7, lambda: None, kept)
    same, other = proof.prove(platforms, NOW, [NOW, OTHER], (0, 1))
    assert all((e.change, e.low, e.high) == (0.0, 0.0, 0.0) for e in same.values())
    assert other["net_gmv_per_dau"] == Effect(before=2.0, after=2.25, change=0.25, low=0.25, high=0.25)


@pytest.mark.parametrize(
    ("direction", "change", "half", "answered"),
    [
        ("up", 0.2, 0.1, True), ("up", 0.1, 0.2, False), ("up", -0.2, 0.1, False), ("up", 0.0, 0.0, False),
        ("down", -0.2, 0.1, True), ("down", -0.1, 0.2, False), ("down", 0.2, 0.1, False),
    ],
)  # fmt: skip
def test_an_aim_is_answered_by_an_interval_clear_of_zero(direction, change, half, answered):
    meets, score, failures = proof.meets(goal(Aim(metric="ctr", direction=direction)), {"ctr": effect(change, half)})
    assert meets is answered
    assert len(failures) == (not answered)
    assert np.sign(score) == np.sign(change if direction == "up" else -change)


@pytest.mark.parametrize(
    ("bound", "change", "half", "holds"),
    [
        # Before is 2, so that 2% is .04; 1% of it, .02, is what the unfavourable end may lie beyond.
        (Bound(metric="dau", low=-0.02, relative=True), -0.03, 0.02, True),
        (Bound(metric="dau", low=-0.02, relative=True), -0.03, 0.04, False),  # the mean holds, its end is at -.07
        (Bound(metric="dau", low=-0.02, relative=True), -0.05, 0.0, False),
        (Bound(metric="dau", low=-0.02, relative=True), 0.5, 0.1, True),
        (Bound(metric="dau", high=0.02, relative=True), 0.03, 0.02, True),
        (Bound(metric="dau", high=0.02, relative=True), 0.05, 0.0, False),
        (Bound(metric="dau", low=1.9), -0.05, 0.05, True),
        (Bound(metric="dau", low=1.9), -0.11, 0.01, False),
        (Bound(metric="dau", high=2.1), 0.05, 0.05, True),
        (Bound(metric="dau", high=2.1), 0.05, 0.1, False),
        (Bound(metric="dau", low=2.5), 0.1, 0.0, False),  # broken before, and still
        (Bound(metric="dau", low=1.9, high=2.1), 0.2, 0.0, False),
    ],
)  # fmt: skip
def test_a_bound_holds_where_the_mean_and_nearly_the_whole_interval_do(bound, change, half, holds):
    meets, score, failures = proof.meets(goal(bound), {"dau": effect(change, half, before=2.0)})
    assert meets is holds
    assert (score <= -proof.BROKEN) is not holds
    assert [failure.what for failure in failures] == ([] if holds else [proof.said(bound)])


def test_no_aim_is_bought_with_another_and_none_with_a_bound():
    both = goal(Aim(metric="ctr", direction="up"), Aim(metric="dau", direction="up"))
    even = {"ctr": effect(2.0, 1.0), "dau": effect(2.0, 1.0)}
    uneven = {"ctr": effect(4.0, 1.0), "dau": effect(0.0, 1.0)}
    # log 3 each, against the mean of log 5 and 0
    assert proof.meets(both, even)[1] == pytest.approx(np.log(3.0))
    assert proof.meets(both, uneven)[1] == pytest.approx(np.log(5.0) / 2.0)
    bounded = goal(Aim(metric="ctr", direction="up"), Bound(metric="dau", low=-0.02, relative=True))
    assert proof.meets(bounded, {"ctr": effect(1e6, 1.0), "dau": effect(0.0, 0.0)})[0]
    assert proof.meets(bounded, {"ctr": effect(1e3, 1.0), "dau": effect(-0.03, 0.0)})[1] < 0.0


def test_priorities_weigh_aims():
    wanted = goal(Aim(metric="ctr", direction="up", priority=3.0), Aim(metric="dau", direction="down"))
    found = {"ctr": effect(1.0, 1.0), "dau": effect(1.0, 1.0)}
    assert proof.meets(wanted, found)[1] == pytest.approx((3.0 * np.log(2.0) - 1.0) / 4.0)


finite = st.floats(-100, 100)


@given(finite, st.floats(0, 100), st.floats(0, 50))
def test_up_and_down_mirror_each_other_and_more_is_never_worse(change, half, more):
    up, down = goal(Aim(metric="ctr", direction="up")), goal(Aim(metric="ctr", direction="down"))
    there = proof.meets(up, {"ctr": effect(change, half, before=0.0)})
    back = proof.meets(down, {"ctr": effect(-change, half, before=0.0)})
    assert there[:2] == back[:2]
    assert proof.meets(up, {"ctr": effect(change + more, half, before=0.0)})[1] >= there[1]


@pytest.mark.parametrize(
    ("target", "change", "share"), [(0.6, 0.05, 0.5), (0.6, 0.2, 2.0), (0.4, -0.1, 1.0), (None, 0.1, None)]
)
def test_how_far_a_target_is_reached(target, change, share):
    found = proof.reached(Aim(metric="ctr", direction="up", target=target), effect(change, 0.0, before=0.5))
    assert found == (None if share is None else pytest.approx(share))


def test_a_target_that_grows_with_the_platform_is_not_measured_on_a_small_one():
    assert proof.reached(Aim(metric="gmv_per_day", direction="up", target=1e8), effect(1.0, 0.1)) is None


def test_lived_days_are_kept_in_a_folder_and_told_apart(tmp_path):
    first = Kept(tmp_path, "world")
    first.put(NOW, 3, "raw", {"ctr": 0.5})
    again = Kept(tmp_path, "world")
    assert again.get(NOW, 3) == {"ctr": 0.5}
    assert again.get(NOW, 4) is None
    assert again.get(OTHER, 3) is None
    assert again.get(NOW._replace(program="0.1"), 3) is None, "a program is part of what was lived"
    with pytest.raises(BadRequest, match="made with another world"):
        Kept(tmp_path, "another").get(NOW, 3)
