"""One tick: decide the slates of a batch of requests, let the users respond, let everybody learn."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from upwell.agents import mind, user
from upwell.agents.xp import hash_uniform, quantise
from upwell.regulator import guards, ledger, slate
from upwell.regulator.assignment import HOLDOUT_SALT, assign
from upwell.regulator.trust.evidence import Events
from upwell.world import catalogue, measure, ranker, suspicion
from upwell.world.arm import Arm, Batch, Lesson, View, view_of, worked_out
from upwell.world.config import WorldConfig
from upwell.world.heating import match_grants, seen, slow_tick
from upwell.world.response import Outcome, Traits, openness, respond, satisfaction_after, traits
from upwell.world.state import Array, Users, WorldState

WHETHER, WHICH = 601, 602
MIND = mind.MindRules()
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


class Offer(NamedTuple):
    """What an hour's requests are served from."""

    ids: Array  # i32 [S, C], candidates
    vectors: Array  # f32 [S, D, C], their embeddings
    bias: Array  # f32 [M], the ranker's logits that hang on the content alone
    facts: Array  # f32 [M, FACTS]


FACTS = len(Traits._fields) + 6


def facts(config: WorldConfig, state: WorldState) -> Array:
    """What the world looks up of each content shown, side by side: one gather a tick instead of a dozen."""
    contents = state.contents
    age_days = state.day - contents.born_day
    of = traits(
        config, contents.log_quality, contents.clickbait, age_days, contents.duration_s, contents.price
    )  # fmt: skip
    ring = catalogue.in_ring(config, state.seed, contents)
    rest = (age_days, ring, contents.generation, *(contents.tags[:, i] for i in range(3)))
    return jnp.stack([jnp.asarray(x, jnp.float32) for x in (*of, *rest)], axis=-1)


class Shown(NamedTuple):
    """A slate with what the world knows of each place, ``[S, R, K]`` unless shaped."""

    ids: Array  # i32
    key: Array  # i32, id + generation * M: tells a content from a later one in its place
    traits: Traits
    ring: Array  # bool, of the colluding ring
    here: Array  # bool [S, R, 1], whether there is a request at all
    heated: Array  # bool
    explored: Array  # bool
    age_days: Array
    tags: Array  # i32 [S, R, K, 3]
    embedding: Array  # f32 [S, R, K, D]
    satiety: Array  # f32 in [0, 1], similarity to what the user was lately shown
    recent: Array  # f32 [S, R, D], that memory, faded to now


class Tally(NamedTuple):
    """What is counted of impressions: flags ``[S, R, K]`` of each, or their sums."""

    shown: Array
    clicked: Array
    valid: Array
    shared: Array
    heated: Array
    heated_clicked: Array
    heated_valid: Array
    explored: Array
    outside: Array  # heated or explored, on a user who engaged none of the content's tags lately
    outside_valid: Array


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
    offer: Offer,
    moment: Moment,
) -> tuple[WorldState, measure.DayCounts, Told]:
    """Serve one batch.

    Returns:
        what came of it, and how the slates came about (costs nothing where it is not used: XLA drops it).
    """
    ids, bias = offer.ids, offer.bias
    view = view_of(config, state, moment.key)
    if arm.requests is not None:
        state = slow_tick(config, arm, state, view, moment.elapsed)
        view = view_of(config, state, moment.key)
    users = rows(state.users, moment.place)

    def prepared() -> tuple[Array, Array, Array, Array]:
        noise, tried = ranker.serving_noise(config, state.seed, moment.key, ids)
        shows = users.interest * openness(config, users.discovered, users.curiosity)
        return bias[ids] + noise, tried, shows, mind.recover(jnp, users.mind, moment.now_h - users.visited_h, MIND)

    record, tried, shows, recovered = worked_out(state.day >= 0, prepared)
    users = users._replace(mind=recovered)
    similarity = jnp.einsum("srd,sdc->src", users.profile, offer.vectors)
    blocked = seen(state.users, moment.place, ids)
    user_id = jnp.arange(ids.shape[0])[:, None] * state.users.satisfaction.shape[1] + moment.place
    held_out = assign(jnp, user_id, HOLDOUT_SALT) < config.heating.holdout
    protected = ~guards.may_explore(state.day, users.created_day, config.heating.protection_days, held_out)
    batch = Batch(users, moment.place, ids, similarity, record, blocked, tried, protected)

    question = ask(config, arm, state, view, batch, moment, user_id, held_out)
    if arm.elsewhere is None:
        picked = slate.build(jnp, size=config.sizes.slate, **question._asdict())
    else:
        picked = arm.elsewhere.decide(view, batch, moment, question)
    shown = look(config, state, offer, users, picked, moment)
    out = worked_out(state.day >= 0, lambda: react(config, state, users, shows, shown, user_id))
    if arm.elsewhere is not None:
        arm.elsewhere.tell(view, moment, picked, out)
    if arm.learn is not None:
        state = state._replace(arm=arm.learn(view, batch, lesson(moment, picked, out)))
    if arm.study is not None:
        state = state._replace(arm=arm.study(view, batch, shown, out))
    state, summed = remember(config, state, users, shown, out, moment)
    if state.trust is not None:
        state = suspicion.feed(state, evidence_of(config, state, shown, out, moment, user_id))

    # The ledger learns what was delivered; the guards learn what it did to click rates.
    regulator = state.regulator
    if arm.match is not None:
        delivered = jnp.round(Tally(*summed.T).heated).astype(jnp.int32)
        if state.trust is not None:
            state = state._replace(trust=suspicion.paid(state, delivered))
        regulator = regulator._replace(ledger=ledger.spend(jnp, regulator.ledger, delivered))
    # Sums over contents give those over requests: one product for all of them, and for those of new contents.
    everything = jnp.stack([jnp.ones(summed.shape[0]), view.age_days < 3]) @ summed
    total, new = Tally(*everything[0]), Tally(*everything[1])
    held_clicks = (out.clicked.sum(-1) * held_out).sum()
    held_impressions = config.sizes.slate * (moment.present & held_out).sum()
    regulator = regulator._replace(
        hour_impressions=regulator.hour_impressions + total.shown,
        hour_heated=regulator.hour_heated + total.heated,
        clicks=regulator.clicks + (total.clicked - held_clicks),
        impressions=regulator.impressions + (total.shown - held_impressions),
        held_clicks=regulator.held_clicks + held_clicks,
        held_impressions=regulator.held_impressions + held_impressions,
    )
    counts = measure.count(
        counts,
        moment.hour,
        impressions=total.shown,
        clicks=total.clicked,
        valid=total.valid,
        shares=total.shared,
        heated=total.heated,
        explored=total.explored,
        dwell_s=out.dwell_s.sum(),
        gmv=out.value.sum(),
        expected_gmv=(out.valid * jnp.minimum(shown.traits.buy, 1.0) * shown.traits.price).sum(),
        new_impressions=new.shown,
        new_clicks=new.clicked,
        requests=moment.present.sum(),
        protected_explored=(shown.explored & protected[..., None]).sum(),
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
    own = arm.scores(view, batch)
    if arm.explore is not None:
        probability, logits = arm.explore(view, batch._replace(scores=own))
        probability = jnp.where(batch.protected | ~moment.present, 0.0, probability * regulator.throttle)
        places = len(slate.explored_places(sizes.slate))
        u = hash_uniform(jnp, state.seed, WHETHER, moment.key, user_id[..., None], jnp.arange(places))
        u_which = hash_uniform(jnp, u[..., None] * 2.0**24, WHICH, ids[:, None, None, :])
        exploration = slate.Exploration(probability, logits, u, u_which)
    return slate.Question(ids, quantise(jnp, own), batch.blocked, grants, slots, exploration)


def look(
    config: WorldConfig, state: WorldState, offer: Offer, users: Users, picked: slate.Slate, moment: Moment
) -> Shown:
    """What stands in each place of the slates, and how much of it the user has lately had."""
    here = moment.present[..., None]
    forgotten = 2.0 ** (-(moment.now_h - users.visited_h) / config.response.satiation_half_life_h)
    recent = users.recent * forgotten[..., None]
    embedding = state.contents.embedding[picked.ids]
    *of, age_days, ring, generation, first, second, third = jnp.moveaxis(offer.facts[picked.ids], -1, 0)
    return Shown(
        ids=picked.ids,
        key=picked.ids + generation.astype(jnp.int32) * config.sizes.contents,
        traits=Traits(*of),
        ring=ring > 0,
        here=here,
        heated=(picked.kind == slate.HEATED) & here,
        explored=(picked.kind == slate.EXPLORED) & here,
        age_days=age_days,
        tags=jnp.stack([first, second, third], axis=-1).astype(jnp.int32),
        embedding=embedding,
        satiety=jnp.clip(jnp.einsum("srkd,srd->srk", embedding, recent), 0.0, 1.0),
        recent=recent,
    )


def react(config: WorldConfig, state: WorldState, users: Users, shows: Array, shown: Shown, user_id: Array) -> Outcome:
    """The users' responses, given the interests that show ``[S, R, T]``; nothing where there is no request."""
    flat = shown.tags.reshape(*shown.ids.shape[:2], -1)
    shows = jnp.take_along_axis(shows, flat, axis=-1, mode="promise_in_bounds").reshape(shown.tags.shape)
    # Three slices: a reduction of so short an axis is many times slower.
    interest = jnp.maximum(jnp.maximum(shows[..., 0], shows[..., 1]), shows[..., 2])
    log_rate = (
        shown.traits.appeal
        + jnp.log(interest + 1e-6)
        - config.response.position * jnp.arange(config.sizes.slate)
        - config.response.satiation * shown.satiety
    )
    ring = users.ring[..., None] & shown.ring
    out = respond(config, state.seed, user_id[..., None], shown.key, state.day, log_rate, shown.traits, ring)
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


def lesson(moment: Moment, picked: slate.Slate, out: Outcome) -> Lesson:
    """What a platform sees of the outcomes: not the rates that chance drew from."""
    return Lesson(
        moment.present, picked.ids, picked.kind, out.clicked, out.valid, out.shared, out.dwell_s, out.value
    )  # fmt: skip


def evidence_of(
    config: WorldConfig, state: WorldState, shown: Shown, out: Outcome, moment: Moment, user_id: Array
) -> Events:
    """A batch's slates as evidence of contents and users, flat; absent rows are nobody's."""
    here, shape = shown.here, shown.ids.shape
    events = Events(
        account=jnp.where(here, user_id[..., None], suspicion.account_count(config.sizes)),
        content=jnp.where(here, shown.ids, config.sizes.contents),
        creator=state.contents.creator[shown.ids],
        tag=shown.tags[..., 0],
        hour=24 * state.day + moment.hour,
        direct=jnp.zeros((), bool),
        shown=here,
        clicked=out.clicked,
        valid=out.valid,
        engaged=out.shared | (out.value > 0.0),
    )
    return Events(*(jnp.broadcast_to(x, shape).reshape(-1) for x in events))


def remember(
    config: WorldConfig, state: WorldState, users: Users, shown: Shown, out: Outcome, moment: Moment
) -> tuple[WorldState, Array]:
    """Write the outcomes into contents' counts and into the users' rows. Also returns the ``Tally`` ``[M, 10]``."""
    contents, ids, here = state.contents, shown.ids, shown.here
    clicked, valid, heated, day = out.clicked, out.valid, shown.heated, state.day
    ones = jnp.broadcast_to(here, ids.shape)
    flat_tags = shown.tags.reshape(*ids.shape[:2], -1)
    lately = jnp.take_along_axis(users.last_valid_day, flat_tags, axis=-1) > (day - OUTSIDE_DAYS).astype(jnp.int16)
    outside = (heated | shown.explored) & ~lately.reshape(shown.tags.shape).any(-1)
    flags = Tally(
        ones, clicked, valid, out.shared, heated, heated & clicked, heated & valid, shown.explored, outside,
        outside & valid,
    )  # fmt: skip
    width = len(Tally._fields)
    columns = jnp.stack(flags, axis=-1).astype(jnp.float32).reshape(-1, width)
    summed = jnp.zeros((config.sizes.contents, width), jnp.float32).at[ids.reshape(-1)].add(columns)
    of = Tally(*summed.T)
    # In the order of state.py's columns.
    added = (
        of.shown, of.clicked, of.valid, of.shared, of.heated, of.heated_clicked, of.heated_valid,
        of.shown - of.heated, of.shown, of.shown, of.clicked, of.clicked, of.outside, of.outside_valid,
    )  # fmt: skip
    contents = contents._replace(
        stats=contents.stats + jnp.stack(added, axis=-1),
        first3=contents.first3 + of.shown * (day - contents.born_day < 3),
    )

    clicks = clicked.sum(-1).astype(jnp.float32)
    # The profile moves towards the mean embedding of what was clicked; one product sums that and the whole slate.
    which = jnp.stack([jnp.ones(clicked.shape), clicked.astype(jnp.float32)], axis=2)
    total, liked = jnp.moveaxis(jnp.einsum("srjk,srkd->srjd", which, shown.embedding), 2, 0)
    rate = (config.ranker.learning * config.ranker.feedback * (clicks > 0))[..., None]
    towards = user.taste_step(users.profile, liked / jnp.maximum(clicks, 1.0)[..., None], rate)
    # One scatter for both: 1 where a tag was met, 2 where a valid view engaged it.
    row, place = jnp.arange(ids.shape[0])[:, None, None], jnp.arange(ids.shape[1])[None, :, None]
    what = jnp.repeat(1 + valid.astype(jnp.int8), 3, axis=-1)
    met = jnp.zeros(users.interest.shape, jnp.int8).at[row, place, flat_tags].max(what)
    today = day.astype(jnp.int16)
    # The last valid view of the slate joins the history.
    newest = jnp.take_along_axis(shown.key, (ids.shape[-1] - 1 - jnp.argmax(valid[..., ::-1], -1))[..., None], -1)
    history = jnp.concatenate([newest, users.history[..., :-1]], axis=-1)
    changed = users._replace(
        discovered=users.discovered + config.interest.discovery * (met == 2) * (1.0 - users.discovered),
        satisfaction=satisfaction_after(config, users.satisfaction, out, shown.satiety),
        recent=shown.recent + config.response.satiation_step * (total - config.sizes.slate * shown.recent),
        profile=users.profile + towards,
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
    return state._replace(users=write_back(state.users, changed, moment, ids), contents=contents), summed


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
