"""A training run in its folder: killed and gone on with it ends where it would have; wrong requests are refused."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
import pytest

from upwell.agents.network import first_policy, load_policy
from upwell.errors import BadRequest
from upwell.learn import cheats, train
from upwell.world.config import SCENARIOS, WorldConfig, load_world, reference_world, to_toml

SMALL = reference_world().override(
    {"sizes.users": 200, "sizes.contents": 300, "sizes.creators": 30, "sizes.segments": 1, "sizes.ticks_per_day": 24}
)
SHORT = train.Settings(
    "mappo", 4, 200, 300, worlds=1, burn_in=9, episode_days=1, judged_days=2, judged_every=1, judged_seeds=1
)
REPLAY = {"memory": 4_096.0, "kept": 512.0}
FEW = {
    "mappo": REPLAY | {"drawn": 1_024.0, "critic_updates": 4.0, "critic_batch": 128.0},
    "maddpg": REPLAY | {"updates": 4.0, "batch": 128.0},
    "es": dict[str, float](),
}


def folder(path: Path, settings: train.Settings, config: WorldConfig = SMALL) -> Path:
    path.mkdir()
    (path / "worlds").mkdir()
    (path / "worlds" / "00.toml").write_text(to_toml(config), encoding="utf-8")
    (path / "settings.json").write_bytes(msgspec.json.encode(settings))
    return path


def looks(out: Path, settings: train.Settings, many: int) -> None:
    """Go on until so many looks at the policy are in the curve.

    Counted each time anew: a run killed between a line of the curve and its checkpoint drops that line and makes it
    again.
    """
    run = train.run([SMALL], settings, out, 60.0, lambda: None)
    next(run)
    while len(train.points(out / "curve.jsonl")) < many:
        next(run)


def test_a_line_of_the_curve_after_the_last_checkpoint_is_made_again(tmp_path):
    point = train.Point(1, 1.0, 1, 0.5, {}, {}, {}, {})
    ahead = msgspec.structs.replace(point, iteration=2)
    curve = tmp_path / "curve.jsonl"
    curve.write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in (point, ahead)))
    train.cut_after(curve, 1)
    assert train.points(curve) == [point]


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", train.ALGORITHMS)
def test_killed_and_resumed_it_ends_where_it_would_have_ended(tmp_path, algorithm):
    settings = msgspec.structs.replace(SHORT, algorithm=algorithm, rates=FEW[algorithm])
    whole, cut = folder(tmp_path / "whole", settings), folder(tmp_path / "cut", settings)
    command = [sys.executable, "-c", "from upwell.cli import main; main()", "train", "--algorithm", algorithm]
    child = subprocess.Popen([*command, "--out", str(cut), "--resume", "--minutes", "60"], stderr=subprocess.DEVNULL)
    patience = time.monotonic() + 400.0
    while not train.points(cut / "curve.jsonl"):
        assert child.poll() is None, "ended by itself"
        assert time.monotonic() < patience
        time.sleep(0.2)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    many = len(train.points(cut / "curve.jsonl")) + 1
    looks(cut, settings, many)
    looks(whole, settings, many)
    for a, b in zip(train.points(whole / "curve.jsonl"), train.points(cut / "curve.jsonl"), strict=True):
        assert (a.iteration, a.objective, a.metrics, a.learning, a.requests) == (
            b.iteration, b.objective, b.metrics, b.learning, b.requests,
        )  # fmt: skip
    with np.load(whole / "checkpoint.npz") as a, np.load(cut / "checkpoint.npz") as b:
        assert set(a.files) == set(b.files)
        for name in a.files:
            if "seconds" not in name:
                np.testing.assert_array_equal(a[name], b[name], err_msg=name)
    load_policy(cut / "policy.npz")


def test_the_average_counts_later_policies_for_more():
    one = jax.tree.map(lambda x: jnp.zeros_like(x), first_policy(0))
    now = one
    for n in range(3):
        now = train.averaged(now, jax.tree.map(lambda x, n=n: x + n + 1.0, one), n)
    np.testing.assert_allclose(now.user[0].weight, (1 * 1 + 2 * 2 + 3 * 3) / 6, rtol=1e-6)


def test_what_it_cannot_go_on_with_is_refused(tmp_path):
    settings = msgspec.structs.replace(SHORT, rates={"speed": 1.0})
    with pytest.raises(BadRequest, match="mappo has no rate 'speed': it has learning"):
        next(train.run([SMALL], settings, tmp_path / "a", 1.0, lambda: None))


def upwell(*args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from upwell.cli import main; main()", "train", *args]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_refuses_what_it_would_overwrite_or_does_not_know(tmp_path):
    held = folder(tmp_path / "held", SHORT)
    for args, said in (
        (("--algorithm", "dqn"), "choose from mappo, maddpg, es"),
        (("--roles", "user,robot"), "unknown role 'robot': choose from user, content, system"),
        (("--out", str(held)), "holds a run already"),
        (("--out", str(tmp_path / "none"), "--resume"), "no run to go on with"),
    ):
        done = upwell(*args)
        assert done.returncode == 2
        assert said in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_cheats_learn_against_who_learns(tmp_path):
    """Self-play: what adaptive cheats do moves before each look, by the same steps after a resumption."""
    config = load_world(SCENARIOS / "trust.toml").override({
        "sizes.users": 200, "sizes.contents": 400, "sizes.creators": 40, "sizes.bots": 200, "sizes.visits": 128,
        "sizes.ticks_per_day": 24, "sizes.segments": 1,
    })  # fmt: skip
    settings = msgspec.structs.replace(SHORT, burn_in=2, worlds=0, rates=FEW["mappo"])
    out = folder(tmp_path / "out", settings, config)
    first = next(train.run([config], settings, out, 60.0, lambda: None))
    assert first.cheats.keys() == cheats.strategy(config).keys()
    assert first.cheats != cheats.strategy(config)
    second = next(train.run([config], settings, out, 60.0, lambda: None))
    assert second.iteration == 2
    assert second.cheats != first.cheats


def test_what_cheats_do_is_put_into_a_world_and_read_off_again():
    config = load_world(SCENARIOS / "trust.toml")
    other = {name: value * 1.5 for name, value in cheats.strategy(config).items()}
    assert cheats.strategy(cheats.cheated(config, other)) == pytest.approx(other, rel=1e-6)
