"""Every reason and every part of a logit has words, in both languages, and groups add up as their parts do."""

import numpy as np

from upwell.agents import user
from upwell.agents.dials import Dials
from upwell.agents.user import CORRECTIONS
from upwell.regulator import explain, policy, words


def part_names() -> set[str]:
    one = np.zeros((1, 1, 1), np.float32)
    tried = user.explore_parts(np, one, one, one, np.zeros((1, 4), np.float32), idle=one)
    raced = policy.heat(np, one, one, one, 1.0, Dials().content, Dials().system, idle=one)
    return {"ranker", "rank", "rounding", *CORRECTIONS, *tried, *raced}


def test_every_part_is_about_something():
    assert part_names() <= words.GROUP_OF.keys()
    about = set(words.GROUPS) - {"rounding"}
    assert words.FOR.keys() == words.AGAINST.keys() == about


def test_every_reason_is_said_in_both_languages():
    for code in explain.CODES:
        said = words.of_place((code,), {})
        assert said.en.endswith(".")
        assert said.zh.endswith("。")


def test_the_rankers_own_order_is_called_so():
    assert words.of_place(("ranker",), {"ranker": 1.5, "rounding": 1 / 1024}).en.startswith("The ranker's order put")


def test_what_moved_a_place_by_hand():
    parts = {"ranker": 1.5, "taste": 0.25, "worth": 0.75, "starting": -0.5, "idle": 0.01, "rounding": 2 / 1024}
    about = words.groups(parts)
    assert about == {
        "ranker": 1.5, "fit": 0.25, "quality_posterior": 0.75, "cold_start": -0.5, "breadth": 0.01,
        "rounding": 2 / 1024,
    }  # fmt: skip
    said = words.of_place(("ranker",), about)
    assert said.en == (
        "The ranker's order, corrected for this user, put it here. What helped most: the ranker rates it high, and "
        "people watch it more than most. Against it: new content is held back for this user."
    )
    assert (
        said.zh
        == "按针对该用户修正后的排序排在这里。主要原因:排序模型评分高、观看表现好于平均。不利因素:对该用户减少新内容。"
    )
