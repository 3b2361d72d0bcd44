"""What each agent gains in a step of the game, and what the step is worth to all.

Gains are shares of the platform's objective, so that their mean over agents is the objective as it goes on: a user's
satisfaction, what they buy, their return and breadth of interest, and the cold starts that their impressions further.
Cold start is credited impression by impression (``needed``): without that nobody would gain by showing new contents.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from upwell.arms.rules import need
from upwell.regulator.ledger import COIN
from upwell.world import gauges, world
from upwell.world.arm import Batch, View
from upwell.world.config import WorldConfig
from upwell.world.response import Outcome, enjoyment, finished, traits
from upwell.world.serve import Shown
from upwell.world.state import HEATED, IMPRESSIONS, ORGANIC_TODAY, SHARES, Array, WorldState


class Held(NamedTuple):
    """What the training arm carries: everybody's actions of the step, and what it came to.

    Counted is not what happened but what was to be expected where it stood: the true chances of a click, a valid view
    and a purchase, which a simulated platform knows. Of what a user does in six hours chance makes several times more
    than any dial, and an agent would have to live through that many more days to learn the same.
    """

    weights: Array  # f32 [S, U, 3], the goal of each user's agent: shares of satisfaction, revenue, long term
    user: Array  # f32 [S, U, n], actions
    content: Array  # f32 [M, n]
    system: Array  # f32 [M, n]
    asked: Array  # f32 [S, U], requests
    enjoyed: Array  # f32 [S, U], enjoyment of their slates
    broadly: Array  # f32 [S, U], the same, each slate's times the user's breadth of interest
    money: Array  # f32 [S, U], yuan
    wider: Array  # f32 [S, U], days for which tags stay engaged longer, over the healthy number of tags
    credit: Array  # f32 [S, U], cold starts furthered
    views: Array  # f32 [M], valid views
    heated_views: Array  # f32 [M]


def needed(view: View) -> tuple[Array, Array]:
    """What one more impression, and what one more organic one, furthers of a content's cold start, f32 ``[M]`` each.

    Half of a cold start is its 500·scale impressions within three days, half its 100·scale organic ones on the fourth.
    Of two hundred users who each push the same content past its bar only a few were needed. An agent is credited with
    what would be missing without it (difference rewards: Wolpert & Tumer 2002), or all would push on for ever: a
    content that is well ahead of an even pace gets there without.
    """
    needs, young = 0.5 * need(view), view.age_days < 3
    return needs * young / (500.0 * view.scale), needs * ~young / (100.0 * view.scale)


def count(view: View, batch: Batch, shown: Shown, out: Outcome) -> Held:
    """Add a batch to what the step has come to."""
    held: Held = view.arm
    config, users = view.config, batch.users
    chance = jnp.where(shown.here, out.rate * finished(shown.traits), 0.0)
    worth = chance * jnp.minimum(shown.traits.buy, 1.0) * shown.traits.price
    good = ((chance + out.rate) * (1.0 - config.response.boredom * shown.satiety)).sum(-1)
    regret = (out.rate - chance).sum(-1)
    enjoyed = enjoyment(config, good, regret)
    # A valid view keeps its tags engaged for a week from today; once in a slate, however many contents have the tag.
    own = (shown.tags != shown.tags[..., :1]).at[..., 0].set(True)  # who has fewer tags has the first again
    missed = jnp.log1p(-jnp.minimum(chance, 0.99))[..., None] * own
    s, r = jnp.indices(chance.shape[:2])
    none = jnp.zeros(users.last_valid_day.shape).at[s[..., None, None], r[..., None, None], shown.tags].add(missed)
    longer = jnp.minimum(view.day - users.last_valid_day, 7)
    wider = ((1.0 - jnp.exp(none)) * longer).sum(-1) / config.healthy_tags
    any_kind, organic = needed(view)
    credit = (any_kind[shown.ids] + jnp.where(shown.heated, 0.0, organic[shown.ids])).sum(-1)
    cells = jnp.arange(batch.place.shape[0])[:, None]
    who = jnp.where(shown.here[..., 0], batch.place, held.asked.shape[1])  # out of range: dropped

    def add(total: Array, more: Array) -> Array:
        return total.at[cells, who].add(more, mode="drop")

    return held._replace(
        asked=add(held.asked, jnp.ones(who.shape)),
        enjoyed=add(held.enjoyed, enjoyed),
        broadly=add(held.broadly, enjoyed * gauges.diversity(config, users, view.day)),
        money=add(held.money, worth.sum(-1)),
        wider=add(held.wider, wider),
        credit=add(held.credit, credit),
        views=held.views.at[shown.ids].add(chance),
        heated_views=held.heated_views.at[shown.ids].add(chance * shown.heated),
    )


class Norms(NamedTuple):
    """What gains are measured against: the platform under raw ranking; scalars."""

    satisfaction: Array
    breadth: Array
    active: Array  # share of users who come on a day
    asked: Array  # requests of an active user a day
    money: Array  # yuan of an active user a day
    graduates: Array  # contents that end their third day, a day


def shares(config: WorldConfig) -> Array:
    """The goal's weights as shares, f32 ``[3]``."""
    goal = config.goal
    weights = jnp.stack([jnp.float32(w) for w in (goal.user_satisfaction, goal.platform_revenue, goal.long_term)])
    return weights / weights.sum()


def norms_of(config: WorldConfig, state: WorldState, raw: dict[str, float]) -> Norms:
    """From a burnt-in platform, and the metrics of some days of raw ranking there."""
    age = state.day - state.contents.born_day
    return Norms(
        satisfaction=jnp.float32(raw["satisfaction_mean"]),
        breadth=jnp.float32(raw["interest_diversity"]),
        active=jnp.float32(raw["dau"] / config.sizes.users),
        asked=jnp.float32(raw["impressions_per_dau"] / config.sizes.slate),
        money=jnp.float32(raw["expected_net_gmv_per_dau"]),
        graduates=jnp.maximum(((age > 0) & (age <= 3)).sum() / 3.0, 1.0),
    )


def coins_tied(state: WorldState) -> Array:
    """Coins each content has, those in its outstanding grant included, f32 ``[M]``."""
    books = state.regulator.ledger
    return (books.budget + books.outstanding * books.price) / COIN


def begun(state: WorldState) -> Array:
    """How far each content's cold start has come, f32 ``[M]`` in [0, 1]: see ``needed``."""
    contents, age = state.contents, state.day - state.contents.born_day
    first = jnp.minimum(contents.first3 / (500.0 * state.scale), 1.0)
    fourth = jnp.minimum(contents.stats[:, ORGANIC_TODAY] / (100.0 * state.scale), 1.0)
    return 0.5 * first + 0.5 * fourth * (age == 3) * (first >= 1.0)


def of_slates(config: WorldConfig, norms: Norms, held: Held) -> Array:
    """What the step's slates were worth to each user, over the mean slate under raw ranking, f32 ``[S, U]``."""
    w_user, w_revenue, w_long = jnp.moveaxis(held.weights, -1, 0)
    # Satisfaction follows the enjoyment of slates; coming back, and how often in a day, follow satisfaction.
    returning = config.activity.satisfaction * norms.active * (1.0 - norms.active)
    pleased = w_user + w_long / 3.0 * returning + w_revenue * config.activity.visits_satisfaction
    return (
        pleased * (held.enjoyed - held.asked * norms.satisfaction) / norms.asked
        + w_revenue * (held.money / norms.money - held.asked / norms.asked)
        + w_long / 3.0 * norms.active * held.wider
    )


def per_graduate(norms: Norms, users: int) -> Array:
    """Users' days that a cold start counts for: the share of successes is a third of the long term."""
    return norms.active * users / norms.graduates


def together(config: WorldConfig, norms: Norms, before: world.Day, after: world.Day) -> Array:
    """What the step was worth to all: mean over users, scalar.

    Each is credited for the cold starts that needed it (``needed``): that sums up to less than they are worth where
    many help. Here they count as they came about.
    """
    held: Held = after.state.arm
    further = (begun(after.state) - begun(before.state)).sum()
    starts = held.weights[..., 2].mean() / 3.0 * per_graduate(norms, held.asked.size) * further / held.asked.size
    return of_slates(config, norms, held).mean() + starts


def gains(config: WorldConfig, norms: Norms, before: world.Day, after: world.Day) -> dict[str, Array]:
    """What the step was worth to each agent, by role: f32 ``[S, U]``, ``[M]``, ``[M]``.

    In units of the objective: of a user's day for users, of a content's cold start for contents and the system.
    """
    state, held = after.state, after.state.arm
    each_graduate = per_graduate(norms, held.asked.size)
    of_user = (
        of_slates(config, norms, held)
        + held.weights[..., 2] / 3.0 * each_graduate * held.credit
        # The role's own aim, breadth times satisfaction:
        + 0.1 * (held.broadly - held.asked * norms.breadth * norms.satisfaction) / norms.asked
    )

    grown = state.contents.stats - before.state.contents.stats
    cost = (coins_tied(before.state) - coins_tied(state)) / config.heating.budget
    further = begun(state) - begun(before.state)
    engaged = (held.views + 2.0 * grown[:, SHARES]) / (0.6 * state.platform_ctr * 500.0 * state.scale)
    of_content = further + 0.3 * engaged - 0.1 * cost
    # A heated impression takes a place: what it won, less what the mean impression wins there. A valid view is about a
    # twentieth of a user's day in satisfaction (``response.memory``), and its money.
    contents = state.contents
    of = traits(
        config, contents.log_quality, contents.clickbait, state.day - contents.born_day, contents.duration_s,
        contents.price,
    )  # fmt: skip
    shown = jnp.maximum(grown[:, IMPRESSIONS].sum(), 1.0)

    def won(each: Array) -> Array:
        return held.heated_views * each - (held.views * each).sum() / shown * grown[:, HEATED]

    w_user, w_revenue, w_long = shares(config)
    value = w_revenue / norms.money * won(jnp.minimum(of.buy, 1.0) * of.price) + 0.05 * w_user * won(
        jnp.ones_like(of.buy)
    )
    of_system = w_long / 3.0 * further + value / each_graduate
    return {"user": of_user, "content": of_content, "system": of_system}
