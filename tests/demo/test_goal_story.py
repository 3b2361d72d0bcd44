"""A goal's life, told: what it changed, in which days."""

import numpy as np
import pytest

from upwell.demo.goal_story import WATCHED, Story, Told, change, summary, write_page

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
