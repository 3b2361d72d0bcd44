"""The game that the three populations learn: who acts when, what each gains, and a rollout of it.

A step is six hours of the platform's clock. At its start every agent looks at its own state and turns its dials; the
platform then lives by them. Agents of a role share one network, and there are as many of them as users or contents:
each turns its own dials and has its own gain, so that a step teaches as much as there are agents.

Gains are shares of the platform's objective, so that their mean over agents is the objective as it goes on: a user's
satisfaction, what they buy, their return and breadth of interest, and the cold starts that their impressions further.
Cold start is credited impression by impression (``needed``): without that nobody would gain by showing new contents.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from upwell.agents import mind
from upwell.agents.content import ContentDials
from upwell.agents.dials import ROLES, TURNS, turned
from upwell.agents.network import Policy, forward
from upwell.agents.system import SystemDials
from upwell.agents.user import UserDials
from upwell.arms.marl import contents_see, users_see
from upwell.arms.rules import Play, by_rules, starting
from upwell.regulator import slate
from upwell.regulator.ledger import COIN
from upwell.world import gauges, world
from upwell.world.arm import Batch, Lesson, View, view_of
from upwell.world.config import WorldConfig
from upwell.world.serve import MIND
from upwell.world.state import HEATED, HEATED_VALID, ORGANIC_TODAY, SHARES, VALID, Array, WorldState

HOURS = 6
YOUNG_DAYS = 5
"""Content agents are taught up to this age: what is older hardly asks."""


class Held(NamedTuple):
    """What the training arm carries: everybody's actions of the step, and what users did in it."""

    user: Array  # f32 [S, U, n], actions
    content: Array  # f32 [M, n]
    system: Array  # f32 [M, n]
    asked: Array  # f32 [S, U], requests
    valid: Array  # f32 [S, U], valid views
    credit: Array  # f32 [S, U], cold starts furthered


def needed(view: View) -> tuple[Array, Array]:
    """What one more impression, and what one more organic one, furthers of a content's cold start, f32 ``[M]`` each.

    Half of a cold start is its 500·scale impressions within three days, half its 100·scale organic ones on the fourth.
    """
    lacks = starting(view)
    young, tested = lacks & (view.age_days < 3), lacks & (view.age_days >= 3)
    return 0.5 * young / (500.0 * view.scale), 0.5 * tested / (100.0 * view.scale)


def count(view: View, batch: Batch, lesson: Lesson) -> Held:
    """Add a batch's outcomes to what the step has come to."""
    held: Held = view.arm
    any_kind, organic = needed(view)
    credit = any_kind[lesson.ids] + jnp.where(lesson.kind == slate.HEATED, 0.0, organic[lesson.ids])
    cells = jnp.arange(batch.place.shape[0])[:, None]
    who = jnp.where(lesson.present, batch.place, held.asked.shape[1])  # out of range: dropped

    def add(total: Array, more: Array) -> Array:
        return total.at[cells, who].add(more, mode="drop")

    return held._replace(
        asked=add(held.asked, jnp.ones(who.shape)),
        valid=add(held.valid, lesson.valid.sum(-1).astype(jnp.float32)),
        credit=add(held.credit, credit.sum(-1)),
    )


def held_by_users(view: View, batch: Batch) -> UserDials:
    cells = jnp.arange(batch.place.shape[0])[:, None]
    return UserDials(**turned(jnp, "user", view.arm.user[cells, batch.place]))


def held_by_contents(view: View) -> tuple[ContentDials, SystemDials]:
    return (
        ContentDials(**turned(jnp, "content", view.arm.content)),
        SystemDials(**turned(jnp, "system", view.arm.system)),
    )


TRAINED = by_rules("trained", Play(held_by_users, held_by_contents))._replace(learn=count)
"""Plays by the actions that ``view.arm`` holds."""


class Norms(NamedTuple):
    """What gains are measured against; scalars, fixed for an episode."""

    satisfaction: Array
    breadth: Array
    active: Array  # share of users who come on a day
    valid: Array  # valid views of an active user a day
    graduates: Array  # contents that end their third day, a day


class Steps(NamedTuple):
    """A role's experience, ``[T, N, …]``."""

    seen: Array
    world: Array  # [T, n], what only the critic sees: the platform's gauges
    action: Array  # before it is clipped to ±1
    log_prob: Array
    gain: Array
    acted: Array  # bool [T, N], whether there was an action that mattered
    goes_on: Array  # bool [T, N], false where the agent's life ends with the step


def sample(network: Any, log_std: Array, seen: Array, key: Array) -> tuple[Array, Array]:
    """Gaussian actions around the network's, and their log density (summed over dials)."""
    mean = forward(jnp, network, seen)
    action = mean + jnp.exp(log_std) * jax.random.normal(key, mean.shape)
    return action, log_density(mean, log_std, action)


def log_density(mean: Array, log_std: Array, action: Array) -> Array:
    z = (action - mean) * jnp.exp(-log_std)
    return (-0.5 * z * z - log_std - 0.5 * jnp.log(2.0 * jnp.pi)).sum(-1)


def empty(state: WorldState) -> Held:
    """All dials alone, nothing counted."""
    users, many = state.users.satisfaction.shape, state.contents.generation.shape[0]
    none = jnp.zeros(users)
    of = {role: len(TURNS[role]) for role in ROLES}
    return Held(
        jnp.zeros((*users, of["user"])), jnp.zeros((many, of["content"])), jnp.zeros((many, of["system"])),
        none, none, none,
    )  # fmt: skip


def norms_of(config: WorldConfig, state: WorldState) -> Norms:
    """From a burnt-in platform, before anyone regulates it."""
    users = state.users
    came = (users.active_bits & 1) == 1
    share = gauges.diversity(config, users, state.day - 1)
    active = jnp.maximum(came.sum(), 1)
    impressions = 500.0 * state.scale * config.sizes.contents
    return Norms(
        satisfaction=(users.satisfaction * came).sum() / active,
        breadth=(share * came).sum() / active,
        active=came.mean(),
        valid=0.6 * state.platform_ctr * impressions / active,
        graduates=jnp.maximum((state.day - state.contents.born_day == 3).sum(), 1),
    )


def coins_tied(state: WorldState) -> Array:
    """Coins each content has, those in its outstanding grant included, f32 ``[M]``."""
    books = state.regulator.ledger
    return (books.budget + books.outstanding * books.price) / COIN


def begun(state: WorldState) -> Array:
    """How far each content's cold start has come, f32 ``[M]`` in [0, 1]: see ``needed``."""
    contents, age = state.contents, state.day - state.contents.born_day
    first = jnp.minimum(contents.first3 / (500.0 * state.scale), 1.0)
    fourth = jnp.minimum(contents.stats[:, ORGANIC_TODAY] / (100.0 * state.scale), 1.0)
    return 0.5 * first + 0.5 * fourth * (age == 3) * (first >= 1.0)


def gains(config: WorldConfig, norms: Norms, before: world.Day, after: world.Day, ends_day: Array) -> dict[str, Array]:
    """What the step was worth to each agent, by role: f32 ``[S, U]``, ``[M]``, ``[M]``.

    In units of the objective: of a user's day for users, of a content's cold start for contents and the system.
    """
    goal, state, held = config.goal, after.state, after.state.arm
    total = goal.user_satisfaction + goal.platform_revenue + goal.long_term
    w_user, w_revenue, w_long = (w / total for w in (goal.user_satisfaction, goal.platform_revenue, goal.long_term))
    users, today = state.users, after.active
    per_graduate = norms.active * users.satisfaction.size / norms.graduates
    wide = gauges.diversity(config, users, state.day)
    # What is a level, and not a flow, counts once a day.
    level = w_user * (users.satisfaction - norms.satisfaction) + w_long / 3.0 * (wide - norms.breadth)
    level = level + 0.1 * (wide * users.satisfaction - norms.breadth * norms.satisfaction)  # the role's own aim
    of_user = (
        w_revenue * held.valid / norms.valid
        + w_long / 3.0 * per_graduate * held.credit
        + ends_day * today * level
        + ends_day * w_long / 3.0 * (today - norms.active)
    )

    grown = state.contents.stats - before.state.contents.stats
    cost = (coins_tied(before.state) - coins_tied(state)) / config.heating.budget
    further = begun(state) - begun(before.state)
    engaged = (grown[:, VALID] + 2.0 * grown[:, SHARES]) / (0.6 * state.platform_ctr * 500.0 * state.scale)
    of_content = further + 0.3 * engaged - 0.1 * cost
    # A heated impression takes a place: what it won, less what the mean impression wins there. A valid view is worth
    # its share of a day's, and about a twentieth of a user's day in satisfaction (``response.memory``).
    won = grown[:, HEATED_VALID] - 0.6 * state.platform_ctr * grown[:, HEATED]
    of_system = w_long / 3.0 * further + (w_revenue / norms.valid + 0.05 * w_user) / per_graduate * won
    return {"user": of_user, "content": of_content, "system": of_system}


@jax.jit
def live(
    config: WorldConfig,
    policy: Policy,
    log_std: dict[str, Array],
    norms: Norms,
    running: gauges.Running,
    day: world.Day,
    until_h: Array,
    key: Array,
) -> tuple[world.Day, gauges.Running, dict[str, Steps], Array]:
    """One step: everybody acts, the platform lives by it. Returns a step ``[N, …]`` of each role, and the requests."""
    state = day.state
    view = view_of(config, state, jnp.uint32(0))
    since_h = 24.0 * state.day + until_h - HOURS - state.users.visited_h
    present = state.users._replace(mind=mind.recover(jnp, state.users.mind, since_h, MIND))
    see = {"user": users_see(view, present), "content": contents_see(view)}
    see["system"] = see["content"]
    acts = {
        role: sample(getattr(policy, role), log_std[role], see[role], jax.random.fold_in(key, i))
        for i, role in enumerate(ROLES)
    }
    clipped = {role: jnp.clip(action, -1.0, 1.0) for role, (action, _) in acts.items()}
    before = day._replace(state=state._replace(arm=empty(state)._replace(**clipped)))
    after = world.run_until(config, TRAINED, before, until_h)
    lived = gauges.stretch(config, before, after)
    seen_by_critic = gauges.observe(config, after, lived, running, until_h)["system"]
    worth = gains(config, norms, before, after, (until_h >= 24.0).astype(jnp.float32))
    young = view.age_days < YOUNG_DAYS
    acted = {"user": after.state.arm.asked > 0, "content": young, "system": young}
    lasting = jnp.ones(present.satisfaction.shape, bool)
    old_next = (until_h >= 24.0) & (view.age_days + 1 >= YOUNG_DAYS)
    goes_on = {"user": lasting, "content": ~old_next, "system": ~old_next}
    steps = {
        role: Steps(
            see[role].reshape(-1, see[role].shape[-1]), seen_by_critic,
            acts[role][0].reshape(-1, acts[role][0].shape[-1]), acts[role][1].reshape(-1),
            worth[role].reshape(-1), acted[role].reshape(-1), goes_on[role].reshape(-1),
        )
        for role in ROLES
    }  # fmt: skip
    running = gauges.means_after(running, after, lived, jnp.asarray(False))
    return after, running, steps, after.state.arm.asked.sum()


@jax.jit
def wake(config: WorldConfig, state: WorldState) -> world.Day:
    return world.start_day(config, TRAINED, state)


@jax.jit
def sleep(config: WorldConfig, day: world.Day) -> WorldState:
    return world.finish_day(config, day)[0]


def episode(
    config: WorldConfig, policy: Policy, log_std: dict[str, Array], start: WorldState, days: int, seed: int
) -> tuple[dict[str, Steps], int]:
    """Some days of a burnt-in platform under the policy with noise, ``[T, N, …]`` a role, and requests served.

    Args:
        start: left untouched. Its own chances are replaced by those of ``seed``.
    """
    norms = norms_of(config, start)
    state = jax.tree.map(jnp.copy, start)._replace(seed=jnp.uint32(seed))
    state = state._replace(arm=empty(state))
    key, steps, requests = jax.random.key(seed), list[dict[str, Steps]](), 0.0
    running: gauges.Running | None = None
    for day_number in range(days):
        day = wake(config, state)
        running = gauges.first_means(day) if running is None else running
        for part in range(24 // HOURS):
            now = jax.random.fold_in(key, day_number * 24 + part)
            until = jnp.float32(HOURS * (part + 1))
            day, running, step, asked = live(config, policy, log_std, norms, running, day, until, now)
            steps.append(step)
            requests += float(asked)
        state = sleep(config, day)
    return {
        role: jax.tree.map(lambda *parts: np.stack([np.asarray(p) for p in parts]), *(step[role] for step in steps))
        for role in ROLES
    }, int(requests)
