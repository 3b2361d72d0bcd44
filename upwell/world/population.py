"""Users: who they are, when they come, what time does to them, who leaves and who replaces them."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri

from upwell.agents import mind
from upwell.agents.xp import hash_uniform, sigmoid
from upwell.world.config import Sizes, WorldConfig
from upwell.world.state import HISTORY, Array, Users

# First key of every hash: streams must never share uniforms.
INTEREST, DISCOVERED, CURIOSITY, ACTIVE, VISITS, RING = 101, 102, 103, 104, 105, 106
RETURN, PHASE, LEAVE, HOW_MANY = 111, 112, 113, 114
NEVER = -1_000


def user_keys(sizes: Sizes) -> tuple[Array, Array]:
    """Integer keys of users ``[S, U]`` and of user × tag ``[S, U, T]``, for hashing."""
    per_cell = users_per_cell(sizes)
    user = jnp.arange(sizes.cells * per_cell, dtype=jnp.uint32).reshape(sizes.cells, per_cell)
    return user, jnp.arange(sizes.tags, dtype=jnp.uint32)


def users_per_cell(sizes: Sizes) -> int:
    """Users in a segment; ``users`` is rounded up to whole segments."""
    return -(-sizes.users // sizes.cells)


def newborn(config: WorldConfig, seed: Array, persona: Array, born: Array, day: Array, discovered: Array) -> Users:
    """Users as they first arrive, one for each place ``[S, U]``.

    Args:
        born: i32 ``[S, U]``, how many users had this place before: the key of who comes.
        discovered: share of true interests already discovered.
    """
    sizes = config.sizes
    user, tag = user_keys(sizes)
    cells, per_cell = user.shape

    def draw(stream: int) -> Array:
        return hash_uniform(jnp, seed, stream, user, born)

    def draw_tags(stream: int) -> Array:
        return hash_uniform(jnp, seed, stream, user[..., None], born[..., None], tag)

    interest = config.interest
    own = ndtri(draw_tags(INTEREST))
    mixed = jnp.sqrt(interest.persona) * persona[:, None, :] + jnp.sqrt(1 - interest.persona) * own
    return Users(
        interest=jnp.exp(interest.spread * mixed - 0.5 * interest.spread**2),
        discovered=(draw_tags(DISCOVERED) < discovered).astype(jnp.float32),
        curiosity=draw(CURIOSITY),
        satisfaction=jnp.full(user.shape, 0.6, jnp.float32),
        recent=jnp.zeros((cells, per_cell, sizes.dims)),
        active_logit=config.activity.active + config.activity.active_spread * ndtri(draw(ACTIVE)),
        visits_log=jnp.log(config.activity.visits)
        + config.activity.visits_spread * ndtri(draw(VISITS))
        - 0.5 * config.activity.visits_spread**2,
        ring=draw(RING) < config.creator.ring,
        profile=jnp.zeros((cells, per_cell, sizes.dims)),
        last_valid_day=jnp.full((cells, per_cell, sizes.tags), NEVER, jnp.int16),
        requests=jnp.zeros(user.shape, jnp.int16),
        met_at=jnp.zeros((cells, per_cell, sizes.tags), jnp.int16),
        history=jnp.full((cells, per_cell, HISTORY), -1, jnp.int32),
        created_day=jnp.full(user.shape, day, jnp.int32),
        active_bits=jnp.zeros(user.shape, jnp.uint32),
        seen=jnp.zeros((cells, per_cell, -(-sizes.contents // 32)), jnp.uint32),
        mind=mind.first_sight(jnp, user.shape),
        expected=jnp.full(user.shape, 0.02, jnp.float32),
        visited_h=jnp.full(user.shape, -24.0, jnp.float32) + 24.0 * day,
    )


def at_healthy_start(config: WorldConfig, seed: Array, persona: Array) -> Users:
    """The population of a young platform: long-standing users with broadly discovered interests."""
    born = jnp.zeros((persona.shape[0], users_per_cell(config.sizes)), jnp.int32)
    users = newborn(config, seed, persona, born, jnp.int32(0), jnp.float32(config.interest.discovered))
    return users._replace(created_day=jnp.full(born.shape, NEVER, jnp.int32))


def active_today(config: WorldConfig, seed: Array, day: Array, users: Users) -> Array:
    """Who comes today, bool ``[S, U]``: logistic in satisfaction around each user's own habit."""
    user, _ = user_keys(config.sizes)
    logit = users.active_logit + config.activity.satisfaction * (users.satisfaction - 0.5)
    return hash_uniform(jnp, seed, RETURN, user, day) < sigmoid(jnp, logit)


def hourly_shares(config: WorldConfig) -> Array:
    """Share of the day's traffic that falls in each clock hour, f32 ``[24]``: two waves, fitted to a real log."""
    activity, hour = config.activity, jnp.arange(24) + 0.5
    wave = activity.daily_wave * jnp.cos(2.0 * jnp.pi * (hour - activity.daily_peak_h) / 24.0)
    half = activity.half_wave * jnp.cos(4.0 * jnp.pi * (hour - activity.half_peak_h) / 24.0)
    shares = jnp.exp(wave + half)
    return shares / shares.sum()


def clock_h(config: WorldConfig, elapsed: Array) -> Array:
    """Hour of the day, in [0, 24), at which a share ``elapsed`` of the day's traffic has gone."""
    return at_clock(gone_by_hour(config), elapsed)


def gone_by_hour(config: WorldConfig) -> Array:
    """Share of the day's traffic gone at each full hour, f32 ``[25]``."""
    return jnp.concatenate([jnp.zeros(1), jnp.cumsum(hourly_shares(config))])


def at_clock(gone: Array, elapsed: Array) -> Array:
    """``clock_h`` by ``gone_by_hour``."""
    hour = jnp.clip((elapsed >= gone).sum() - 1, 0, 23)
    return jnp.minimum(hour + (elapsed - gone[hour]) / (gone[hour + 1] - gone[hour]), 23.999)


def visit_queue(config: WorldConfig, seed: Array, day: Array, users: Users, active: Array) -> tuple[Array, Array]:
    """The day's requests in order of time, per segment.

    Each active user makes ``n`` requests spread evenly over the day's traffic from a phase of their own. Phase and
    user are packed in one word, so that one single-key sort orders them.

    Returns:
        the users i32 ``[S, U * visits_max]`` (only the first ``count`` of a row are requests), count i32 ``[S]``.
    """
    sizes, activity = config.sizes, config.activity
    user, _ = user_keys(sizes)
    cells, per_cell = user.shape
    weekend = activity.weekend * (day % 7 >= 5)
    mean = jnp.exp(users.visits_log + weekend + activity.visits_satisfaction * (users.satisfaction - 0.5))
    # Geometric number of requests, at least one, with that mean.
    u = hash_uniform(jnp, seed, HOW_MANY, user, day)
    extra = jnp.floor(jnp.log(u) / jnp.log1p(-1.0 / jnp.maximum(mean, 1.02)))
    requests = jnp.where(active, jnp.clip(1 + extra, 1, sizes.visits_max), 0)[..., None]
    k = jnp.arange(sizes.visits_max, dtype=jnp.float32)
    phase = (k + hash_uniform(jnp, seed, PHASE, user, day)[..., None]) / jnp.maximum(requests, 1)
    bits = max(1, (per_cell - 1).bit_length())
    late = jnp.uint32((1 << (32 - bits)) - 1)
    place = jnp.minimum((phase * late.astype(jnp.float32)).astype(jnp.uint32), late - 1)
    index = jnp.arange(per_cell, dtype=jnp.uint32)[None, :, None]
    packed = jnp.where(k < requests, place, late) << bits | index
    queue = jnp.sort(packed.reshape(cells, -1), axis=-1) & jnp.uint32((1 << bits) - 1)
    return queue.astype(jnp.int32), requests.sum((1, 2)).astype(jnp.int32)


def end_of_day(config: WorldConfig, seed: Array, day: Array, persona: Array, users: Users, active: Array) -> Users:
    """What a night does: interests the user did not meet fade; some leave for good, newcomers take their places."""
    fade = 2.0 ** (-1.0 / config.interest.half_life_days)
    missed = active[..., None] & (users.requests[..., None] - users.met_at > config.interest.patience)
    users = users._replace(
        discovered=jnp.where(missed, users.discovered * fade, users.discovered),
        active_bits=users.active_bits << 1 | active.astype(jnp.uint32),
    )
    user, _ = user_keys(config.sizes)
    hazard = config.activity.leave * jnp.exp(-config.activity.leave_satisfaction * (users.satisfaction - 0.5))
    gone = hash_uniform(jnp, seed, LEAVE, user, day) < hazard
    fresh = newborn(
        config,
        seed,
        persona,
        jnp.broadcast_to(day + 1, gone.shape),
        day + 1,
        jnp.float32(config.interest.discovered_new),
    )
    # The place keeps its activity history: a user who left counts as not retained, not as never there.
    fresh = fresh._replace(active_bits=users.active_bits)
    return Users(
        *(
            jnp.where(gone.reshape(gone.shape + (1,) * (new.ndim - 2)), new, old)
            for new, old in zip(fresh, users, strict=True)
        )
    )


def draw_personas(seed: int, sizes: Sizes) -> np.ndarray:
    """Standard-normal log interests of each segment, f32 ``[S, T]``."""
    return np.random.default_rng([seed, 1]).normal(size=(sizes.cells, sizes.tags)).astype(np.float32)
