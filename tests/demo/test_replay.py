"""A live experiment on the simulated platform: what the service counts is what the platform sees, arm by arm."""

from __future__ import annotations

import copy
import tomllib
from pathlib import Path

import pytest

from upwell.demo import replay
from upwell.errors import BadRequest
from upwell.experiment import live_page, metrics, replay_page
from upwell.world import world
from upwell.world.config import reference_world

EXAMPLE = Path(__file__).parents[2] / "examples" / "four_arms.toml"


def example() -> dict:
    return tomllib.loads(EXAMPLE.read_text(encoding="utf-8"))


def test_the_example_names_the_arms_that_the_project_began_with():
    found = replay.read(example())
    assert [ranker.name if ranker else "upwell" for ranker in found.rankers] == [
        "itemcf:picks", "deepfm", "meta", "upwell",
    ]  # fmt: skip
    assert found.stage.days == 30
    assert sum(arm.share for arm in found.plan.experiment.arms) == 1.0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda it: it["experiment"].update(design="switchback", slot_s=60), "switchback"),
        (lambda it: it["experiment"]["arms"][1]["settings"].update(ranker="bm25"), "no ranker 'bm25'"),
        (lambda it: it["experiment"]["arms"][1]["settings"].pop("mode"), "mode"),
        (lambda it: it["platform"].update(days=0), "days"),
        (lambda it: it.update(speed=1), "speed"),
        (lambda it: it.update(warmup_s=3_600), "whole days"),
    ],
)
def test_what_cannot_be_played_is_refused(change, says):
    wrong = copy.deepcopy(example())
    change(wrong)
    with pytest.raises(BadRequest, match=says):
        replay.read(wrong)


def test_effects_beside_the_truth_by_hand():
    def effect(lift, low, high):
        return {"lift": lift, "low": low, "high": high, "p": 0.5}

    told = {"arms": [{"arm": "a"}, {"arm": "b"}], "effects": {"b": dict.fromkeys(replay.TRUTH, effect(0.1, 0.0, 0.2))}}
    told["effects"]["b"]["ctr"] = effect(0.3, 0.25, 0.35)
    told["effects"]["b"]["gmv_per_dau"] = effect(0.3, None, 0.35)
    true = {"a": dict.fromkeys(replay.TRUTH, 2.0), "b": dict.fromkeys(replay.TRUTH, 2.3)}
    true["a"]["d1_retention"] = 0.0
    found = replay.compared(told, true)["b"]
    assert found["ctr"]["true"] == pytest.approx(0.15)
    assert {name: one["covered"] for name, one in found.items()} == {
        "ctr": False, "real_engagement": True, "gmv_per_dau": None, "heated_share": True, "d1_retention": None,
    }  # fmt: skip
    assert replay_page.rows_of({"b": {"ctr": found["ctr"]}}) == [
        ["b", "ctr", "+30.0%", "+25.0%", "+35.0%", "+15.0%", "no"]
    ]


@pytest.mark.slow
def test_the_service_counts_what_the_platform_sees(tmp_path):
    """To the click, but for who is answered late on a busy machine: two parties that count the same slates by the same
    arms, each from what it has itself."""
    asked = example()
    del asked["experiment"]["arms"][1:3]  # what they would compile takes minutes
    for arm in asked["experiment"]["arms"]:
        arm["share"] = 0.45
    asked["warmup_s"] = 86_400
    asked["platform"] = {"users": 240, "contents": 600, "days": 2, "burn_in": 8}
    played = replay.read(asked)
    config = reference_world().override(
        {"sizes.users": 240, "sizes.contents": 600, "sizes.candidates": 100, "sizes.creators": 60}
    )
    state = world.burnt_in(config, 3, 8)
    lived = replay.live(played, config, state, lambda figures: None)
    late = lived.figures.degraded
    assert late < 0.02 * lived.figures.decisions
    assert lived.figures.events == lived.figures.clicks > 0
    assert [event["what"] for event in lived.told["history"]] == ["running", "started"]
    assert float(lived.morning.day) == float(state.day) + 1.0
    assert [(one["arm"], one["when"]) for one in lived.told["checks"]["aa"]] == [("marl", "warm-up")]
    assert {row["segment"] for row in lived.told["segments"]["marl"]} >= {"small creators", "other creators"}
    rows = {arm["arm"]: arm for arm in lived.told["arms"]}
    slates = 0
    for name, reports in lived.reports.items():
        seen, told = metrics.over(config, reports), rows[name]["metrics"]
        requests = sum(float(report["requests"]) for report in reports)
        assert requests > 100
        assert 0 <= requests - rows[name]["slates"] <= late
        slates += requests
        for metric in ("ctr", "real_engagement", "heated_share", "gmv_per_dau"):
            assert told[metric] == pytest.approx(seen[metric], rel=0.02), (name, metric)
        assert told["ctr"] == pytest.approx(seen["ctr"], rel=1e-6 if not late else 0.02)
        assert seen["heated_share"] > 0.0
        assert seen["heated_share"] <= config.heating.cap
    assert slates < lived.figures.decisions  # the holdout, and who is in no arm
    page = tmp_path / "page.html"
    seen = {name: metrics.over(config, reports) for name, reports in lived.reports.items()}
    effects = replay.compared(lived.told, seen)
    live_page.write_page(lived.told, page, replay_page.sections(effects, seen, seen))
    assert "Live effects against the truth" in page.read_text(encoding="utf-8")
