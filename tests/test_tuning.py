"""Tuning: what is declared, what is drawn, and a search that goes on where it stopped."""

import json

import jax
import pytest

from upwell.arms.registry import ARMS, SPACES, space
from upwell.arms.tuning import Range
from upwell.errors import BadRequest
from upwell.experiment import tuning
from upwell.experiment.runner import Plan
from upwell.world.config import reference_world

SMALL = reference_world().override(
    {"sizes.users": 200, "sizes.contents": 300, "sizes.creators": 30, "sizes.ticks_per_day": 24}
)


def test_a_share_of_the_way_up():
    assert Range(2.0, 10.0).at(0.25) == 4.0
    assert Range(1.0, 100.0, log=True).at(0.5) == pytest.approx(10.0)


@pytest.mark.parametrize("name", SPACES)
def test_defaults_lie_within_what_is_searched(name):
    of = SPACES[name]
    for key, bounds in of.ranges.items():
        tuned = of.family[0].tuned
        for part in key.split("."):
            tuned = getattr(tuned, part)
        assert bounds.low <= float(tuned) <= bounds.high, key


@pytest.mark.parametrize("name", SPACES)
def test_every_tunable_is_searched_and_every_draw_within_bounds(name):
    of = SPACES[name]
    leaves = jax.tree.leaves(of.family[0].tuned)
    assert name == "rules" or len(leaves) == len(of.ranges)
    for trial in range(6):
        values = tuning.values_of(name, of, trial)
        assert all(of.ranges[key].low <= value <= of.ranges[key].high for key, value in values.items())
        assert len(jax.tree.leaves(of.make(values))) == len(leaves)
        assert values == tuning.values_of(name, of, trial)


def test_every_arm_but_raw_oracle_and_the_learned_can_be_tuned():
    assert set(ARMS) - set(SPACES) <= {"raw", "oracle", "rules_tuned", "marl", "maddpg"}
    with pytest.raises(BadRequest, match="nothing to tune"):
        space("raw")
    with pytest.raises(BadRequest, match="unknown arm"):
        space("nobody")


def test_seeds_that_are_judged_on_are_refused():
    tuning.check((100, 5_000))
    with pytest.raises(BadRequest, match="--seeds 7"):
        tuning.check((100, 7))


def test_a_search_goes_on_where_it_stopped(tmp_path):
    plan = Plan(SMALL, ("pid",), (100,), 8, 3)
    assert tuning.days_left(plan, 2, tmp_path) == 3 + 8 * 3
    steps = []
    result = tuning.run(plan, 2, tmp_path, lambda: steps.append(1))
    assert len(steps) == 3 + 8 * 3
    best = result["pid"]
    assert best["objective"] == pytest.approx(max(t["objective"] for t in best["trials"]))
    assert best["objective"] - best["raw"] == pytest.approx(best["gain"])
    assert best["values"] == tuning.values_of("pid", SPACES["pid"], best["trial"])
    (tmp_path / "pid" / "1-100.json").unlink()
    assert tuning.days_left(plan, 2, tmp_path) == 3 + 8
    assert tuning.run(plan, 2, tmp_path, lambda: None) == result
    assert tuning.days_left(plan, 2, tmp_path) == 0
    with pytest.raises(BadRequest, match="another world"):
        tuning.days_left(Plan(SMALL, ("pid",), (100,), 9, 3), 2, tmp_path)
    broken = tmp_path / "raw" / "0-100.json"
    broken.write_text(json.dumps({"no": "trial"}))
    with pytest.raises(BadRequest, match="not a trial"):
        tuning.run(plan, 2, tmp_path, lambda: None)
