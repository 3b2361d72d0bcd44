"""The platform as environments for learning: PettingZoo's parallel API for the three roles, Gymnasium's for one.

An action turns a role's dials around the rules' own values (``agents.dials``); 0 is exactly the rules. A step lives
some hours of the platform's clock. A platform never ends: episodes are truncated, never terminated. Every episode
starts on the morning after the burn-in and has its own chances, which hang on the seed given to ``reset`` alone.

Needs the extra ``envs``.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Box
from pettingzoo import ParallelEnv

from upwell.agents.dials import ROLES, TURNS, Dials, dials_under
from upwell.errors import BadRequest
from upwell.world import gauges, payoffs, world
from upwell.world.arm import Arm
from upwell.world.config import WorldConfig, load_world
from upwell.world.state import Array, WorldState
from upwell.world.world import burnt_in

Values = dict[str, np.ndarray]


class Now(NamedTuple):
    """A day under way and what rates are read against."""

    day: world.Day
    running: gauges.Running
    first: Array  # bool, no stretch seen yet


@partial(jax.jit, static_argnames="arm")
def wake(config: WorldConfig, arm: Arm, state: WorldState) -> world.Day:
    return world.start_day(config, arm, state)


@partial(jax.jit, static_argnames="arm")
def live(
    config: WorldConfig, arm: Arm, now: Now, actions: dict[str, Array], until_h: Array
) -> tuple[Now, dict[str, Array], dict[str, Array]]:
    """Live up to ``until_h`` under the actions. Returns what came, observations and rewards."""
    dials = dials_under(jnp, actions)
    before = now.day._replace(state=now.day.state._replace(arm=dials))
    after = world.run_until(config, arm, before, until_h)
    stretch = gauges.stretch(config, before, after)
    running = gauges.means_after(now.running, after, stretch, now.first)
    seen = gauges.observe(config, after, stretch, now.running, until_h)
    return Now(after, running, now.first & False), seen, payoffs.rewards(config, after, stretch, running)


@jax.jit
def sleep(config: WorldConfig, day: world.Day) -> WorldState:
    return world.finish_day(config, day)[0]


class PlatformEnv(ParallelEnv[str, np.ndarray, np.ndarray]):
    """The game of users, contents and the system.

    Args:
        arm: plays the platform by ``view.arm``, a set of ``agents.dials.Dials``: ``arms.rules.dialled``.
        world: a configuration, or the path of a world file.
        days: length of an episode.
        hours: clock hours a step; must divide 24.
        burn_in: days under raw ranking before an episode.
        world_seed: which platform it is.
        start: a burnt-in state in place of ``burn_in`` and ``world_seed``.
    """

    metadata: dict[str, Any] = {"name": "upwell_v0", "render_modes": []}  # noqa: RUF012
    render_mode = None

    def __init__(
        self,
        arm: Arm,
        world: WorldConfig | Path | str,
        days: int = 10,
        hours: int = 6,
        burn_in: int = 30,
        world_seed: int = 0,
        start: WorldState | None = None,
    ) -> None:
        if not 1 <= hours <= 24 or 24 % hours:
            raise BadRequest(f"hours={hours}: a step must divide the day's 24 hours")
        if days < 1:
            raise BadRequest(f"days={days}: an episode needs at least one day")
        self.arm, self.days, self.hours = arm, days, hours
        self.config = world if isinstance(world, WorldConfig) else load_world(Path(world))
        self.start = burnt_in(self.config, world_seed, burn_in) if start is None else start
        self.possible_agents = list(ROLES)
        self.agents: list[str] = []
        limit = gauges.LIMIT
        self.boxes = {r: Box(-limit, limit, (len(gauges.FEATURES[r]),), np.float32) for r in ROLES}
        self.action_boxes = {r: Box(-1.0, 1.0, (len(TURNS[r]),), np.float32) for r in ROLES}
        self.random = np.random.default_rng(0)

    def observation_space(self, agent: str) -> Box:
        return self.boxes[agent]

    def action_space(self, agent: str) -> Box:
        return self.action_boxes[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Values, dict[str, dict[str, Any]]]:
        """A new episode. Without a seed, the next of those that follow from the last seed given."""
        if seed is not None:
            self.random = np.random.default_rng(seed)
        chances = int(self.random.integers(2**32))
        rules = jax.tree.map(jnp.float32, Dials())
        state = self.start._replace(seed=jnp.uint32(chances), arm=rules)
        day = wake(self.config, self.arm, state)
        self.now = Now(day, gauges.first_means(day), jnp.asarray(True))
        self.steps, self.agents = 0, list(ROLES)
        # Nothing has been lived yet: what is seen is the morning.
        _, seen, _ = live(self.config, self.arm, self.now, self.still(), jnp.float32(0.0))
        return self.on_host(seen), self.infos()

    def step(
        self, actions: dict[str, np.ndarray]
    ) -> tuple[Values, dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]:
        turned_by = self.still() | {role: jnp.clip(jnp.asarray(a, jnp.float32), -1, 1) for role, a in actions.items()}
        self.steps += 1
        until = (self.steps * self.hours - 1) % 24 + 1
        self.now, seen, worth = live(self.config, self.arm, self.now, turned_by, jnp.float32(until))
        if until == 24:
            state = sleep(self.config, self.now.day)
            self.now = self.now._replace(day=wake(self.config, self.arm, state))
        over = self.steps * self.hours >= 24 * self.days
        if over:
            self.agents = []
        rewards = {role: float(worth[role]) for role in ROLES}
        ends = {role: over for role in ROLES}
        return self.on_host(seen), rewards, dict.fromkeys(ROLES, False), ends, self.infos()

    def still(self) -> dict[str, Array]:
        """Actions that leave every dial alone."""
        return {role: jnp.zeros(len(TURNS[role]), jnp.float32) for role in ROLES}

    def on_host(self, seen: dict[str, Array]) -> Values:
        return {role: np.asarray(seen[role], np.float32) for role in ROLES}

    def infos(self) -> dict[str, dict[str, Any]]:
        return {role: {"hours": self.steps * self.hours} for role in ROLES}

    def render(self) -> None:
        """Nothing to draw."""


class RoleEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """One role's view of the game; the other two play by the rules."""

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012

    def __init__(self, role: str, platform: PlatformEnv) -> None:
        if role not in ROLES:
            raise BadRequest(f"unknown role '{role}': choose from {', '.join(ROLES)}")
        self.role, self.platform = role, platform
        self.observation_space = platform.observation_space(role)
        self.action_space = platform.action_space(role)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        seen, infos = self.platform.reset(int(self.np_random.integers(2**31)))
        return seen[self.role], infos[self.role]

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        seen, rewards, ended, truncated, infos = self.platform.step({self.role: action})
        role = self.role
        return seen[role], rewards[role], ended[role], truncated[role], infos[role]
