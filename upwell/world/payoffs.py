"""What a stretch of a day is worth to each role.

Rewards may use the world's truth (satisfaction): a policy never reads its reward live.
"""

from __future__ import annotations

import jax.numpy as jnp

from upwell.regulator import guards
from upwell.world.arm import pool_today
from upwell.world.config import WorldConfig
from upwell.world.gauges import Running, Stretch, breadth, per
from upwell.world.state import ORGANIC_TODAY, Array
from upwell.world.world import Day


def breaches(config: WorldConfig, day: Day) -> Array:
    """How far guards are broken, each over its limit: the cap, the click rate lost to the holdout, protection."""
    r, heating = day.state.regulator, config.heating
    heated = per(r.hour_heated, r.hour_impressions) / heating.cap - 1.0
    rate, held = per(r.clicks, r.impressions), per(r.held_clicks, r.held_impressions)
    loss = jnp.where(r.held_clicks >= guards.JUDGED_FROM, 1.0 - rate / jnp.maximum(held, 1e-6), 0.0)
    return (
        jnp.maximum(heated, 0.0)
        + jnp.clip(loss / heating.ctr_loss - 1.0, 0.0, 1.0)
        + (day.counts.protected_explored > 0)
    )


def rewards(config: WorldConfig, day: Day, s: Stretch, running: Running) -> dict[str, Array]:
    """Each role's reward for a stretch, f32 scalars of order 1.

    user: interest diversity times true satisfaction. content: real engagement won in cold start over the coins it
    cost, both as shares of what the step's pool comes to, a tenth of it charged in any case. system: the objective as
    it stands now, less a tenth for each breach.
    """
    state, goal, came = day.state, config.goal, day.active
    active = jnp.maximum(came.sum(), 1)
    satisfaction = (state.users.satisfaction * came).sum() / active
    wide = breadth(config, day)
    traffic = per(s.impressions, 500.0 * state.scale * config.sizes.contents)
    pool = config.heating.pool * traffic
    clicks = pool_today(config, state) * traffic * state.platform_ctr
    coins = pool * 500.0 * config.sizes.contents * config.heating.budget / config.heating.first_ask
    per_coin = s.cold_engagement / jnp.maximum(clicks, 1e-6) / (s.coins / jnp.maximum(coins, 1e-6) + 0.1)
    before = ((state.users.active_bits >> 6) & 1) == 1
    returned = (before & came).sum() / jnp.maximum(before.sum(), 1)
    fourth = state.day - state.contents.born_day == 3
    done = (state.contents.first3 >= 500.0 * state.scale) & (
        state.contents.stats[:, ORGANIC_TODAY] >= 100.0 * state.scale * day.tick / day.ticks
    )
    started = (fourth & done).sum() / jnp.maximum(fourth.sum(), 1)
    revenue = jnp.clip(s.net_gmv / active / jnp.maximum(running.gmv, 1e-6), 0.0, 3.0)
    weights = goal.user_satisfaction, goal.platform_revenue, goal.long_term
    worth = weights[0] * satisfaction + weights[1] * revenue + weights[2] * (returned + wide + started) / 3.0
    return {
        "user": wide * satisfaction,
        "content": jnp.minimum(per_coin, 100.0),
        "system": worth / (weights[0] + weights[1] + weights[2]) - 0.1 * breaches(config, day),
    }
