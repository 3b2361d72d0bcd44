"""Arms of policies in files: the shipped one and anybody's own."""

import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from upwell.agents.network import SHIPPED, first_policy, load_policy, save_policy, shipped
from upwell.arms.registry import label, members
from upwell.errors import BadRequest
from upwell.experiment.runner import path_of
from upwell.world import world
from upwell.world.config import reference_world

SMALL = reference_world().override({
    "sizes.users": 64, "sizes.contents": 100, "sizes.creators": 10, "sizes.segments": 1, "sizes.candidates": 40,
    "sizes.fresh": 20,
})  # fmt: skip


def same(a, b) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


@pytest.mark.parametrize("name", ["marl", "maddpg"])
def test_the_shipped_policies_are_small_and_play(name):
    assert (SHIPPED / f"{name}.npz").stat().st_size < 4 << 20
    policy = shipped(name)
    assert not same(policy, jax.tree.map(np.zeros_like, policy))
    (arm,) = members(name)
    assert arm.name == name
    assert same(world.under(SMALL, arm, world.reset(SMALL, 0)).arm, policy)


def test_an_arm_plays_by_the_file_that_it_is_named_after(tmp_path):
    path = tmp_path / "mine.npz"
    save_policy(path, first_policy(7), {})
    (arm,) = members(f"marl:{path}")
    assert arm.name == f"marl:{path}"
    assert members(f"marl:{path}")[0] is arm  # nothing compiles anew
    assert hash(arm) == hash(members(f"marl:{path}")[0])  # a day is compiled for it
    assert same(world.under(SMALL, arm, world.reset(SMALL, 0)).arm, load_policy(path))
    save_policy(path, first_policy(8), {})
    assert same(world.under(SMALL, members(f"marl:{path}")[0], world.reset(SMALL, 0)).arm, first_policy(8))


def test_runs_are_kept_by_what_a_file_holds_and_not_by_its_name(tmp_path):
    one, two, copy = (tmp_path / f"{name}.npz" for name in ("one", "two", "copy"))
    save_policy(one, first_policy(1), {})
    save_policy(two, first_policy(2), {})
    shutil.copy(one, copy)
    labels = [label(f"marl:{path}") for path in (one, two, copy)]
    assert labels[0] == labels[2] != labels[1]
    assert path_of(Path("out"), f"marl:{one}", 3).name == f"{labels[0]}-3.json"
    assert label("rules") == "rules"


def test_what_is_no_policy_is_refused(tmp_path):
    with pytest.raises(BadRequest, match=r"none\.npz: no such file"):
        members(f"marl:{tmp_path / 'none.npz'}")
    (tmp_path / "text.npz").write_text("hello", encoding="utf-8")
    with pytest.raises(BadRequest, match="not a file of arrays"):
        members(f"marl:{tmp_path / 'text.npz'}")
    with pytest.raises(BadRequest, match="marl:FILE"):
        members("marlin")
