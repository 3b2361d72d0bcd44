"""One tick: decide the slates of a batch of requests, let the users respond, let everybody learn."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from upwell.agents import mind, user
from upwell.agents.xp import hash_uniform, quantise
from upwell.regulator import guards, ledger, slate
from upwell.regulator.assignment import assign
from upwell.world import catalogue, measure, ranker
from upwell.world.arm import Arm, Batch, View, view_of
from upwell.world.config import WorldConfig
from upwell.world.heating import match_grants, seen, slow_tick
from upwell.world.response import Outcome, log_appeal, openness, respond, satisfaction_after
from upwell.world.state import HEATED, IMPRESSIONS, STATS, Array, Users, WorldState

WHETHER, WHICH = 601, 602
MIND = mind.MindRules()
HOLDOUT_SALT = 7_001
OUTSIDE_DAYS = 7
"""A user is outside a content's audience who engaged none of its tags within these days."""


class Moment(NamedTuple):
    """Who asks, and when."""

    place: Array  # i32 [S, R], the users' places in their segments
    present: Array  # bool [S, R]
    key: Array  # u32, differs from tick to tick
    hour: Array  # i32, clock hour
    now_h: Array  # f32, hours since the first day's start
    elapsed: Array  # f32, share of the day's traffic gone


class Shown(NamedTuple):
    """A slate with what the world knows of each place, ``[S, R, K]`` unless shaped."""

    ids: Array  # i32
    here: Array  # bool [S, R, 1], whether there is a request at all
    heated: Array  # bool
    explored: Array  # bool
    age_days: Array
    tags: Array  # i32 [S, R, K, 3]
    embedding: Array  # f32 [S, R, K, D]
    satiety: Array  # f32 in [0, 1], similarity to what the user was lately shown
    recent: Array  # f32 [S, R, D], that memory, faded to now


class Told(NamedTuple):
    """How a batch's slates came about, for the decision log."""

    view: View
    batch: Batch
    moment: Moment
    user_id: Array  # i32 [S, R]
    held_out: Array  # bool [S, R]
    protected: Array  # bool [S, R], the held out among them
    question: slate.Question
    picked: slate.Slate


def rows(users: Users, index: Array) -> Users:
    """The users of a batch ``[S, R]``; their bitmaps stay where they are."""
    cells = jnp.arange(index.shape[0])[:, None]
    return Users(*(x if name == "seen" else x[cells, index] for name, x in zip(Users._fields, users, strict=True)))


def serve(
    config: WorldConfig,
    arm: Arm,
    state: WorldState,
    counts: measure.DayCounts,
    ids: Array,
    bias: Array,
    moment: Moment,
) -> tuple[WorldState, measure.DayCounts, Told]:
    """Serve one batch: ``ids`` i32 ``[S, C]`` are the candidates, ``bias`` f32 ``[M]`` the ranker's own logits.

    Returns:
        what came of it, and how the slates came about (costs nothing where it is not used: XLA drops it).
    """
    view = view_of(config, state, moment.key)
    if arm.requests is not None:
        state = slow_tick(config, arm, state, view, moment.elapsed)
        view = view_of(config, state, moment.key)
    users = rows(state.users, moment.place)
    users = users._replace(mind=mind.recover(jnp, users.mind, moment.now_h - users.visited_h, MIND))
    similarity = jnp.einsum("srd,scd->src", users.profile, state.contents.embedding[ids])
    noise, tried = ranker.serving_noise(config, state.seed, moment.key, ids)
    blocked = seen(state.users, moment.place, ids)
    batch = Batch(users, moment.place, ids, similarity, bias[ids] + noise, blocked, tried)
    user_id = jnp.arange(ids.shape[0])[:, None] * state.users.satisfaction.shape[1] + moment.place
    held_out = assign(jnp, user_id, HOLDOUT_SALT) < config.heating.holdout
    protected = ~guards.may_explore(state.day, users.created_day, config.heating.protection_days, held_out)

    question = ask(config, arm, state, view, batch, moment, user_id, held_out, protected)
    if arm.elsewhere is None:
        picked = slate.build(jnp, size=config.sizes.slate, **question._asdict())
    else:
        picked = arm.elsewhere.decide(view, batch, moment, question)
    shown = look(config, state, users, picked, moment)
    out = react(config, state, users, shown, user_id)
    if arm.elsewhere is not None:
        arm.elsewhere.tell(view, moment, picked, out)
    state, added = remember(config, state, users, shown, out, moment)

    # The ledger learns what was delivered; the guards learn what it did to click rates.
    regulator = state.regulator
    if arm.match is not None:
        delivered = jnp.round(added[:, HEATED]).astype(jnp.int32)
        regulator = regulator._replace(ledger=ledger.spend(jnp, regulator.ledger, delivered))
    ones, held = jnp.broadcast_to(shown.here, shown.ids.shape), held_out[..., None]
    regulator = regulator._replace(
        hour_impressions=regulator.hour_impressions + ones.sum(),
        hour_heated=regulator.hour_heated + shown.heated.sum(),
        clicks=regulator.clicks + (out.clicked & ~held).sum(),
        impressions=regulator.impressions + (ones & ~held).sum(),
        held_clicks=regulator.held_clicks + (out.clicked & held).sum(),
        held_impressions=regulator.held_impressions + (ones & held).sum(),
    )
    counts = measure.count(
        counts, moment.hour, moment.present, protected, ones, shown.heated, shown.explored, shown.age_days < 3, out
    )
    told = Told(view, batch, moment, user_id, held_out, protected, question, picked)
    return state._replace(regulator=regulator), counts, told


def ask(
    config: WorldConfig,
    arm: Arm,
    state: WorldState,
    view: View,
    batch: Batch,
    moment: Moment,
    user_id: Array,
    held_out: Array,
    protected: Array,
) -> slate.Question:
    """What slates are decided from: organic order, heated places within the cap, explored places where allowed."""
    sizes, ids, regulator = config.sizes, batch.ids, state.regulator
    grants = slots = exploration = None
    if arm.match is not None:
        grants = match_grants(config, arm, state, view, batch)
        wanted = jnp.where(moment.present & ~held_out, len(slate.heated_places(sizes.slate)), 0)
        coming = moment.present.sum() * sizes.slate
        left = guards.heated_slots_left(
            jnp, regulator.hour_impressions, regulator.hour_heated, coming, config.heating.cap
        )
        slots = guards.within_window(jnp, wanted, left)
    if arm.explore is not None:
        probability, logits = arm.explore(view, batch)
        probability = jnp.where(protected | ~moment.present, 0.0, probability * regulator.throttle)
        places = len(slate.explored_places(sizes.slate))
        u = hash_uniform(jnp, state.seed, WHETHER, moment.key, user_id[..., None], jnp.arange(places))
        u_which = hash_uniform(jnp, u[..., None] * 2.0**24, WHICH, ids[:, None, None, :])
        exploration = slate.Exploration(probability, logits, u, u_which)
    scores = quantise(jnp, arm.scores(view, batch))
    return slate.Question(ids, scores, batch.blocked, grants, slots, exploration)


def look(config: WorldConfig, state: WorldState, users: Users, picked: slate.Slate, moment: Moment) -> Shown:
    """What stands in each place of the slates, and how much of it the user has lately had."""
    contents, here = state.contents, moment.present[..., None]
    forgotten = 2.0 ** (-(moment.now_h - users.visited_h) / config.response.satiation_half_life_h)
    recent = users.recent * forgotten[..., None]
    embedding = contents.embedding[picked.ids]
    return Shown(
        ids=picked.ids,
        here=here,
        heated=(picked.kind == slate.HEATED) & here,
        explored=(picked.kind == slate.EXPLORED) & here,
        age_days=state.day - contents.born_day[picked.ids],
        tags=contents.tags[picked.ids],
        embedding=embedding,
        satiety=jnp.clip(jnp.einsum("srkd,srd->srk", embedding, recent), 0.0, 1.0),
        recent=recent,
    )


def react(config: WorldConfig, state: WorldState, users: Users, shown: Shown, user_id: Array) -> Outcome:
    """The users' responses; nothing where there is no request."""
    contents, ids = state.contents, shown.ids
    shows = users.interest * openness(config, users.discovered, users.curiosity)
    flat = shown.tags.reshape(*ids.shape[:2], -1)
    interest = jnp.take_along_axis(shows, flat, axis=-1).reshape(shown.tags.shape).max(-1)
    clickbait, log_quality = contents.clickbait[ids], contents.log_quality[ids]
    log_rate = (
        log_appeal(config, log_quality, clickbait, shown.age_days)
        + jnp.log(interest + 1e-6)
        - config.response.position * jnp.arange(config.sizes.slate)
        - config.response.satiation * shown.satiety
    )
    ring = users.ring[..., None] & catalogue.in_ring(config, state.seed, contents)[ids]
    out = respond(
        config, state.seed, user_id[..., None], ids + contents.generation[ids] * config.sizes.contents, state.day,
        log_rate, log_quality, clickbait, contents.duration_s[ids], contents.price[ids], ring,
    )  # fmt: skip
    here = shown.here
    return Outcome(
        rate=out.rate,
        clicked=out.clicked & here,
        valid=out.valid & here,
        dwell_s=out.dwell_s * here,
        completion=out.completion,
        shared=out.shared & here,
        value=out.value * here,
    )


def remember(
    config: WorldConfig, state: WorldState, users: Users, shown: Shown, out: Outcome, moment: Moment
) -> tuple[WorldState, Array]:
    """Write the outcomes into contents' counts ``[M, STATS]`` (also returned) and into the users' rows."""
    contents, ids, here = state.contents, shown.ids, shown.here
    clicked, valid, heated, day = out.clicked, out.valid, shown.heated, state.day
    ones = jnp.broadcast_to(here, ids.shape)
    flat_tags = shown.tags.reshape(*ids.shape[:2], -1)
    lately = jnp.take_along_axis(users.last_valid_day, flat_tags, axis=-1) > (day - OUTSIDE_DAYS).astype(jnp.int16)
    outside = (heated | shown.explored) & ~lately.reshape(shown.tags.shape).any(-1)
    # In the order of state.py's columns.
    columns = jnp.stack(
        [
            ones, clicked, valid, out.shared, heated, heated & clicked, heated & valid, ones & ~heated, ones,
            ones, clicked, clicked, outside, outside & valid,
        ],
        axis=-1,
    ).astype(jnp.float32)  # fmt: skip
    added = jnp.zeros((config.sizes.contents, STATS), jnp.float32).at[ids.reshape(-1)].add(columns.reshape(-1, STATS))
    contents = contents._replace(
        stats=contents.stats + added,
        first3=contents.first3 + added[:, IMPRESSIONS] * (day - contents.born_day < 3),
    )

    clicks = clicked.sum(-1).astype(jnp.float32)
    # The profile moves towards the mean embedding of what was clicked.
    rate = (config.ranker.learning * config.ranker.feedback * clicked)[..., None]
    towards = user.taste_step(users.profile[:, :, None, :], shown.embedding, rate).sum(2)
    # One scatter for both: 1 where a tag was met, 2 where a valid view engaged it.
    row, place = jnp.arange(ids.shape[0])[:, None, None], jnp.arange(ids.shape[1])[None, :, None]
    what = jnp.repeat(1 + valid.astype(jnp.int8), 3, axis=-1)
    met = jnp.zeros(users.interest.shape, jnp.int8).at[row, place, flat_tags].max(what)
    today = day.astype(jnp.int16)
    # The last valid view of the slate joins the history; its generation tells it from a later content in its place.
    viewed = jnp.where(valid, ids + contents.generation[ids] * config.sizes.contents, -1)
    newest = jnp.take_along_axis(viewed, (ids.shape[-1] - 1 - jnp.argmax(valid[..., ::-1], -1))[..., None], -1)
    history = jnp.concatenate([newest, users.history[..., :-1]], axis=-1)
    changed = users._replace(
        discovered=users.discovered + config.interest.discovery * (met == 2) * (1.0 - users.discovered),
        satisfaction=satisfaction_after(config, users.satisfaction, out, shown.satiety),
        recent=shown.recent + config.response.satiation_step * (shown.embedding - shown.recent[:, :, None, :]).sum(2),
        profile=users.profile + towards / jnp.maximum(clicks, 1.0)[..., None],
        last_valid_day=jnp.where(met == 2, today, users.last_valid_day),
        requests=users.requests + jnp.int16(1),
        met_at=jnp.where(met > 0, users.requests[..., None] + jnp.int16(1), users.met_at),
        history=jnp.where(valid.any(-1, keepdims=True), history, users.history),
        mind=mind.update(
            jnp,
            users.mind,
            clicks,
            users.expected * config.sizes.slate,
            (clicked & (shown.age_days < 3)).any(-1),
            user.familiarity(jnp, shown.embedding, shown.recent),
            MIND,
        ),
        expected=user.expected_after(users.expected, clicks, config.sizes.slate),
        visited_h=jnp.broadcast_to(moment.now_h, clicks.shape),
    )
    return state._replace(users=write_back(state.users, changed, moment, ids), contents=contents), added


TOUCHED = (
    "discovered", "satisfaction", "recent", "profile", "last_valid_day", "requests", "met_at", "history", "mind",
    "expected", "visited_h",
)  # fmt: skip


def write_back(users: Users, changed: Users, moment: Moment, picked: Array) -> Users:
    """Put a batch's rows back; absent rows go nowhere. Shown contents are marked in the bitmaps."""
    cells = jnp.arange(moment.place.shape[0])[:, None]
    target = jnp.where(moment.present, moment.place, users.satisfaction.shape[1])  # out of range: dropped
    updates = {
        name: getattr(users, name).at[cells, target].set(getattr(changed, name), mode="drop") for name in TOUCHED
    }
    # A content is shown at most once in the window, so adding its bit sets it.
    bits = jnp.uint32(1) << (picked & 31).astype(jnp.uint32)
    marked = users.seen.at[cells[..., None], target[..., None], picked >> 5].add(bits, mode="drop")
    return users._replace(seen=marked, **updates)
