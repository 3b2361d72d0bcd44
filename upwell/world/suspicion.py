"""Trust on the simulated platform: direct visits are counted and judged hour by hour, rings are sought at night."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse

from upwell.regulator.ledger import COIN
from upwell.regulator.trust import evidence, judge, rings
from upwell.regulator.trust.evidence import AccountEvidence, ContentEvidence, Events
from upwell.regulator.trust.judge import FROZEN, NARROWED, TRUSTED, ZEROED, Heads, Standing
from upwell.world import visits
from upwell.world.config import Sizes, WorldConfig
from upwell.world.population import users_per_cell
from upwell.world.state import (
    CLICKS,
    CLICKS_TODAY,
    IMPRESSIONS,
    RECENT_CLICKS,
    RECENT_IMPRESSIONS,
    STATS,
    TODAY,
    VALID,
    Array,
    WorldState,
)

SEEN_A_CLICK = 2.0
"""Impressions that a direct visit counts for: as those of bots who click what they are shown half of the time."""


class Suspicion(NamedTuple):
    """What is known of who cheats, and what came of it."""

    heads: Heads
    contents: ContentEvidence
    accounts: AccountEvidence
    visited: Array  # f32 [A, M], fading direct visits of accounts to contents
    creator_ring: Array  # f32 [K + 1]
    account_ring: Array  # f32 [A + 1]
    standing: Standing
    peak: Array  # f32 [M], the highest probability that each content ever had
    caught_at: Array  # f32 [M], impressions and direct visits at which it was first frozen; infinite before
    paid: Array  # f32 [M], coins of its own that it spent on heating
    paid_before: Array  # f32 [M], of these, before it was caught


def account_count(sizes: Sizes) -> int:
    """Users and bots."""
    return sizes.cells * users_per_cell(sizes) + sizes.bots


def opened(config: WorldConfig, heads: Heads) -> Suspicion:
    """A platform on which nobody was judged yet."""
    sizes, accounts = config.sizes, account_count(config.sizes)
    nothing = jnp.zeros(sizes.contents)
    own = Suspicion(
        heads=Heads(*(judge.Head(*(jnp.asarray(x, jnp.float32) for x in head)) for head in heads)),
        contents=evidence.none_of_contents(jnp, sizes.contents),
        accounts=evidence.none_of_accounts(jnp, accounts),
        visited=jnp.zeros((accounts, sizes.contents)),
        creator_ring=jnp.zeros(sizes.creators + 1),
        account_ring=jnp.zeros(accounts + 1),
        standing=judge.unjudged(jnp, sizes.contents, sizes.creators, accounts),
        peak=nothing,
        caught_at=nothing + jnp.inf,
        paid=nothing,
        paid_before=nothing,
    )
    # Each leaf its own buffer: ``run_day`` takes the state's memory over.
    return jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), own)


def at_morning(config: WorldConfig, state: WorldState, born: Array) -> Suspicion:
    """Contents (``born``, bool ``[M]``) and users who took the place of others begin with nothing against them."""
    own: Suspicion = state.trust
    edge = jnp.zeros(1, bool)
    new_users = (state.users.created_day == state.day).reshape(-1)
    new_users = jnp.concatenate([new_users, jnp.zeros(config.sizes.bots, bool)])
    return own._replace(
        contents=evidence.forgotten(jnp, own.contents, jnp.concatenate([born, edge])),
        accounts=evidence.forgotten(jnp, own.accounts, jnp.concatenate([new_users, edge])),
        visited=jnp.where(new_users[:, None] | born[None, :], 0.0, own.visited),
        peak=jnp.where(born, 0.0, own.peak),
        caught_at=jnp.where(born, jnp.inf, own.caught_at),
        paid=jnp.where(born, 0.0, own.paid),
        paid_before=jnp.where(born, 0.0, own.paid_before),
    )


def hourly(config: WorldConfig, state: WorldState, hour: Array) -> WorldState:
    """The hour's direct visits come; then everybody is judged anew."""
    own: Suspicion = state.trust
    came = visits.visits(config, state, hour)
    sizes, contents = config.sizes, state.contents
    nobody = account_count(sizes)
    creator = contents.creator[came.content]
    direct = came.here & came.direct
    events = Events(
        account=jnp.where(came.here, came.account, nobody),
        # What bots click elsewhere for cover is lost in the many clicks of popular contents.
        content=jnp.where(direct, came.content, sizes.contents),
        creator=creator,
        tag=contents.tags[came.content, 0],
        hour=jnp.full(came.account.shape, 24 * state.day + hour),
        direct=direct,
        shown=jnp.zeros(direct.shape, bool),
        clicked=came.here,
        valid=came.valid & came.here,
        engaged=came.engaged & came.here,
    )
    doubt = own.standing.account.probability
    of_contents, of_accounts = evidence.learn(jnp, own.contents, own.accounts, events, own.standing.content.probability)
    visited = own.visited.at[jnp.where(direct, came.account, nobody), came.content].add(1.0, mode="drop")
    # A visit counts as far as its account and what it comes to are trusted.
    doubted = jnp.maximum(doubt[came.account], own.standing.content.probability[came.content])
    weight = direct * (1.0 - config.heating.trust * doubted)
    columns = jnp.zeros((weight.shape[0], STATS))
    for column in (CLICKS, RECENT_CLICKS, CLICKS_TODAY):
        columns = columns.at[:, column].set(weight)
    for column in (IMPRESSIONS, RECENT_IMPRESSIONS, TODAY):
        columns = columns.at[:, column].set(SEEN_A_CLICK * weight)
    columns = columns.at[:, VALID].set(weight * came.valid)
    stats = contents.stats.at[came.content].add(columns)
    own = own._replace(contents=of_contents, accounts=of_accounts, visited=visited)
    state = state._replace(contents=contents._replace(stats=stats), trust=own)
    return state._replace(trust=judged(config, state))


def ages_days(config: WorldConfig, state: WorldState) -> Array:
    """Ages of all accounts, f32 ``[A + 1]``."""
    users = (state.day - state.users.created_day).astype(jnp.float32).reshape(-1)
    return jnp.concatenate([users, visits.bot_age_days(config, state), jnp.zeros(1)])


def traits(config: WorldConfig, state: WorldState) -> judge.Traits:
    """What everybody is judged by, as it is known now."""
    own: Suspicion = state.trust
    doubts = own.standing.account.probability[:-1] @ own.visited
    visitors = judge.Visitors(jnp.append(own.visited.sum(0), 0.0), jnp.append(doubts, 0.0))
    return judge.traits(
        jnp, own.heads, own.contents, own.accounts, state.contents.creator, ages_days(config, state),
        own.creator_ring, own.account_ring, visitors, own.standing.content.probability,
        own.standing.account.probability,
    )  # fmt: skip


def judged(config: WorldConfig, state: WorldState) -> Suspicion:
    """Everybody judged on what is known now."""
    own: Suspicion = state.trust
    standing = judge.stand(jnp, own.heads, traits(config, state))
    probability, low = standing.content.probability[:-1], standing.content.low[:-1]
    seen = (own.contents.shown + own.contents.direct)[:-1]
    return own._replace(
        standing=standing,
        peak=jnp.maximum(own.peak, probability),
        caught_at=jnp.where(low >= FROZEN, jnp.minimum(own.caught_at, seen), own.caught_at),
    )


def feed(state: WorldState, of: Events) -> WorldState:
    """What a tick's slates tell: ``of`` comes flat, in the order of slates; absent rows are nobody's."""
    own: Suspicion = state.trust
    contents, accounts = evidence.learn(jnp, own.contents, own.accounts, of, own.standing.content.probability)
    return state._replace(trust=own._replace(contents=contents, accounts=accounts))


def paid(state: WorldState, delivered: Array) -> Suspicion:
    """Coins for heated impressions ``[M]`` that were shown, by what each content pays for one."""
    own: Suspicion = state.trust
    coins = delivered * state.regulator.ledger.price / COIN
    return own._replace(paid=own.paid + coins, paid_before=own.paid_before + coins * jnp.isinf(own.caught_at))


def sought(visited: np.ndarray, creator: np.ndarray, topic: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rings among dense visits, on the host."""
    found = rings.find(
        rings.to_creators(sparse.csr_matrix(np.asarray(visited)), np.asarray(creator), len(topic)), np.asarray(topic)
    )
    return found.accounts, found.creators


def at_night(config: WorldConfig, state: WorldState) -> Suspicion:
    """Rings of the day that ends."""
    own: Suspicion = state.trust
    accounts, creators, contents = own.visited.shape[0], config.sizes.creators, state.contents
    # A creator's topic is the first tag of most of theirs.
    tags = jnp.zeros((creators, config.sizes.tags)).at[contents.creator, contents.tags[:, 0]].add(1.0)
    shapes = jax.ShapeDtypeStruct((accounts,), jnp.float32), jax.ShapeDtypeStruct((creators,), jnp.float32)
    of_accounts, of_creators = jax.pure_callback(
        sought, shapes, own.visited, contents.creator, jnp.argmax(tags, axis=1)
    )
    edge = jnp.zeros(1)
    return own._replace(
        visited=rings.KEPT * own.visited,
        account_ring=jnp.concatenate([of_accounts, edge]),
        creator_ring=jnp.concatenate([of_creators, edge]),
    )


def doubted(state: WorldState) -> Array:
    """Users who are not trusted, bool ``[S, U]``."""
    users = state.users.satisfaction
    return (state.trust.standing.account.probability[: users.size] >= TRUSTED).reshape(users.shape)


def consequences(config: WorldConfig, state: WorldState) -> tuple[Array, Array, Array]:
    """Contents heated to trusted users only, frozen, and zeroed: bool ``[M]`` each, none where trust is off."""
    low = config.heating.trust * state.trust.standing.content.low[:-1]
    return low >= NARROWED, low >= FROZEN, low >= ZEROED


def report(config: WorldConfig, state: WorldState) -> dict[str, Array]:
    """The day's verdicts, ``[M]`` each, beside each content's true kind."""
    own: Suspicion = state.trust
    return {
        "kind": visits.kinds(config, state),
        "clickbait": state.contents.clickbait,
        "suspected": own.standing.content.probability[:-1],
        "peak": own.peak,
        "caught_at": own.caught_at,
        "paid": own.paid,
        "paid_before": own.paid_before,
        "direct": own.contents.direct[:-1],
        "feed_valid": own.contents.valid[:-1],
        "strays": visits.strays(config, state),
    }
