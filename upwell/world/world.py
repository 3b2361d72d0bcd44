"""The simulated platform: ``reset`` makes a healthy one, ``run_day`` lives one day under an arm.

A day is a loop over ticks. Each tick serves a batch of ``[S, R]`` requests: the next ``R`` of each segment's queue.
With the usual traffic there are 144 ticks, ten minutes of traffic each; more traffic makes more ticks.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from upwell.agents import mind
from upwell.agents.xp import BLOCKED, hash_uniform, quantise, top_k
from upwell.regulator import guards, ledger, slate, tick
from upwell.regulator.assignment import assign
from upwell.world import catalogue, measure, population, ranker
from upwell.world.arm import Arm, Batch, View
from upwell.world.config import Sizes, WorldConfig
from upwell.world.response import log_appeal, openness, respond, satisfaction_after
from upwell.world.state import (
    CLICKS,
    HEATED,
    IMPRESSIONS,
    STATS,
    VALID,
    Array,
    Users,
    WorldState,
)  # fmt: skip

WHETHER, WHICH = 601, 602
MIND = mind.MindRules()
HOLDOUT_SALT = 7_001


def batch_size(sizes: Sizes) -> int:
    """Requests of a segment in one tick, at half the users active with eight requests each."""
    return max(2, -(-population.users_per_cell(sizes) * 4 // sizes.ticks_per_day))


def reset(config: WorldConfig, seed: int) -> WorldState:
    """A healthy platform: an ignorant ranker, broadly discovered interests, a catalogue of mixed ages."""
    key = jnp.uint32(seed)
    persona = jnp.asarray(population.draw_personas(seed, config.sizes))
    vectors = jnp.asarray(catalogue.draw_tag_vectors(seed, config.sizes))
    expected = config.sizes.users * 0.5 * config.activity.visits * config.sizes.slate
    state = WorldState(
        seed=key,
        day=jnp.int32(0),
        scale=jnp.float32(expected / config.sizes.contents / 500.0),
        dau=jnp.float32(config.sizes.users * 0.5),
        users=population.at_healthy_start(config, key, persona),
        contents=catalogue.at_healthy_start(config, key, vectors),
        tag_vectors=vectors,
        persona=persona,
        platform_ctr=jnp.float32(0.05),
        regulator=tick.opened(jnp, config.sizes.contents, float(config.heating.budget)),
        arm=None,
    )
    # Each leaf its own buffer: ``run_day`` takes the state's memory over.
    return jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), state)


class Loop(NamedTuple):
    """What a tick hands to the next within a day."""

    state: WorldState
    counts: measure.DayCounts
    ids: Array  # i32 [S, C]
    bias: Array  # f32 [M]
    hour: Array


def rows(users: Users, index: Array) -> Users:
    """The users of a batch ``[S, R]``; their bitmaps stay where they are."""
    cells = jnp.arange(index.shape[0])[:, None]
    return Users(*(x if name == "seen" else x[cells, index] for name, x in zip(Users._fields, users, strict=True)))


def view_of(config: WorldConfig, state: WorldState, tick_key: Array) -> View:
    books = state.regulator.ledger
    return View(
        config, state.seed, tick_key, state.day, state.scale, state.platform_ctr, state.users, state.contents,
        books.budget / ledger.COIN, books.outstanding, state.arm,
    )  # fmt: skip


def pool_today(config: WorldConfig, state: WorldState) -> Array:
    """Impressions of a full pool: a share of the day's expected impressions."""
    return config.heating.pool * 500.0 * state.scale * config.sizes.contents


def slow_tick(config: WorldConfig, arm: Arm, state: WorldState, view: View, elapsed: Array) -> WorldState:
    """Trust, requests, approval and payment (see ``regulator.tick``)."""
    assert arm.requests is not None
    heating, stats = config.heating, state.contents.stats
    cheat = guards.proven_cheat(stats[:, CLICKS], stats[:, VALID], jnp)
    regulator = state.regulator._replace(cheat=cheat)
    owed = guards.owed_a_chance(stats[:, HEATED], view.age_days, state.scale, heating.chance, cheat)
    price = tick.reference_price(jnp, heating.first_ask, heating.budget, state.scale)
    quality = (stats[:, VALID] + 1.0) / (stats[:, IMPRESSIONS] * state.platform_ctr + 2.0)
    regulator = tick.allocate(
        jnp, regulator, arm.requests(view), owed, jnp.clip(quality, 0.0, 1.0), jnp.ceil(heating.chance * state.scale),
        price, heating.cap, elapsed, pool_today(config, state),
    )  # fmt: skip
    return state._replace(regulator=regulator)


def match_grants(config: WorldConfig, arm: Arm, state: WorldState, view: View, batch: Batch) -> slate.Grants:
    """Match outstanding grants to segments, and split what is left of each between the segments that hold it."""
    assert arm.match is not None
    assert arm.heat is not None
    outstanding = state.regulator.ledger.outstanding
    sizes = config.sizes
    many = min(sizes.contents, max(4 * sizes.grants, 16 * sizes.grants * state.persona.shape[0] // 8))
    # Young grants first: a content's cold start does not wait.
    urgency = jnp.where(
        outstanding > 0, hash_uniform(jnp, state.seed, 611, view.tick_key, jnp.arange(sizes.contents)), -1.0
    )
    live, active = top_k(jnp, urgency, many)
    fit = jnp.where(live > 0, arm.match(view, active), -jnp.inf)
    value, order = top_k(jnp, fit, min(sizes.grants, many))
    ids = active[order]
    held = jnp.isfinite(value)
    holders = jnp.zeros(sizes.contents, jnp.int32).at[ids].add(held.astype(jnp.int32))
    # Whole shares; the remainder goes to the first segment that holds the grant.
    share = outstanding[ids] // jnp.maximum(holders[ids], 1)
    segment = jnp.broadcast_to(jnp.arange(ids.shape[0])[:, None], ids.shape)
    first = jnp.full(sizes.contents, ids.shape[0]).at[ids].min(jnp.where(held, segment, ids.shape[0]))
    share = share + jnp.where(first[ids] == segment, outstanding[ids] % jnp.maximum(holders[ids], 1), 0)
    logits = arm.heat(view, batch, ids)
    usable = held[:, None, :] & jnp.isfinite(logits) & ~seen(state.users, batch.place, ids)
    scores = jnp.where(usable, quantise(jnp, jnp.nan_to_num(logits, neginf=0.0)), BLOCKED)
    return slate.Grants(ids, scores, jnp.where(held, share, 0))


def seen(users: Users, index: Array, ids: Array) -> Array:
    """Whether each user of the batch was shown each content within the window, bool ``[S, R, X]``."""
    cells = jnp.arange(index.shape[0])[:, None, None]
    words = users.seen[cells, index[:, :, None], (ids >> 5)[:, None, :]]
    return (words >> (ids & 31).astype(jnp.uint32)[:, None, :]) & 1 == 1


def serve(
    config: WorldConfig, arm: Arm, loop: Loop, index: Array, present: Array, tick_key: Array, elapsed: Array
) -> Loop:
    """One tick: decide the slates of a batch, let users respond, and let everybody learn."""
    state, ids = loop.state, loop.ids
    sizes, day = config.sizes, state.day
    view = view_of(config, state, tick_key)
    if arm.requests is not None:
        state = slow_tick(config, arm, state, view, elapsed)
        view = view_of(config, state, tick_key)
    users = rows(state.users, index)
    now_h = 24.0 * (day + elapsed)
    minds = mind.recover(jnp, users.mind, now_h - users.visited_h, MIND)
    users = users._replace(mind=minds)
    embedding = state.contents.embedding
    similarity = jnp.einsum("srd,scd->src", users.profile, embedding[ids])
    bias = loop.bias[ids] + ranker.serving_noise(config, state.seed, tick_key, ids)
    batch = Batch(users, index, ids, similarity, bias)

    cells, per_cell = state.users.satisfaction.shape
    user_id = jnp.arange(cells)[:, None] * per_cell + index
    held_out = assign(jnp, user_id, HOLDOUT_SALT) < config.heating.holdout
    grants = slots = exploration = None
    regulator = state.regulator
    if arm.match is not None:
        grants = match_grants(config, arm, state, view, batch)
        most = len(slate.heated_places(sizes.slate))
        wanted = jnp.where(present & ~held_out, most, 0)
        left = guards.heated_slots_left(
            jnp, regulator.hour_impressions, regulator.hour_heated, present.sum() * sizes.slate, config.heating.cap
        )
        slots = guards.within_window(jnp, wanted, left)
    protected = ~guards.may_explore(day, users.created_day, config.heating.protection_days, held_out)
    if arm.explore is not None:
        probability, logits = arm.explore(view, batch)
        probability = jnp.where(protected | ~present, 0.0, probability * regulator.throttle)
        places = len(slate.explored_places(sizes.slate))
        u = hash_uniform(jnp, state.seed, WHETHER, tick_key, user_id[..., None], jnp.arange(places))
        u_which = hash_uniform(jnp, u[..., None] * 2.0**24, WHICH, ids[:, None, None, :])
        exploration = slate.Exploration(probability, logits, u, u_which)
    shown = slate.build(
        jnp,
        ids,
        quantise(jnp, arm.scores(view, batch)),
        seen(state.users, index, ids),
        sizes.slate,
        grants,
        slots,
        exploration,
    )

    contents = state.contents
    picked = shown.ids
    tags = contents.tags[picked]
    shows = users.interest * openness(config, users.discovered, users.curiosity)
    flat_tags = tags.reshape(*picked.shape[:2], -1)
    interest = jnp.take_along_axis(shows, flat_tags, axis=-1).reshape(tags.shape).max(-1)
    shown_embedding = embedding[picked]
    forgotten = 2.0 ** (-(now_h - users.visited_h) / config.response.satiation_half_life_h)
    recent = users.recent * forgotten[..., None]
    age = day - contents.born_day[picked]
    clickbait, log_quality = contents.clickbait[picked], contents.log_quality[picked]
    satiety = jnp.maximum(jnp.einsum("srkd,srd->srk", shown_embedding, recent), 0.0)
    log_rate = (
        log_appeal(config, log_quality, clickbait, age)
        + jnp.log(interest + 1e-6)
        - config.response.position * jnp.arange(sizes.slate)
        - config.response.satiation * satiety
    )
    ring = users.ring[..., None] & catalogue.in_ring(config, state.seed, contents)[picked]
    out = respond(
        config, state.seed, user_id[..., None], picked + contents.generation[picked] * sizes.contents, day, log_rate,
        log_quality, clickbait, contents.duration_s[picked], contents.price[picked], ring,
    )  # fmt: skip
    here = present[..., None]
    clicked, valid = out.clicked & here, out.valid & here
    heated, explored = (shown.kind == slate.HEATED) & here, (shown.kind == slate.EXPLORED) & here
    ones = jnp.broadcast_to(here, picked.shape)

    organic = ones & ~heated
    columns = jnp.stack(
        [
            ones,
            clicked,
            valid,
            out.shared & here,
            heated,
            heated & clicked,
            heated & valid,
            organic,
            ones,
            ones,
            clicked,
            clicked,
        ],
        axis=-1,
    ).astype(jnp.float32)
    added = jnp.zeros((sizes.contents, STATS), jnp.float32).at[picked.reshape(-1)].add(columns.reshape(-1, STATS))
    contents = contents._replace(
        stats=contents.stats + added,
        first3=contents.first3 + added[:, IMPRESSIONS] * (day - contents.born_day < 3),
    )

    clicks = clicked.sum(-1).astype(jnp.float32)
    # The profile moves towards the mean embedding of what was clicked.
    step = (config.ranker.learning * config.ranker.feedback * clicked)[..., None]
    profile = (
        users.profile
        + (step * (shown_embedding - users.profile[:, :, None, :])).sum(2) / jnp.maximum(clicks, 1.0)[..., None]
    )
    row, place = jnp.arange(picked.shape[0])[:, None, None], jnp.arange(picked.shape[1])[None, :, None]
    spread_valid = jnp.repeat(valid, 3, axis=-1)
    engaged = jnp.zeros(users.interest.shape, jnp.bool_).at[row, place, flat_tags].max(spread_valid)
    new_click = (clicked & (age < 3)).any(-1)
    cosine = jnp.einsum("srkd,srd->srk", shown_embedding, recent).mean(-1) / jnp.maximum(
        jnp.linalg.norm(recent, axis=-1), 1e-6
    )
    expected = users.expected
    changed = users._replace(
        discovered=users.discovered + config.interest.discovery * engaged * (1.0 - users.discovered),
        satisfaction=satisfaction_after(config, users.satisfaction, out),
        recent=recent + 0.1 * (shown_embedding - recent[:, :, None, :]).sum(2),
        profile=profile,
        last_valid_day=jnp.where(engaged, day.astype(jnp.int16), users.last_valid_day),
        mind=mind.update(jnp, minds, clicks, expected * sizes.slate, new_click, cosine, MIND),
        expected=expected + 0.05 * (clicks / sizes.slate - expected),
        visited_h=jnp.broadcast_to(now_h, expected.shape),
    )
    state = state._replace(users=write_back(state.users, changed, index, present, picked), contents=contents)

    # The ledger learns what was delivered; the guards learn what it did to click rates.
    if arm.match is not None:
        delivered = jnp.round(added[:, HEATED]).astype(jnp.int32)
        regulator = regulator._replace(ledger=ledger.spend(jnp, regulator.ledger, delivered))
    total, total_clicks, total_heated = ones.sum(), clicked.sum(), heated.sum()
    held = held_out[..., None]
    regulator = regulator._replace(
        hour_impressions=regulator.hour_impressions + total,
        hour_heated=regulator.hour_heated + total_heated,
        clicks=regulator.clicks + (clicked & ~held).sum(),
        impressions=regulator.impressions + (ones & ~held).sum(),
        held_clicks=regulator.held_clicks + (clicked & held).sum(),
        held_impressions=regulator.held_impressions + (ones & held).sum(),
    )
    new = age < 3
    c = loop.counts
    counts = measure.DayCounts(
        impressions=c.impressions + total,
        clicks=c.clicks + total_clicks,
        valid=c.valid + valid.sum(),
        shares=c.shares + (out.shared & here).sum(),
        heated=c.heated + total_heated,
        explored=c.explored + explored.sum(),
        dwell_s=c.dwell_s + (out.dwell_s * here).sum(),
        gmv=c.gmv + (out.value * here).sum(),
        new_impressions=c.new_impressions + (new & here).sum(),
        new_clicks=c.new_clicks + (new & clicked).sum(),
        requests=c.requests + present.sum(),
        protected_explored=c.protected_explored + (explored & protected[..., None]).sum(),
        hour_impressions=c.hour_impressions.at[loop.hour].add(total),
        hour_heated=c.hour_heated.at[loop.hour].add(total_heated),
    )
    return loop._replace(state=state._replace(regulator=regulator), counts=counts)


def write_back(users: Users, changed: Users, index: Array, present: Array, picked: Array) -> Users:
    """Put a batch's rows back; absent rows go nowhere. Shown contents are marked in the bitmaps."""
    cells = jnp.arange(index.shape[0])[:, None]
    target = jnp.where(present, index, users.satisfaction.shape[1])  # out of range: dropped
    touched = ("discovered", "satisfaction", "recent", "profile", "last_valid_day", "mind", "expected", "visited_h")
    updates = {
        name: getattr(users, name).at[cells, target].set(getattr(changed, name), mode="drop") for name in touched
    }
    # A content is shown at most once in the window, so adding its bit sets it.
    bits = jnp.uint32(1) << (picked & 31).astype(jnp.uint32)
    marked = users.seen.at[cells[..., None], target[..., None], picked >> 5].add(bits, mode="drop")
    return users._replace(seen=marked, **updates)


@partial(jax.jit, static_argnames="arm", donate_argnames="state")
def run_day(config: WorldConfig, arm: Arm, state: WorldState) -> tuple[WorldState, dict[str, Any]]:
    """Live one day under ``arm``. Returns the next morning's state and the day's report (see ``measure``)."""
    sizes, seed, day = config.sizes, state.seed, state.day
    before = state.contents.generation
    contents = catalogue.start_of_day(config, seed, day, state.scale, state.tag_vectors, state.contents)
    books = ledger.reopen(jnp, state.regulator.ledger, contents.generation != before, config.heating.budget)
    # Contents that earn clicks earn budget: 50 coins a day while CTR is above 3%.
    earning = (
        (contents.stats[:, IMPRESSIONS] >= 50.0 * state.scale)
        & (contents.stats[:, CLICKS] > 0.03 * contents.stats[:, IMPRESSIONS])
        & (day - contents.born_day < 7)
    )
    books = ledger.earn(jnp, books, earning, 50.0)
    books = ledger.refill(jnp, books, pool_today(config, state))
    state = state._replace(contents=contents, regulator=state.regulator._replace(ledger=books))
    active = population.active_today(config, seed, day, state.users)
    queue, length = population.visit_queue(config, seed, day, state.users, active)
    per_tick = batch_size(sizes)
    ticks = jnp.maximum(jnp.ceil(length.max() / per_tick).astype(jnp.int32), 1)
    count = min(sizes.candidates, sizes.contents)
    start = Loop(
        state,
        measure.no_counts(),
        jnp.zeros((queue.shape[0], count), jnp.int32),
        jnp.zeros(sizes.contents),
        jnp.int32(-1),
    )

    def one(i: Array, loop: Loop) -> Loop:
        elapsed = i / ticks
        hour = jnp.minimum((24 * i) // ticks, 23)
        loop = lax.cond(hour != loop.hour, lambda l: new_hour(config, arm, l, hour), lambda l: l, loop)
        first = (length * i) // ticks
        last = (length * (i + 1)) // ticks
        at = first[:, None] + jnp.arange(per_tick)
        index = jnp.take_along_axis(queue, jnp.minimum(at, queue.shape[1] - 1), axis=1)
        present = at < last[:, None]
        # Nobody is served twice in a batch: of two requests that fall together the later is lost.
        cells = jnp.arange(queue.shape[0])[:, None]
        order = jnp.broadcast_to(jnp.arange(per_tick), at.shape)
        earliest = jnp.full(active.shape, per_tick).at[cells, index].min(jnp.where(present, order, per_tick))
        present = present & (earliest[cells, index] == order)
        tick_key = (day * 4096 + i).astype(jnp.uint32)
        return serve(config, arm, loop, index, present, tick_key, elapsed)

    loop = lax.fori_loop(0, ticks, one, start)
    state = loop.state
    contents, left = catalogue.creators_who_leave(config, seed, day, state.scale, state.contents)
    state = state._replace(contents=contents)
    report = measure.day_report(config, state, active, loop.counts, left)
    rate = loop.counts.clicks / jnp.maximum(loop.counts.impressions, 1.0)
    return state._replace(
        day=day + 1,
        dau=active.sum().astype(jnp.float32),
        users=population.end_of_day(config, seed, day, state.persona, state.users, active),
        platform_ctr=0.7 * state.platform_ctr + 0.3 * jnp.maximum(rate, 1e-4),
    ), report


def new_hour(config: WorldConfig, arm: Arm, loop: Loop, hour: Array) -> Loop:
    """A new hour: candidates are retrieved anew, the cap's window opens, the throttle takes a step."""
    state = loop.state
    key = (state.day * 32 + hour).astype(jnp.uint32)
    view = view_of(config, state, key)
    if arm.bias is None:
        # The ranker is trained at night: its picture of the contents is this morning's all day.
        own = ranker.popularity(config, state.scale, state.platform_ctr, state.contents)
        bias = jnp.where(hour == 0, own, loop.bias)
    else:
        bias = arm.bias(view)
    score = (
        ranker.segment_scores(config, bias, state.users, state.contents)
        if arm.retrieval is None
        else arm.retrieval(view)
    )
    ids = ranker.retrieve(config, state.seed, key, score, view.age_days)
    r = state.regulator
    fade = 2.0 ** (-1.0 / 48.0)
    factor = guards.throttle(
        jnp, r.throttle, r.clicks, r.impressions, r.held_clicks, r.held_impressions, config.heating.ctr_loss
    )
    regulator = r._replace(
        hour_impressions=jnp.zeros(()),
        hour_heated=jnp.zeros(()),
        clicks=r.clicks * fade,
        impressions=r.impressions * fade,
        held_clicks=r.held_clicks * fade,
        held_impressions=r.held_impressions * fade,
        throttle=factor,
    )
    return loop._replace(state=state._replace(regulator=regulator), ids=ids, bias=bias, hour=hour)


def to_host(report: dict[str, Any]) -> dict[str, np.ndarray]:
    """A day's report as NumPy arrays."""
    return {key: np.asarray(value) for key, value in report.items()}
