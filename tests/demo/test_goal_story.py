"""A goal's life, told: what it changed, in which days."""

import msgspec
import numpy as np
import pytest

from upwell.demo import goal_story
from upwell.demo.goal_story import WATCHED, Life, Story, Told, change, summary, write_page
from upwell.world.config import reference_world

STORY = Story("冲GMV", 2, 5, 8)


def days(gmv: list[float]) -> list[dict[str, float]]:
    return [dict.fromkeys(WATCHED, 0.5) | {"gmv_per_day": value} for value in gmv]


def goal() -> dict:
    weights = {"user_satisfaction": 0.4, "platform_revenue": 0.5, "long_term": 0.1}
    history = [{"what": "lifted", "who": "operator", "why": "<it is over>"}]
    return {"proposal": {"weights": weights}, "history": history}


def test_a_windows_first_day_is_the_one_befores(tmp_path):
    every = [
        Told(days([100.0] * 8), days([100.0, 100.0, 100.0, 110.0, 114.0, 114.0, 100.0, 104.0]), goal()),
        Told(days([50.0] * 8), days([50.0, 50.0, 50.0, 53.0, 53.0, 53.0, 50.0, 50.0]), goal()),
    ]
    found = summary(STORY, every)
    gmv = found["changes"]["gmv_per_day"]
    assert gmv["before"]["mean"] == 0.0
    assert gmv["during"]["mean"] == pytest.approx((0.12 + 0.06) / 2)
    assert gmv["during"]["low"] < 0.06
    assert gmv["after"]["mean"] == pytest.approx(0.01)
    assert found["changes"]["ctr"]["during"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    write_page(STORY, found, tmp_path / "story.html")
    told = (tmp_path / "story.html").read_text("utf-8")
    assert "冲GMV" in told
    assert "&lt;it is over&gt;" in told


def test_with_one_platform_there_is_no_interval():
    found = summary(STORY, [Told(days([100.0] * 8), days([101.0] * 8), goal())])
    assert np.isinf(found["changes"]["gmv_per_day"]["during"]["high"])
    assert change(found["changes"]["gmv_per_day"]["during"]) == "+1.0%"


def test_lives_that_are_kept_are_not_lived_again(tmp_path, monkeypatch):
    def never(*given):
        raise AssertionError("all of it was lived before")

    monkeypatch.setattr(goal_story.world, "burnt_in", never)
    day = dict.fromkeys(WATCHED, 1.0)
    for name, life in (("without", Life([day], 1)), ("under", Life([day, day], 2, {"history": ["live"]}))):
        (tmp_path / f"{name}-7.json").write_bytes(msgspec.json.encode(life))
    told = goal_story.lived(reference_world(), 7, 56, Story("raise ctr", 1, 3, 5), tmp_path, lambda: None)
    assert (len(told.without), len(told.under)) == (1, 2)
    assert told.goal == {"history": ["live"], "degraded": 3}
    with pytest.raises(AssertionError, match="lived before"):
        goal_story.lived(reference_world(), 8, 56, Story("raise ctr", 1, 3, 5), tmp_path, lambda: None)
