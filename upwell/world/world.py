"""The simulated platform: ``reset`` makes a healthy one, ``run_day`` lives one day under an arm.

A day is a loop over ticks. Each tick serves a batch of ``[S, R]`` requests: the next ``R`` of each segment's queue.
With the usual traffic there are 144 ticks of equal traffic, ten minutes each on average: the clock runs faster at
night, when little happens (``population.clock_h``). More traffic makes more ticks. ``start_day``, ``run_until`` and
``finish_day`` are the same day in pieces, for those who act within it (``envs``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from upwell.regulator import guards, ledger, tick
from upwell.regulator.tick import RegulatorState
from upwell.regulator.trust import judge
from upwell.world import catalogue, measure, population, ranker, suspicion
from upwell.world.arm import RAW, Arm, pool_today, view_of
from upwell.world.config import Sizes, WorldConfig
from upwell.world.serve import FACTS, Moment, Offer, Told, facts, serve
from upwell.world.state import CLICKS, IMPRESSIONS, Array, WorldState


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
        trust=suspicion.opened(config, judge.shipped()) if config.sizes.visits else None,
    )
    # Each leaf its own buffer: ``run_day`` takes the state's memory over.
    return jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), state)


def under(config: WorldConfig, arm: Arm, state: WorldState, tuned: Any = None) -> WorldState:
    """The platform as ``arm`` takes it over: with the arm's own pytree before its first morning.

    ``start_day`` does it where it was not done; done before, the first day needs no program of its own.

    Args:
        tuned: values in place of the arm's own ``tuned``.
    """
    if arm.begin is None:
        return state
    own = arm.begin(config, jax.tree.map(jnp.float32, arm.tuned if tuned is None else tuned))
    # Each leaf its own buffer, as above, and of a fixed type, so that no second day compiles anew.
    return state._replace(arm=jax.tree.map(lambda leaf: jnp.array(leaf, dtype=leaf.dtype, copy=True), own))


class Day(NamedTuple):
    """A day under way: what a tick hands to the next."""

    state: WorldState
    counts: measure.DayCounts
    offer: Offer
    gone: Array  # f32 [25], share of the traffic gone at each full hour
    hour: Array
    tick: Array  # i32, ticks gone
    ticks: Array  # i32, ticks of this day
    active: Array  # bool [S, U]
    queue: Array  # i32 [S, Q], users in order of their requests
    length: Array  # i32 [S], requests in each row of the queue


def today(config: WorldConfig, day: Array) -> WorldConfig:
    """The day's configuration: in the healthy first days the ranker does not learn."""
    learns = config.ranker.feedback * (day >= config.ranker.learns_from_day)
    return replace(config, ranker=replace(config.ranker, feedback=learns))


def start_day(config: WorldConfig, arm: Arm, state: WorldState) -> Day:
    """Morning: contents die and are born, budgets and the pool are filled, today's users queue up."""
    if state.arm is None:
        state = under(config, arm, state)
    sizes, seed, day = config.sizes, state.seed, state.day
    before = state.contents.generation
    contents = catalogue.start_of_day(config, seed, day, state.scale, state.tag_vectors, state.contents)
    state = state._replace(contents=contents)
    state = state._replace(regulator=at_morning(config, state, contents.generation != before))
    if state.trust is not None:
        state = state._replace(trust=suspicion.at_morning(config, state, contents.generation != before))
    if arm.morning is not None:
        state = state._replace(arm=arm.morning(view_of(config, state, (day * 4096).astype(jnp.uint32))))
    active = population.active_today(config, seed, day, state.users)
    queue, length = population.visit_queue(config, seed, day, state.users, active)
    count = min(sizes.candidates, sizes.contents)
    return Day(
        state=state,
        counts=measure.no_counts(),
        offer=Offer(
            ids=jnp.zeros((queue.shape[0], count), jnp.int32),
            vectors=jnp.zeros((queue.shape[0], sizes.dims, count)),
            bias=jnp.zeros(sizes.contents),
            facts=jnp.zeros((sizes.contents, FACTS)),
        ),
        gone=population.gone_by_hour(config),
        hour=jnp.int32(-1),
        tick=jnp.int32(0),
        ticks=jnp.maximum(jnp.ceil(length.max() / batch_size(sizes)).astype(jnp.int32), 1),
        active=active,
        queue=queue,
        length=length,
    )


def at_morning(config: WorldConfig, state: WorldState, born: Array, budgets: Array | float = 1.0) -> RegulatorState:
    """The regulator of a new day: accounts of contents ``born`` are opened, the pool is full.

    ``budgets``: of contents' coins, the share that is in these books: scalar, or f32 ``[M]``.
    """
    contents = state.contents
    books = ledger.reopen(jnp, state.regulator.ledger, born, config.heating.budget * budgets)
    # Contents that earn clicks earn budget: 50 coins a day while CTR is above 3%.
    earning = (
        (contents.stats[:, IMPRESSIONS] >= 50.0 * state.scale)
        & (contents.stats[:, CLICKS] > 0.03 * contents.stats[:, IMPRESSIONS])
        & (state.day - contents.born_day < 7)
    )
    books = ledger.earn(jnp, books, earning, 50.0 * budgets)
    return state.regulator._replace(ledger=ledger.refill(jnp, books, pool_today(config, state)))


def run_until(config: WorldConfig, arm: Arm, day: Day, until_h: Array) -> Day:
    """Live the day up to the clock hour ``until_h`` (24: all of it)."""
    config = today(config, day.state.day)

    def coming(day: Day) -> Array:
        return (day.tick < day.ticks) & (now_h(day) < until_h)

    def one(day: Day) -> Day:
        moment = next_tick(config, day)
        state, counts, _ = serve(config, arm, day.state, day.counts, day.offer, moment)
        return day._replace(state=state, counts=counts, tick=day.tick + 1)

    # An hour's ticks are a loop of their own: what they are served from then stays in its place.
    def hour_long(day: Day) -> Day:
        return lax.while_loop(lambda d: coming(d) & (hour_of(d) == d.hour), one, at_its_hour(config, arm, day))

    return lax.while_loop(coming, hour_long, day)


def now_h(day: Day) -> Array:
    """Clock time of the tick that comes."""
    return population.at_clock(day.gone, day.tick / day.ticks)


def hour_of(day: Day) -> Array:
    """Clock hour of the tick that comes."""
    return now_h(day).astype(jnp.int32)


def at_its_hour(config: WorldConfig, arm: Arm, day: Day) -> Day:
    """The day with the candidates of the coming tick's hour: where a new hour begins with it, new ones."""
    hour = hour_of(day)
    return lax.cond(hour != day.hour, lambda d: new_hour(config, arm, d, hour), lambda d: d, day)


def next_tick(config: WorldConfig, day: Day) -> Moment:
    """Who asks in the tick that comes."""
    size = batch_size(config.sizes)
    first = (day.length * day.tick) // day.ticks
    last = (day.length * (day.tick + 1)) // day.ticks
    at = first[:, None] + jnp.arange(size)
    place = jnp.take_along_axis(day.queue, jnp.minimum(at, day.queue.shape[1] - 1), axis=1)
    present = at < last[:, None]
    # Nobody is served twice in a batch: of two requests that fall together the later is lost.
    cells, order = jnp.arange(day.queue.shape[0])[:, None], jnp.broadcast_to(jnp.arange(size), at.shape)
    earliest = jnp.full(day.active.shape, size).at[cells, place].min(jnp.where(present, order, size))
    return Moment(
        place=place,
        present=present & (earliest[cells, place] == order),
        key=(day.state.day * 4096 + day.tick).astype(jnp.uint32),
        hour=hour_of(day),
        now_h=24.0 * day.state.day + now_h(day),
        elapsed=day.tick / day.ticks,
    )


def one_tick(config: WorldConfig, arm: Arm, day: Day) -> tuple[Day, Told]:
    """Live the tick that comes, by itself. Returns also how its slates came about."""
    config = today(config, day.state.day)
    day = at_its_hour(config, arm, day)
    state, counts, told = serve(config, arm, day.state, day.counts, day.offer, next_tick(config, day))
    return day._replace(state=state, counts=counts, tick=day.tick + 1), told


def new_hour(config: WorldConfig, arm: Arm, day: Day, hour: Array) -> Day:
    """A new hour: candidates are retrieved anew, the cap's window opens, the throttle takes a step."""
    offer = offer_at(config, arm, day.state, hour, day.offer)
    state = day.state._replace(regulator=at_hour(config, day.state.regulator))
    return day._replace(state=begun(config, state, hour), offer=offer, hour=hour)


def offer_at(config: WorldConfig, arm: Arm, state: WorldState, hour: Array, before: Offer) -> Offer:
    """What the requests of an hour are served from."""
    view = view_of(config, state, (state.day * 32 + hour).astype(jnp.uint32))
    if arm.bias is None:
        # The ranker is trained at night: its picture of the contents is this morning's all day.
        own = ranker.popularity(config, state.scale, state.platform_ctr, state.day, state.contents)
        bias = jnp.where(hour == 0, own, before.bias)
    else:
        bias = arm.bias(view)
    score = (
        ranker.segment_scores(config, bias, state.users, state.contents)
        if arm.retrieval is None
        else arm.retrieval(view)
    )
    ids = ranker.retrieve(config, state.seed, view.tick_key, score, view.age_days)
    return Offer(ids, state.contents.embedding[ids].swapaxes(1, 2), bias, facts(config, state))


def at_hour(config: WorldConfig, r: RegulatorState) -> RegulatorState:
    """The cap's window opens, the throttle takes a step."""
    fade = 2.0 ** (-1.0 / 48.0)
    return r._replace(
        hour_impressions=jnp.zeros(()),
        hour_heated=jnp.zeros(()),
        clicks=r.clicks * fade,
        impressions=r.impressions * fade,
        held_clicks=r.held_clicks * fade,
        held_impressions=r.held_impressions * fade,
        throttle=guards.throttle(
            jnp, r.throttle, r.clicks, r.impressions, r.held_clicks, r.held_impressions, config.heating.ctr_loss
        ),
    )


def begun(config: WorldConfig, state: WorldState, hour: Array) -> WorldState:
    """The platform as an hour begins: the window of repeats opens where it is due, direct visits come."""
    opens = (24 * state.day + hour) % jnp.maximum(config.ranker.no_repeat_h, 1.0).astype(jnp.int32) == 0
    users = state.users._replace(seen=jnp.where(opens, jnp.uint32(0), state.users.seen))
    state = state._replace(users=users)
    return state if state.trust is None else suspicion.hourly(config, state, hour)


def finish_day(config: WorldConfig, day: Day) -> tuple[WorldState, dict[str, Array]]:
    """Night: creators give up, interests fade, users leave. Returns the next morning and the day's report."""
    state, counts = day.state, day.counts
    contents, left = catalogue.creators_who_leave(config, state.seed, state.day, state.scale, state.contents)
    state = state._replace(contents=contents)
    report = measure.day_report(config, state, day.active, counts, left)
    if state.trust is not None:
        report |= suspicion.report(config, state)
        state = state._replace(trust=suspicion.at_night(config, state))
    rate = counts.clicks / jnp.maximum(counts.impressions, 1.0)
    return state._replace(
        day=state.day + 1,
        dau=day.active.sum().astype(jnp.float32),
        users=population.end_of_day(config, state.seed, state.day, state.persona, state.users, day.active),
        platform_ctr=0.7 * state.platform_ctr + 0.3 * jnp.maximum(rate, 1e-4),
    ), report


@partial(jax.jit, static_argnames="arm", donate_argnames="state")
def run_day(config: WorldConfig, arm: Arm, state: WorldState) -> tuple[WorldState, dict[str, Any]]:
    """Live one day under ``arm``. Returns the next morning's state and the day's report (see ``measure``)."""
    return finish_day(config, run_until(config, arm, start_day(config, arm, state), jnp.float32(24.0)))


def burnt_in(config: WorldConfig, seed: int, days: int, step: Callable[[], None] = lambda: None) -> WorldState:
    """A platform after ``days`` of raw ranking from its healthy start; ``scale`` is frozen on the last week."""
    state, shown = reset(config, seed), list[float]()
    for _ in range(days):
        state, report = run_day(config, RAW, state)
        shown.append(float(report["impressions"]))
        step()
    if days:
        opened = tick.opened(jnp, config.sizes.contents, float(config.heating.budget))
        scale = jnp.float32(np.mean(shown[-7:]) / config.sizes.contents / 500.0)
        # Each leaf its own buffer: ``run_day`` takes the state's memory over.
        state = state._replace(scale=scale, regulator=jax.tree.map(jnp.copy, opened))
    return state


def to_host(report: dict[str, Any]) -> dict[str, np.ndarray]:
    """A day's report as NumPy arrays."""
    return {key: np.asarray(value) for key, value in report.items()}
