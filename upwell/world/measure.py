"""What a day is counted by: sums on the device, one record a day on the host."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from upwell.world.config import WorldConfig
from upwell.world.state import CLICKS_TODAY, HEATED, ORGANIC_TODAY, TODAY, Array, WorldState


class DayCounts(NamedTuple):
    """Sums over a day's slates; f32 scalars, or ``[24]`` by hour of traffic."""

    impressions: Array
    clicks: Array
    valid: Array
    shares: Array
    heated: Array
    explored: Array
    dwell_s: Array
    gmv: Array
    expected_gmv: (
        Array  # what the valid views were worth in the mean: who buys is drawn, and a few dear ones make a day
    )
    new_impressions: Array
    new_clicks: Array
    requests: Array
    protected_explored: Array  # explored slots of users under protection: must stay 0
    hour_impressions: Array
    hour_heated: Array


def no_counts() -> DayCounts:
    hourly = ("hour_impressions", "hour_heated")
    return DayCounts(**{name: jnp.zeros(24 if name in hourly else ()) for name in DayCounts._fields})


def count(c: DayCounts, hour: Array, **batch: Array) -> DayCounts:
    """Add one batch: its sums, by the names of ``DayCounts``."""
    return c._replace(
        hour_impressions=c.hour_impressions.at[hour].add(batch["impressions"]),
        hour_heated=c.hour_heated.at[hour].add(batch["heated"]),
        **{name: getattr(c, name) + value for name, value in batch.items()},
    )


def day_report(
    config: WorldConfig, state: WorldState, active: Array, counts: DayCounts, creators_left: Array
) -> dict[str, Array]:
    """Everything the metrics need of the day that ends, before the night changes anything.

    Scalars, plus a few arrays: ``today`` and ``age_days`` ``[M]`` for the Lorenz curve and the lives of contents,
    ``tag_counts`` ``[T+1]`` for the histogram of tags engaged.
    """
    users, contents, scale, day = state.users, state.contents, state.scale, state.day
    age = day - contents.born_day
    today = contents.stats[:, TODAY]
    engaged = (users.last_valid_day > (day - 7).astype(jnp.int16)).sum(-1)
    bits = users.active_bits  # of the days before today: bit 0 is yesterday
    dau = active.sum()
    returned = [(((bits >> (n - 1)) & 1) == 1) for n in (1, 7)]
    stayed = [(users.created_day <= day - n) & active for n in (1, 7)]
    graduates = age == 3
    success = graduates & (contents.first3 >= 500.0 * scale) & (contents.stats[:, ORGANIC_TODAY] >= 100.0 * scale)
    # Mid-tail: contents past their first days, outside the tenth that gets most of the day's exposure.
    third_day_on = age >= 3
    tail = third_day_on & (today < jnp.sort(today)[-(config.sizes.contents // 10)])
    ranked = jnp.sort(today)
    total = jnp.maximum(today.sum(), 1.0)
    m = today.shape[0]
    one = jnp.arange(1, m + 1)
    chance = contents.stats[:, HEATED] >= config.heating.chance * scale
    return {
        **counts._asdict(),
        "active": dau,
        "tags": (engaged * active).sum() / jnp.maximum(dau, 1),
        "tag_counts": jnp.zeros(config.sizes.tags + 1).at[engaged].add(active),
        "returned1": (returned[0] & stayed[0]).sum() / jnp.maximum(returned[0].sum(), 1),
        "returned7": (returned[1] & stayed[1]).sum() / jnp.maximum(returned[1].sum(), 1),
        "graduates": graduates.sum(),
        "successes": success.sum(),
        "chances": (graduates & chance).sum(),
        "tail_impressions": (today * tail).sum(),
        "tail_clicks": (contents.stats[:, CLICKS_TODAY] * tail).sum(),
        "gini": (2 * (one * ranked).sum() / total - (m + 1)) / m,
        "top100": ranked[-100:].sum() / total,
        "satisfaction": (users.satisfaction * active).sum() / jnp.maximum(dau, 1),
        "creators_left": creators_left,
        "today": today,
        "age_days": age,
        "generation": contents.generation,
        "stats": contents.stats,
        "ledger": jnp.stack([
            state.regulator.ledger.granted, state.regulator.ledger.spent, state.regulator.ledger.released,
            state.regulator.ledger.outstanding.sum(), state.regulator.ledger.pool,
        ]),
        "coins": state.regulator.ledger.spent_coins,
        "throttle": state.regulator.throttle,
        "cheats": state.regulator.cheat.sum(),
    }  # fmt: skip
