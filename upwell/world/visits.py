"""Direct visits: who comes to a content though no ranker sent them. Ordinary people, and those whom cheats pay.

Each content has one kind, drawn by hash: what it gets of visits, from whom, and what they do there. Honest kinds stand
beside the cheats that they look like: viral hits, a devoted small public, fans who all come at once, sleepy background
play. Fake accounts lie behind the users in numbering, and each belongs to whoever rents or runs it.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax.scipy.special import ndtri

from upwell.agents.xp import hash_uniform
from upwell.world.config import WorldConfig
from upwell.world.population import hourly_shares
from upwell.world.response import finished, traits
from upwell.world.state import TODAY, Array, WorldState

KIND, CREATOR_KIND, OWN_HOUR, STRAY, MANY, WHICH, PLACE, COVER, WATCHED, SHARED, BOT_AGE, OTHER, WHY = range(701, 714)

KINDS = (
    "plain", "viral", "niche", "fans", "sleepy", "bought_clicks", "farm", "ring", "slow_drip", "adaptive",
)  # fmt: skip
PLAIN, VIRAL, NICHE, FANS, SLEEPY, BOUGHT, FARM, RING, SLOW_DRIP, ADAPTIVE = range(len(KINDS))
LOOK_ALIKES = (VIRAL, NICHE, FANS, SLEEPY)
CUSTOMERS = 6
"""Creators of one farm or ring, in the mean."""
EVERYBODY = 1e9
"""A public so large that hardly anyone comes twice."""
CANDIDATES = 4
"""Whoever comes by themselves is the one of so many who likes the topic most."""


class Strategy(NamedTuple):
    """What a kind of content gets of direct visits beside those of ordinary people. f32 a kind, then ``[M]``."""

    per_day: Array  # times scale
    days: Array  # from birth
    burst: Array  # share of a day's visits that come in one hour
    watch: Array  # share watched; below 0: as honest people would
    engaged: Array  # of those watched, shared; below 0: as honest people would
    pool: Array  # accounts it is visited by
    cover: Array  # visits of these elsewhere, for one here
    night: Array  # share of visits that come at night


TABLE: dict[int, tuple[float, ...]] = {
    #            /day   days  burst watch engaged pool     cover night
    PLAIN:     (   0.0, 99.0, 0.00, -1.0, -1.00, EVERYBODY, 0.0, 0.0),
    VIRAL:     ( 400.0,  4.0, 0.10, -1.0, -1.00, EVERYBODY, 0.0, 0.0),
    NICHE:     (  15.0, 20.0, 0.00, -1.0, -1.00,      25.0, 0.0, 0.0),
    FANS:      ( 120.0,  1.0, 0.80, -1.0, -1.00,     300.0, 0.0, 0.0),
    SLEEPY:    (  30.0, 10.0, 0.00, 0.95,  0.00,      60.0, 0.0, 0.8),
    BOUGHT:    ( 100.0,  2.0, 0.50, 0.05,  0.00,     150.0, 0.0, 0.0),
    FARM:      (  60.0,  4.0, 0.00, 0.60,  0.02,      40.0, 1.0, 0.0),
    RING:      (  25.0,  6.0, 0.00, 0.85,  0.10,      12.0, 3.0, 0.0),
    SLOW_DRIP: (   8.0, 20.0, 0.00, 0.40,  0.02,      40.0, 1.0, 0.0),
    ADAPTIVE:  (   0.0,  0.0, 0.00, 0.00,  0.00,       0.0, 0.0, 0.0),
}  # fmt: skip


class Visits(NamedTuple):
    """An hour's direct visits, and those that their accounts make elsewhere as cover, ``[N]``."""

    here: Array  # bool, whether there is a visit at all
    direct: Array  # bool; the others are clicks in the feed, for cover
    account: Array  # i32
    content: Array  # i32
    valid: Array  # bool
    engaged: Array  # bool


def kinds(config: WorldConfig, state: WorldState) -> Array:
    """Each content's kind, i32 ``[M]``."""
    direct, contents, place = config.direct, state.contents, jnp.arange(config.sizes.contents, dtype=jnp.uint32)
    own = hash_uniform(jnp, state.seed, KIND, place, contents.generation)
    of_creator = hash_uniform(jnp, state.seed, CREATOR_KIND, contents.creator)

    def drawn(u: Array, shares: list[tuple[int, float]]) -> Array:
        ends = jnp.cumsum(jnp.stack([jnp.asarray(share, jnp.float32) for _, share in shares]))
        which = jnp.searchsorted(ends, u, side="right")
        return jnp.asarray([kind for kind, _ in shares] + [PLAIN])[which]

    theirs = drawn(
        of_creator, [(NICHE, direct.niche), (FANS, direct.fans), (FARM, direct.farm), (RING, direct.ring)]
    )  # fmt: skip
    good = contents.log_quality > config.content.quality_spread
    viral = jnp.where(good, jnp.minimum(direct.viral / 0.16, 1.0), 0.0)  # a sixth lies above one deviation
    its = drawn(
        own,
        [
            (SLEEPY, direct.sleepy), (BOUGHT, direct.bought), (SLOW_DRIP, direct.slow_drip),
            (ADAPTIVE, direct.adaptive),
        ],
    )  # fmt: skip
    its = jnp.where((its == PLAIN) & (1.0 - own < viral), VIRAL, its)
    return jnp.where(theirs == PLAIN, its, theirs)


def cheating(kind: Array) -> Array:
    """Whether a kind is a cheat's, bool."""
    return kind >= BOUGHT


def strays(config: WorldConfig, state: WorldState) -> Array:
    """How far each content's own strategy strays, were it adaptive: standard normals ``[M, 6]``."""
    place = jnp.arange(config.sizes.contents, dtype=jnp.uint32)[:, None]
    return ndtri(hash_uniform(jnp, state.seed, STRAY, place, state.contents.generation[:, None], jnp.arange(6)))


def strategies(config: WorldConfig, state: WorldState, kind: Array) -> Strategy:
    """What each content does, ``[M]``."""
    direct = config.direct
    table = Strategy(*(jnp.asarray(column)[kind] for column in zip(*TABLE.values(), strict=True)))
    bots, skill = cheating(kind), direct.skill
    paid = table._replace(
        per_day=table.per_day * direct.budget,
        burst=table.burst * (1.0 - skill),
        watch=table.watch + skill * (jnp.maximum(table.watch, 0.6) - table.watch),
        engaged=table.engaged + skill * (jnp.maximum(table.engaged, 0.1) - table.engaged),
        cover=table.cover + 3.0 * skill,
    )
    factor = jnp.exp(direct.spread_adaptive * strays(config, state))
    odds = jnp.clip(jnp.stack([jnp.float32(direct.watch_adaptive), jnp.float32(direct.engaged_adaptive)]), 1e-4, 0.9999)
    odds = factor[:, 4:6] * odds / (1.0 - odds)
    adapted = Strategy(
        per_day=direct.per_day_adaptive * direct.budget * factor[:, 0],
        days=jnp.maximum(direct.days_adaptive * factor[:, 1], 1.0),
        burst=jnp.zeros(kind.shape),
        watch=odds[:, 0] / (1.0 + odds[:, 0]),
        engaged=odds[:, 1] / (1.0 + odds[:, 1]),
        pool=jnp.maximum(direct.pool_adaptive * factor[:, 3], 1.0),
        cover=direct.cover_adaptive * factor[:, 2],
        night=jnp.zeros(kind.shape),
    )
    age = (state.day - state.contents.born_day).astype(jnp.float32)
    of = Strategy(
        *(jnp.where(kind == ADAPTIVE, a, jnp.where(bots, p, t)) for a, p, t in zip(adapted, paid, table, strict=True))
    )
    return of._replace(per_day=of.per_day * (age < of.days))


def visits(config: WorldConfig, state: WorldState, hour: Array) -> Visits:
    """The direct visits of the hour that begins, and their cover."""
    sizes, contents, seed = config.sizes, state.contents, state.seed
    kind = kinds(config, state)
    of = strategies(config, state, kind)
    place = jnp.arange(sizes.contents, dtype=jnp.uint32)
    own_hour = jnp.floor(24.0 * hash_uniform(jnp, seed, OWN_HOUR, place, contents.generation)).astype(jnp.int32)
    rhythm = hourly_shares(config)[hour]
    flat = jnp.where(cheating(kind) & (kind != ADAPTIVE), (1.0 - config.direct.skill), 0.0)
    rhythm = (1.0 - flat) * rhythm + flat / 24.0
    rhythm = (1.0 - of.night) * rhythm + of.night * (hour < 6) / 6.0
    its_own = of.per_day * state.scale * ((1.0 - of.burst) * rhythm + of.burst * (own_hour == hour))
    age = (state.day - contents.born_day).astype(jnp.float32)
    ordinary = config.direct.per_day * jnp.exp(-age / config.direct.fade_days) * state.scale
    ordinary = ordinary * hourly_shares(config)[hour]
    each = ordinary + its_own * (1.0 + of.cover)
    key = state.day * 32 + hour
    slot = jnp.arange(sizes.visits, dtype=jnp.uint32)

    def draw(stream: int) -> Array:
        return hash_uniform(jnp, seed, stream, key, slot)

    ends = jnp.cumsum(each)
    many = jnp.floor(ends[-1] + hash_uniform(jnp, seed, MANY, key))
    target = jnp.minimum(jnp.searchsorted(ends, draw(WHICH) * ends[-1]), sizes.contents - 1).astype(jnp.int32)
    usual = draw(WHY) * each[target] < ordinary[target]
    cover = ~usual & (draw(COVER) < (of.cover / (1.0 + of.cover))[target])
    popular = jnp.cumsum(contents.stats[:, TODAY] + 1.0)
    elsewhere = jnp.minimum(jnp.searchsorted(popular, draw(OTHER) * popular[-1]), sizes.contents - 1)
    content = jnp.where(cover, elsewhere.astype(jnp.int32), target)
    made = traits(
        config, contents.log_quality, contents.clickbait, state.day - contents.born_day, contents.duration_s,
        contents.price,
    )  # fmt: skip
    honest_watch, honest_engaged = finished(made), jnp.minimum(made.share + made.buy, 1.0)
    watch = jnp.where(usual | (of.watch[target] < 0.0), honest_watch[target], of.watch[target])
    engaged = jnp.where(usual | (of.engaged[target] < 0.0), honest_engaged[target], of.engaged[target])
    # Elsewhere a bot is no customer: it watches as much as it does for those who pay, or as people do, if less.
    watch = jnp.where(cover, jnp.minimum(watch, honest_watch[content]), watch)
    valid = draw(WATCHED) < watch
    return Visits(
        here=slot < many,
        direct=~cover,
        account=accounts(
            config,
            state,
            jnp.where(usual, PLAIN, kind[target]),
            jnp.where(usual, EVERYBODY, of.pool[target]),
            target,
            slot,
            key,
        ),
        content=content,
        valid=valid,
        engaged=valid & (draw(SHARED) < engaged),
    )


def accounts(
    config: WorldConfig, state: WorldState, kind: Array, pool: Array, target: Array, slot: Array, key: Array
) -> Array:
    """Who makes each visit, i32 ``[N]``: of the pool of the content, of its creator, or of its creator's farm or ring.

    Args:
        kind, pool: of each visit: what it is for, and how many accounts there are for that.
        target: the content that they come for.
    """
    users, bots = state.users.satisfaction.size, max(config.sizes.bots, 1)
    creator = state.contents.creator[target]
    generation = state.contents.generation[target]
    direct, groups = config.direct, config.sizes.creators / CUSTOMERS

    def group(share: float) -> Array:
        count = jnp.maximum(jnp.round(share * groups), 1.0)
        return jnp.floor(hash_uniform(jnp, state.seed, CREATOR_KIND, OTHER, creator) * count).astype(jnp.int32)

    own = target + generation * config.sizes.contents
    owner = jnp.select(
        [(kind == NICHE) | (kind == FANS), kind == FARM, kind == RING],
        [creator, group(direct.farm), group(direct.ring)],
        own,
    )
    within = jnp.floor(hash_uniform(jnp, state.seed, PLACE, key, slot) * jnp.minimum(pool, 16_777_216.0))
    within = within.astype(jnp.int32)
    crowd = pool >= EVERYBODY
    # A crowd has no memory: another one each time.
    tries = jnp.arange(CANDIDATES)
    u = hash_uniform(
        jnp, state.seed, PLACE, kind[:, None], owner[:, None], jnp.where(crowd, key * 8_192 + slot, within)[:, None],
        tries,
    )  # fmt: skip
    people = jnp.floor(u * users).astype(jnp.int32)
    tag = state.contents.tags[target, 0]
    likes = state.users.interest.reshape(users, -1)[people, tag[:, None]]
    person = jnp.take_along_axis(people, jnp.argmax(likes, axis=1)[:, None], axis=1)[:, 0]
    # Rings, farms and those who sell single clicks have accounts of their own: a third of the bots each.
    third = jnp.select([kind == FARM, kind == RING], [1, 2], 0)
    bot = users + (third * bots + jnp.floor(u[:, 0] * bots).astype(jnp.int32)) // 3
    return jnp.where(cheating(kind), bot, person).astype(jnp.int32)


def bot_age_days(config: WorldConfig, state: WorldState) -> Array:
    """Age of each bot's account, f32 ``[bots]``: who is skilled uses older ones."""
    u = hash_uniform(jnp, state.seed, BOT_AGE, jnp.arange(config.sizes.bots))
    return state.day - jnp.log(u) * (10.0 + 300.0 * config.direct.skill)
