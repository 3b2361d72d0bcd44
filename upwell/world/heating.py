"""The regulator's slow tick over the world's state, and its grants matched to segments."""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp

from upwell.agents.xp import BLOCKED, before_equals, hash_uniform, quantise
from upwell.regulator import guards, slate, tick
from upwell.regulator.match import held_by
from upwell.world import suspicion
from upwell.world.arm import Arm, Batch, View, pool_today
from upwell.world.config import WorldConfig
from upwell.world.state import CLICKS, HEATED, IMPRESSIONS, VALID, Array, Users, WorldState

WHICH_GRANTS = 611


def slow_tick(config: WorldConfig, arm: Arm, state: WorldState, view: View, elapsed: Array) -> WorldState:
    """Trust, requests, approval and payment (see ``regulator.tick``)."""
    assert arm.requests is not None
    heating, stats = config.heating, state.contents.stats
    cheat = guards.proven_cheat(jnp, stats[:, CLICKS], stats[:, VALID])
    regulator = state.regulator._replace(cheat=cheat)
    if state.trust is not None:
        _, frozen, zeroed = suspicion.consequences(config, state)
        regulator = regulator._replace(cheat=cheat | zeroed, frozen=frozen)
    state = state._replace(regulator=regulator)
    owed = chances_owed(config, state, view)
    price = tick.reference_price(jnp, heating.first_ask, heating.budget, state.scale)
    quality = (stats[:, VALID] + 1.0) / (stats[:, IMPRESSIONS] * state.platform_ctr + 2.0)
    regulator = tick.allocate(
        jnp, state.regulator, arm.requests(view), owed, jnp.clip(quality, 0.0, 1.0),
        jnp.ceil(heating.chance * state.scale), price, heating.cap, elapsed, pool_today(config, state),
    )  # fmt: skip
    return state._replace(regulator=regulator)


def chances_owed(config: WorldConfig, state: WorldState, view: View) -> Array:
    """New contents that have not had their heating chance yet, bool ``[M]``."""
    heated = state.contents.stats[:, HEATED]
    barred = state.regulator.cheat | state.regulator.frozen
    return guards.owed_a_chance(heated, view.age_days, state.scale, config.heating.chance, barred)


def match_grants(config: WorldConfig, arm: Arm, state: WorldState, view: View, batch: Batch) -> slate.Grants:
    """Match outstanding grants to segments, and split what is left of each between the segments that hold it."""
    assert arm.match is not None
    assert arm.heat is not None
    outstanding = state.regulator.ledger.outstanding
    sizes = config.sizes
    many = min(sizes.contents, max(4 * sizes.grants, 16 * sizes.grants * state.persona.shape[0] // 8))
    turn = hash_uniform(jnp, state.seed, WHICH_GRANTS, view.tick_key, jnp.arange(sizes.contents))
    owed = chances_owed(config, state, view)
    ids, held = held_by(jnp, outstanding, owed, turn, partial(arm.match, view), many, sizes.grants)
    share = shares(outstanding, ids, held, view.tick_key)
    logits = arm.heat(view, batch, ids)
    usable = held[:, None, :] & jnp.isfinite(logits) & ~seen(state.users, batch.place, ids)
    if state.trust is not None:
        narrowed, _, _ = suspicion.consequences(config, state)
        cells = jnp.arange(ids.shape[0])[:, None]
        usable &= ~(narrowed[ids][:, None, :] & suspicion.doubted(state)[cells, batch.place][..., None])
    scores = jnp.where(usable, quantise(jnp, jnp.nan_to_num(logits, neginf=0.0)), BLOCKED)
    return slate.Grants(ids, scores, share)


def shares(outstanding: Array, ids: Array, held: Array, turn: Array) -> Array:
    """What is left of each grant ``[M]``, split between the segments that hold it ``[S, G]``, i32 ``[S, G]``.

    Segments are served at the same moment: together they must show no more than is left. Whole shares, and of the
    remainder one more each, another segment first at each ``turn``: all of it with one, and a grant of fewer
    impressions than segments would reach the users of that one alone.
    """
    segments = ids.shape[0]
    first = (turn % segments).astype(jnp.int32)
    in_turn = jnp.roll(jnp.where(held, ids, -1), -first, 0)
    place = jnp.roll(before_equals(jnp, in_turn.reshape(-1)).reshape(ids.shape), first, 0)
    holders = jnp.maximum(jnp.zeros(outstanding.shape, jnp.int32).at[ids].add(held.astype(jnp.int32))[ids], 1)
    left = outstanding[ids]
    return jnp.where(held, left // holders + (place < left % holders), 0)


def seen(users: Users, index: Array, ids: Array) -> Array:
    """Whether each user of the batch was shown each content within the window, bool ``[S, R, X]``."""
    cells = jnp.arange(index.shape[0])[:, None, None]
    words = users.seen[cells, index[:, :, None], (ids >> 5)[:, None, :]]
    return (words >> (ids & 31).astype(jnp.uint32)[:, None, :]) & 1 == 1
