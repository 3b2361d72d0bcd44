"""The environments pass the suites that their libraries ship, and zero action is the rules."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from pettingzoo.test import parallel_api_test, parallel_seed_test

from upwell.agents.dials import ROLES, TURNS, Dials, turned
from upwell.arms.rules import dialled, rules
from upwell.errors import BadRequest
from upwell.world import envs, gauges, world
from upwell.world.config import reference_world, to_toml

pytestmark = pytest.mark.slow
SMALL = reference_world().override(
    {"sizes.users": 400, "sizes.contents": 600, "sizes.creators": 60, "sizes.segments": 2}
)


@pytest.fixture(scope="module")
def start() -> world.WorldState:
    return world.burnt_in(SMALL, 3, 6)


@pytest.fixture
def env(start) -> envs.PlatformEnv:
    return envs.PlatformEnv(dialled, SMALL, days=2, start=start)


def test_pettingzoo_api(env):
    parallel_api_test(env, num_cycles=20)


def test_pettingzoo_seeds(start):
    parallel_seed_test(lambda: envs.PlatformEnv(dialled, SMALL, days=2, start=start), num_cycles=20)


@pytest.mark.parametrize("role", ROLES)
def test_gymnasium_api(env, role):
    check_env(envs.RoleEnv(role, env), skip_render_check=True)  # there is nothing to render


def test_the_same_seed_gives_the_same_steps_and_another_gives_others(env):
    def lived(seed: int) -> list[np.ndarray]:
        seen, _ = env.reset(seed=seed)
        steps = [seen["system"]]
        while env.agents:
            seen, worth, *_ = env.step({role: env.action_space(role).sample() * 0.0 + 0.3 for role in env.agents})
            steps += [*seen.values(), np.array(list(worth.values()))]
        return steps

    first, again, other = lived(5), lived(5), lived(6)
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert any((one != two).any() for one, two in zip(first, other, strict=True))


def test_episodes_are_truncated_and_never_terminated(env):
    env.reset(seed=1)
    for step in range(8):
        _, _, ended, truncated, _ = env.step({})
        assert not any(ended.values())
        assert all(truncated.values()) == (step == 7)
    assert env.agents == []


def without_action_it_is_the_rules_bit_for_bit() -> None:
    start = world.burnt_in(SMALL, 3, 6)
    env = envs.PlatformEnv(dialled, SMALL, days=2, start=start)
    env.reset(seed=2)
    state = jax.tree.map(np.array, env.now.day.state)
    morning = env.start._replace(seed=state.seed, arm=None)
    after, _ = world.run_day(SMALL, rules, jax.tree.map(lambda x: x.copy(), morning))
    for _ in range(4):
        env.step({})
    lived = env.now.day.state
    # The next morning has begun in the environment: compare what mornings do not touch.
    for name in ("satisfaction", "profile", "mind", "history", "seen"):
        np.testing.assert_array_equal(getattr(lived.users, name), getattr(after.users, name), err_msg=name)


def test_without_action_it_is_the_rules_bit_for_bit():
    """Compiled as users compile it: by the suite's own flags XLA rounds a day and a tick of it differently."""
    usual = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    check = f"import {__name__} as of; of.{without_action_it_is_the_rules_bit_for_bit.__name__}()"
    done = subprocess.run(
        [sys.executable, "-c", check], env=usual, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=550
    )
    assert done.returncode == 0, done.stderr


def test_dials_at_zero_are_the_rules_and_turn_both_ways():
    for role in ROLES:
        default = getattr(Dials(), role)._asdict()
        assert list(default) == list(TURNS[role])
        assert turned(np, role, np.zeros(len(TURNS[role]), np.float32)) == default
        low, high = (turned(np, role, np.full(len(TURNS[role]), a, np.float32)) for a in (-1.0, 1.0))
        assert all(low[name] < value < high[name] for name, value in default.items())


def test_actions_change_what_happens(env):
    def explored(action: float) -> float:
        env.reset(seed=3)
        env.step({"user": np.full(3, action, np.float32)})
        return float(env.now.day.counts.explored)

    assert explored(-1.0) < explored(0.0) < explored(1.0)


def test_nothing_that_a_platform_cannot_know_is_observed(env):
    """Observations stay the same when the truth that has not shown yet is another."""
    env.reset(seed=4)
    env.step({})
    day, running = env.now.day, env.now.running
    stretch = gauges.stretch(SMALL, day, day)
    users, contents = day.state.users, day.state.contents
    other = day._replace(
        state=day.state._replace(
            users=users._replace(
                satisfaction=users.satisfaction * 0.5,
                interest=users.interest * 2.0,
                discovered=users.discovered * 0.0,
                curiosity=1.0 - users.curiosity,
                recent=-users.recent,
            ),
            contents=contents._replace(
                log_quality=-contents.log_quality, clickbait=~contents.clickbait, bought=~contents.bought
            ),
        )
    )
    truth, changed = (gauges.observe(SMALL, d, stretch, running, np.float32(6.0)) for d in (day, other))
    for role in ROLES:
        np.testing.assert_array_equal(truth[role], changed[role])


def test_a_world_file_and_wrong_requests(tmp_path, start):
    path = tmp_path / "world.toml"
    path.write_text(to_toml(SMALL), encoding="utf-8")
    assert envs.PlatformEnv(dialled, path, start=start).config.sizes == SMALL.sizes
    with pytest.raises(BadRequest, match="hours=7"):
        envs.PlatformEnv(dialled, SMALL, hours=7, start=start)
    with pytest.raises(BadRequest, match="unknown role"):
        envs.RoleEnv("owner", envs.PlatformEnv(dialled, SMALL, start=start))
