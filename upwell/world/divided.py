"""Several arms on one simulated platform, as an experiment divides it.

Users, contents and the ranker are shared, as on any platform; each arm serves its own users. What else it has to itself
is the design's: in a user split nothing, so that the arms compete for one pool of heated impressions and for what
contents ask; in a budget split its part of the pool and of each content's account; co-diverted its own contents, too.
In a switchback it has everything, for a while. Each arm is told only what came of its own slates.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from upwell.agents.xp import Namespace
from upwell.regulator import layers
from upwell.regulator.assignment import Table
from upwell.regulator.designs import parts, washes_out
from upwell.regulator.layers import Design, Experiment, Layer
from upwell.regulator.tick import RegulatorState, Requests
from upwell.world import catalogue, measure, population, ranker, world
from upwell.world.arm import Arm, Batch, View, view_of
from upwell.world.config import WorldConfig
from upwell.world.serve import Offer, serve
from upwell.world.state import HEATED, Array, WorldState

OUT_OF_REACH = -1.0e4
"""Logit of a content that belongs to the other arm's users."""
LONG_AGO = -10_000
FIRST_CONTENT = 1 << 30
"""Numbers of contents, beyond those of users."""


class Split(NamedTuple):
    """A platform in parts, by one of the designs of ``regulator.layers``."""

    design: Design
    slot_s: int = 0  # of a switchback
    washout_s: int = 0
    shares: tuple[float, ...] = (0.5, 0.5)  # of the arms

    @property
    def experiment(self) -> Experiment:
        arms = tuple(layers.Arm(name=f"arm {k}", share=share, room=share) for k, share in enumerate(self.shares))
        return Experiment(
            name="divided", arms=arms, design=self.design, slot_s=self.slot_s, washout_s=self.washout_s
        )  # fmt: skip

    @property
    def splits_money(self) -> bool:
        """Whether each arm keeps its own books."""
        return self.design in ("budget_split", "co_diverted")

    def part(self, k: int) -> float:
        """Of a content's account and chance, what arm ``k`` has of the contents that its users may be shown."""
        return self.shares[k] if self.design == "budget_split" else 1.0


class Lane(NamedTuple):
    """What an arm has to itself."""

    regulator: RegulatorState
    own: Any  # the arm's pytree
    heated: Array  # f32 [M], heated impressions of each content to this arm's users
    offer: Offer
    counts: measure.DayCounts


class Divided(NamedTuple):
    """A platform under an experiment."""

    state: WorldState  # its ``regulator`` and ``arm`` are nobody's
    lanes: tuple[Lane, ...]  # one an arm


def dealt(xp: Namespace, split: Split, ids: Array, at_s: Array | int = 0) -> Array:
    """Arms of ids at times, i8 of their shape: as the service deals them, with nobody held out."""
    table = Table(Layer(name="world", experiments=(split.experiment,)), 0.0)
    clusters = (ids, ids) if split.design == "co_diverted" else None
    return table.arms_of(xp, ids, at_s, clusters).astype(xp.int8)


def opened(config: WorldConfig, split: Split, arms: tuple[Arm, ...], state: WorldState) -> Divided:
    """The experiment's first morning, on a platform as it is. ``state`` is left untouched."""
    books = state.regulator.ledger
    nothing = jnp.zeros(state.contents.stats.shape[0])
    lanes = list[Lane]()
    for k, arm in enumerate(arms):
        under = world.under(config, arm, state)
        budget = jnp.floor(books.budget * split.part(k)).astype(jnp.int32) * own_contents(split, state, k)
        regulator = state.regulator._replace(ledger=books._replace(budget=budget))
        lanes.append(Lane(regulator, under.arm, nothing, unopened(), measure.no_counts()))
    return jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), Divided(state._replace(arm=None), tuple(lanes)))


def unopened() -> Offer:
    """Before the first hour of a day."""
    return Offer(*(jnp.zeros(0),) * len(Offer._fields))


def own_contents(split: Split, state: WorldState, k: int) -> Array:
    """Contents that arm ``k``'s users may be shown, bool ``[M]``."""
    place = jnp.arange(state.contents.generation.shape[0])
    if split.design != "co_diverted":
        return place >= 0
    return dealt(jnp, split, numbers(state)) == k


def numbers(state: WorldState) -> Array:
    """Of contents, i32 ``[M]``, beyond those of users: the next one in a place has another."""
    places = len(state.contents.generation)
    return FIRST_CONTENT + jnp.arange(places) + state.contents.generation * places


def its_own(config: WorldConfig, split: Split, state: WorldState, k: int) -> WorldConfig:
    """The platform as arm ``k`` sees it, which has its share of the money."""
    if not split.splits_money:
        return config
    # What contents ask for shrinks with their accounts. A chance is given by all arms together, in whole impressions.
    heating, chance = config.heating, config.heating.chance
    if split.design == "budget_split":
        whole = jnp.ceil(chance * state.scale).astype(jnp.int32)
        ids = numbers(state)
        mine = parts(jnp, split.experiment, jnp.broadcast_to(whole, ids.shape), ids)[..., k]
        chance = (mine - 0.5) / state.scale  # between whole numbers: times the scale it is rounded up to ``mine``
    return replace(config, heating=replace(heating, pool=split.shares[k] * heating.pool, chance=chance))


def kept_to(arm: Arm, mine: Array) -> Arm:
    """The arm with no other contents than ``mine`` (bool ``[M]``)."""

    def scores(view: View, batch: Batch) -> Array:
        return jnp.where(mine[batch.ids][:, None, :], arm.scores(view, batch), OUT_OF_REACH)

    def requests(view: View) -> Requests:
        assert arm.requests is not None
        asked = arm.requests(view)
        return asked._replace(impressions=jnp.where(mine, asked.impressions, 0))

    def heat(view: View, batch: Batch, grants: Array) -> Array:
        assert arm.heat is not None
        return jnp.where(mine[grants][:, None, :], arm.heat(view, batch, grants), -jnp.inf)

    def explore(view: View, batch: Batch) -> tuple[Array, Array]:
        assert arm.explore is not None
        chance, logits = arm.explore(view, batch)
        return chance, jnp.where(mine[batch.ids][:, None, :], logits, OUT_OF_REACH)

    def retrieval(view: View) -> Array:
        if arm.retrieval is not None:
            score = arm.retrieval(view)
        else:
            record = ranker.popularity(view.config, view.scale, view.platform_ctr, view.day, view.contents)
            bias = record if arm.bias is None else arm.bias(view)
            score = ranker.segment_scores(view.config, bias, view.users, view.contents)
        return jnp.where(mine, score, score.min() + OUT_OF_REACH)

    return arm._replace(
        scores=scores,
        requests=arm.requests and requests,
        heat=arm.heat and heat,
        explore=arm.explore and explore,
        retrieval=retrieval,
    )


@partial(jax.jit, static_argnames=("split", "arms"), donate_argnames="divided")
def run_day(
    config: WorldConfig, split: Split, arms: tuple[Arm, ...], divided: Divided, given: Array | None = None
) -> tuple[Divided, tuple[dict[str, Array], ...]]:
    """One day of the experiment.

    Args:
        given: each user's arm today, i8 ``[S, U]``, where somebody else deals them, such as the live service.

    Returns:
        the next morning, and a report an arm: of its users, and co-diverted of its contents (``measure.day_report``).
    """
    state, lanes = divided
    before = state.contents.generation
    day = world.start_day(config, world.RAW, state)
    born = day.state.contents.generation != before
    theirs = [its_own(config, split, day.state, k) for k in range(len(arms))]
    mine = [own_contents(split, day.state, k) for k in range(len(arms))]
    players = [kept_to(arm, own) if split.design == "co_diverted" else arm for arm, own in zip(arms, mine, strict=True)]
    first = day.state._replace(regulator=lanes[0].regulator)
    shared = world.at_morning(config, first, born)
    awake = list[Lane]()
    for k, (lane, arm, own) in enumerate(zip(lanes, players, mine, strict=True)):
        regulator = shared
        if split.splits_money:
            its = day.state._replace(regulator=lane.regulator)
            regulator = world.at_morning(theirs[k], its, born, split.part(k) * own)
        heated = jnp.where(born, 0.0, lane.heated)
        seen = as_seen(split, day.state, lane._replace(regulator=regulator, heated=heated))
        if arm.morning is not None:
            key = (day.state.day * 4096).astype(jnp.uint32)
            seen = seen._replace(arm=arm.morning(view_of(theirs[k], seen, key)))
        awake.append(Lane(regulator, seen.arm, heated, day.offer, measure.no_counts()))

    learning = world.today(config, day.state.day)
    its_learning = [world.today(own, day.state.day) for own in theirs]

    def tick(carry: tuple[world.Day, tuple[Lane, ...]]) -> tuple[world.Day, tuple[Lane, ...]]:
        day, lanes = carry
        moment = world.next_tick(learning, day)
        at_s = (moment.now_h * 3_600.0).astype(jnp.uint32)
        cells, counted = jnp.arange(moment.place.shape[0])[:, None], ~washes_out(split.experiment, at_s)
        if given is not None:
            whose = given[cells, moment.place]
        else:
            whose = dealt(jnp, split, cells * day.active.shape[1] + moment.place, at_s)
        state, after = day.state, list[Lane]()
        for k, (own, arm) in enumerate(zip(lanes, players, strict=True)):
            # One pool, one account a content: what the arms before spent the next has no more.
            lane = own if split.splits_money or k == 0 else own._replace(regulator=after[-1].regulator)
            here = moment._replace(present=moment.present & (whose == k))
            seen = as_seen(split, state, lane)
            came, counts, _ = serve(its_learning[k], arm, seen, lane.counts, lane.offer, here)
            if split.design == "switchback":  # whose turn it is not asks for nothing
                came = jax.tree.map(partial(jnp.where, whose[0, 0] == k), came, seen)
            delivered = came.contents.stats[:, HEATED] - seen.contents.stats[:, HEATED]
            stats = came.contents.stats.at[:, HEATED].set(state.contents.stats[:, HEATED] + delivered)
            counts = jax.tree.map(lambda new, old: jnp.where(counted, new, old), counts, lane.counts)
            after.append(Lane(came.regulator, came.arm, lane.heated + delivered, lane.offer, counts))
            state = came._replace(
                contents=came.contents._replace(stats=stats), regulator=state.regulator, arm=state.arm
            )
        if not split.splits_money:
            after = [lane._replace(regulator=after[-1].regulator) for lane in after]
        return day._replace(state=state, tick=day.tick + 1), tuple(after)

    def at_its_hour(carry: tuple[world.Day, tuple[Lane, ...]]) -> tuple[world.Day, tuple[Lane, ...]]:
        day, lanes = carry
        hour = world.hour_of(day)
        turned = list[Lane]()
        for lane, arm, its in zip(lanes, players, its_learning, strict=True):
            offer = world.offer_at(its, arm, as_seen(split, day.state, lane), hour, lane.offer)
            turned.append(lane._replace(regulator=world.at_hour(its, lane.regulator), offer=offer))
        return day._replace(state=world.begun(learning, day.state, hour), hour=hour), tuple(turned)

    def step(carry: tuple[world.Day, tuple[Lane, ...]]) -> tuple[world.Day, tuple[Lane, ...]]:
        day, _ = carry
        return tick(lax.cond(world.hour_of(day) != day.hour, at_its_hour, lambda c: c, carry))

    day, lived = lax.while_loop(lambda c: c[0].tick < c[0].ticks, step, (day, tuple(awake)))
    return night(config, split, day, lived, mine, given)


def as_seen(split: Split, state: WorldState, lane: Lane) -> WorldState:
    """The platform as an arm sees it: with its own books, and what it heated itself where money is split."""
    contents = state.contents
    if split.splits_money:
        contents = contents._replace(stats=contents.stats.at[:, HEATED].set(lane.heated))
    return state._replace(contents=contents, regulator=lane.regulator, arm=lane.own)


def night(
    config: WorldConfig, split: Split, day: world.Day, lanes: tuple[Lane, ...], mine: list[Array], given: Array | None
) -> tuple[Divided, tuple[dict[str, Array], ...]]:
    """As ``world.finish_day``, with a report of each arm's own users (of a switchback: everybody's)."""
    state = day.state
    contents, left = catalogue.creators_who_leave(config, state.seed, state.day, state.scale, state.contents)
    state = state._replace(contents=contents)
    user = jnp.arange(day.active.size).reshape(day.active.shape)
    everybody = jnp.ones(day.active.shape, bool)
    whose = dealt(jnp, split, user) if given is None else given
    reports = list[dict[str, Array]]()
    for k, (lane, own) in enumerate(zip(lanes, mine, strict=True)):
        its = everybody if split.design == "switchback" else whose == k
        users = state.users._replace(active_bits=jnp.where(its, state.users.active_bits, jnp.uint32(0)))
        # What is not an arm's own is too old to be in any figure of new contents.
        born = jnp.where(own, contents.born_day, LONG_AGO)
        told = state._replace(users=users, contents=contents._replace(born_day=born), regulator=lane.regulator)
        reports.append(measure.day_report(config, told, day.active & its, lane.counts, left))
    clicks, impressions = (sum(getattr(lane.counts, name) for lane in lanes) for name in ("clicks", "impressions"))
    rate = clicks / jnp.maximum(impressions, 1.0)
    state = state._replace(
        day=state.day + 1,
        dau=day.active.sum().astype(jnp.float32),
        users=population.end_of_day(config, state.seed, state.day, state.persona, state.users, day.active),
        platform_ctr=0.7 * state.platform_ctr + 0.3 * jnp.maximum(rate, 1e-4),
    )
    return Divided(state, tuple(lane._replace(offer=unopened()) for lane in lanes)), tuple(reports)
