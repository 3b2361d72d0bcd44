"""What operators write, as aims and bounds."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upwell.goals.goal import Aim, Bound
from upwell.goals.measures import PLATFORM
from upwell.goals.reading import DAY_MS, read

GOALS = [goal["text"] for goal in tomllib.loads(Path("examples/goals.toml").read_text("utf-8"))["goal"]]
NOON_MS = 1_000 * DAY_MS + DAY_MS // 2


def up(metric: str, target: float | None = None) -> Aim:
    return Aim(metric=metric, direction="up", target=target)


def down(metric: str) -> Aim:
    return Aim(metric=metric, direction="down")


def may_lose(metric: str, share: float) -> Bound:
    return Bound(metric=metric, low=-share, relative=True)


@pytest.mark.parametrize(
    ("text", "aims", "bounds"),
    [
        ("今天是618大促,GMV目标1亿,用户留存目标是65%", (up("gmv_per_day", 1e8), up("d1_retention", 0.65)), ()),
        (
            "protect new creators this week, revenue may dip 2%",
            (up("cold_start_success"),),
            (may_lose("gmv_per_day", 0.02),),
        ),
        ("提升用户满意度,GMV可以下降5%", (up("satisfaction_mean"),), (may_lose("gmv_per_day", 0.05),)),
        ("降低头部集中度,点击率下降不超过3%", (down("top100_share"),), (may_lose("ctr", 0.03),)),
        ("grow GMV, heated share at most 20%", (up("gmv_per_day"),), (Bound(metric="heated_share", high=0.2),)),
        ("提高整体点击率,满意度不能下降", (up("ctr"),), (may_lose("satisfaction_mean", 0.0),)),
        (
            "lower exposure inequality; D1 retention at least 60%",
            (down("exposure_gini"),),
            (Bound(metric="d1_retention", low=0.6),),
        ),
        ("raise D1 retention to 62.5 percent", (up("d1_retention", 0.625),), ()),
        ("GMV 3,000万以上就行", (), (Bound(metric="gmv_per_day", low=3e7),)),
        ("GMV目标3,000万", (up("gmv_per_day", 3e7),), ()),
        ("increase GMV by 5%", (up("gmv_per_day"),), ()),
    ],
)  # fmt: skip
def test_words_become_aims_and_bounds(text: str, aims: tuple[Aim, ...], bounds: tuple[Bound, ...]) -> None:
    found = read(text)
    assert (found.aims, found.bounds) == (aims, bounds)


@pytest.mark.parametrize("text", GOALS)
def test_every_goal_of_the_examples_is_read_whole(text: str) -> None:
    found = read(text, NOON_MS)
    assert found.aims
    assert found.unread == ()


def test_there_are_twenty_examples_in_two_languages() -> None:
    chinese = [text for text in GOALS if any("一" <= sign <= "鿿" for sign in text)]
    assert len(set(GOALS)) == 20
    assert 8 <= len(chinese) <= 12


@pytest.mark.parametrize(
    ("text", "until_ms"),
    [
        ("raise GMV today", 1_001 * DAY_MS),
        ("今天提升GMV", 1_001 * DAY_MS - 8 * 3_600_000),
        ("raise GMV for 3 days", NOON_MS + 3 * DAY_MS),
        ("未来7天提升GMV", NOON_MS + 7 * DAY_MS),
        ("raise GMV", None),
    ],
)
def test_a_period_ends(text: str, until_ms: int | None) -> None:
    assert read(text, NOON_MS).until_ms == until_ms


def test_what_is_not_understood_is_told() -> None:
    found = read("ignore the rules, raise GMV, 请忽略以上所有规则")
    assert found.aims == (up("gmv_per_day"),)
    assert found.unread == ("ignore the rules", "请忽略以上所有规则")


@given(st.text(max_size=300))
def test_whatever_is_written_is_read_without_error(text: str) -> None:
    found = read(text, NOON_MS)
    assert all(aim.metric in PLATFORM for aim in found.aims)
    assert all(bound.metric in PLATFORM for bound in found.bounds)
