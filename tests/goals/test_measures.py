"""The measures: each platform-level one is a metric of the world, and its words are of no other."""

from collections import Counter
from functools import partial

import jax
import numpy as np
import pytest

from upwell.experiment import metrics
from upwell.goals.measures import CONTENT, PLATFORM, READABLE
from upwell.world import world
from upwell.world.arm import RAW
from upwell.world.config import WorldConfig

BOTH = {f"{m.level}:{name}": m for table in (PLATFORM, CONTENT) for name, m in table.items()}


@pytest.mark.slow
def test_every_platform_measure_is_a_metric_of_a_days_report():
    config = WorldConfig().override({
        "sizes.users": 64, "sizes.contents": 64, "sizes.creators": 8, "sizes.tags": 8, "sizes.candidates": 16,
    })  # fmt: skip
    state = jax.eval_shape(lambda: world.reset(config, 0))
    _, shapes = jax.eval_shape(partial(world.run_day, config, RAW), state)  # traced, never compiled
    report = {name: np.zeros(shape.shape) for name, shape in shapes.items()}
    assert set(PLATFORM) <= set(metrics.over(config, [report]))
    assert set(PLATFORM) >= READABLE


@pytest.mark.parametrize("measure", BOTH.values(), ids=BOTH)
def test_a_measure_has_a_range_and_meanings(measure):
    assert np.isfinite([measure.low, measure.high]).all()
    assert measure.low < measure.high
    assert measure.meaning.isascii()
    assert any("\u4e00" <= c <= "\u9fff" for c in measure.meaning_zh)
    assert any(word.isascii() for word in measure.words)
    assert not all(word.isascii() for word in measure.words)


@pytest.mark.parametrize("table", [PLATFORM, CONTENT])
def test_no_two_measures_share_a_word(table):
    words = Counter(word for measure in table.values() for word in {*measure.words, measure.name})
    assert [word for word, times in words.items() if times > 1] == []
    assert all(word == word.lower().strip() and word for word in words)


def test_no_name_stands_for_both_a_content_and_the_platform():
    assert not set(PLATFORM) & set(CONTENT)


def test_operators_find_what_they_mean():
    found = {word: name for name, measure in PLATFORM.items() for word in measure.words}
    asked = {
        "留存": "d1_retention", "次日留存": "d1_retention", "用户留存": "d1_retention", "七日留存": "d7_retention",
        "gmv": "gmv_per_day", "成交额": "gmv_per_day", "多样性": "interest_diversity", "新内容": "cold_start_success",
        "冷启动": "cold_start_success", "点击率": "ctr", "满意度": "satisfaction_mean", "时长": "watch_minutes_per_dau",
        "观看时长": "watch_minutes_per_dau", "头部集中度": "top100_share", "流失": "creator_churn",
        "retention": "d1_retention", "revenue": "gmv_per_day", "watch time": "watch_minutes_per_dau",
    }  # fmt: skip
    assert {word: found.get(word) for word in asked} == asked
