"""The learned regulator: user, content and system agents whose networks turn the rules' dials by what each sees.

A network that puts out 0 plays by the rules, so that learning starts from them. ``upwell train`` makes the networks;
those shipped are in ``upwell/policies``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from upwell.agents import observe
from upwell.agents.content import ContentDials
from upwell.agents.network import Policy, dials, shipped
from upwell.agents.system import SystemDials
from upwell.agents.user import UserDials
from upwell.arms import features
from upwell.arms.rules import Play, best_match, by_rules, standing
from upwell.world.arm import Arm, Batch, View
from upwell.world.config import WorldConfig
from upwell.world.state import Array, Users

PolicyOf = Callable[[View], Policy]


def platform(view: View) -> observe.Platform:
    """What all agents see alike."""
    goal = view.config.goal
    weights = goal.user_satisfaction, goal.platform_revenue, goal.long_term
    return observe.Platform(view.scale, view.platform_ctr, view.throttle, view.load, view.pool_left, weights)


def users_see(view: View, users: Users, weights: observe.Weights | None = None) -> Array:
    """What each user agent sees, f32 ``[S, R, n]`` for users ``[S, R]``; ``weights`` in place of the goal's."""
    tags, seen = features.engaged(view, users).sum(-1), platform(view)
    seen = seen if weights is None else seen._replace(weights=weights)
    return observe.of_user(
        jnp, users.mind, users.expected, tags, users.profile, users.recent, view.day - users.created_day, seen
    )


def contents_see(view: View, ids: Array) -> Array:
    """What the agents of contents see, and the system agent of them, f32 ``[*ids.shape, n]``."""
    known = standing(view, ids)
    return observe.of_content(
        jnp, known.impressions, known.clicks, known.valid, known.heated, known.age_days, known.followers, known.coins,
        view.config.heating.budget, best_match(view, ids), platform(view),
    )  # fmt: skip


def by_policy(policy_of: PolicyOf) -> Play:
    """Dials turned by the networks that ``policy_of`` finds."""

    def users(view: View, batch: Batch) -> UserDials:
        return UserDials(**dials(jnp, "user", policy_of(view).user, users_see(view, batch.users)))

    def contents(view: View, ids: Array) -> tuple[ContentDials, SystemDials]:
        policy, seen = policy_of(view), contents_see(view, ids)
        return (
            ContentDials(**dials(jnp, "content", policy.content, seen)),
            SystemDials(**dials(jnp, "system", policy.system, seen)),
        )

    return Play(users, contents)


def by_shipped(name: str) -> Arm:
    """The learned regulator with the policy of that name."""
    return playing(name, partial(shipped, name))


def playing(name: str, policy: Callable[[], Policy]) -> Arm:
    """The learned regulator with a policy, or with another that it is given as its tunables.

    The policy is not in ``tuned``: an arm is looked up by its hash, and arrays have none.
    """

    def begin(config: WorldConfig, other: Policy | None) -> Policy:
        return jax.tree.map(jnp.float32, policy()) if other is None else other

    return PLAYED._replace(name=name, begin=begin)


PLAYED = by_rules("marl", by_policy(lambda view: view.arm))
"""Plays by the networks that ``view.arm`` holds: other ones compile nothing anew."""

marl = by_shipped("marl")
