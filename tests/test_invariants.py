"""Each invariant of the design, and a test that tries to break it.

Worlds are lived tick by tick under every arm of the registry and under ``greedy``, an arm that wants all it can get:
whatever an arm learns, it cannot be worse. ``tests/mutations.py`` turns each guard off and sees these tests fail.
"""

from collections import defaultdict
from functools import cache, lru_cache
from itertools import islice

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upwell.arms.registry import ARMS
from upwell.arms.rules import rules
from upwell.regulator import guards, ledger, slate, tick
from upwell.regulator.tick import Requests
from upwell.world import decisions, world
from upwell.world.arm import Arm, Batch, View, ranker_scores
from upwell.world.config import reference_world

SMALL = reference_world().override(
    {
        "sizes.users": 400, "sizes.contents": 600, "sizes.creators": 60, "sizes.segments": 2, "heating.holdout": 0.15,
        "activity.leave": 0.02, "content.bought": 0.1, "content.bought_clicks_per_day": 300.0,
    }
)  # fmt: skip


# A pool of ten times what the cap allows, at a hundredth of the price, and slates with room for twice as much: only the
# window is left to hold the cap.
RICH = SMALL.override({"heating.pool": 1.0, "heating.first_ask": 100_000.0, "heating.cap": 0.1})
# Contents hardly compete for attention and places count alike: what is explored badly is lost. The holdout is large.
FRAGILE = SMALL.override({"response.attention": 50.0, "response.position": 0.0, "heating.holdout": 0.4})


def everything(view: View) -> Requests:
    """Asks for whatever there is, for old contents and for cheats, pays any price and never lets go."""
    full = jnp.full(view.age_days.shape, 1_000_000, jnp.int32)
    wanted = jnp.where(view.age_days >= 3, full, 0)
    rank = jnp.ones(view.age_days.shape)
    return Requests(wanted, rank, jnp.zeros(view.age_days.shape, bool))


def indifferent(view: View, ids: jax.Array) -> jax.Array:
    return jnp.zeros((view.users.mind.shape[0], ids.shape[-1]))


def anyone(view: View, batch: Batch, grants: jax.Array) -> jax.Array:
    return jnp.zeros((*batch.place.shape, grants.shape[-1]))


def rubbish(view: View, batch: Batch) -> tuple[jax.Array, jax.Array]:
    """Explores at every turn, what the ranker thinks worst of; from day 16 on, nothing."""
    return jnp.full(batch.place.shape, 1.0) * (view.day < 16), -3.0 * ranker_scores(view, batch)


greedy = Arm("greedy", ranker_scores, everything, indifferent, anyone, rubbish)
HURTFUL = Arm("hurtful", ranker_scores, explore=rubbish)
EVERY = [family[0] for family in ARMS.values()] + [greedy]


@cache
def morning() -> world.WorldState:
    return world.burnt_in(SMALL, 3, 10)


@lru_cache(maxsize=1)
def lived(arm: Arm) -> list[tuple[world.Day, decisions.Line]]:
    """A day under an arm, after a day to warm up."""
    *_, (last, _) = decisions.ticks(RICH, arm, morning())
    return list(decisions.ticks(RICH, arm, jax.jit(world.finish_day)(RICH, last)[0]))


def heated_share_stays_within_the_cap_in_every_slate_and_at_every_moment_of_an_hour(arm: Arm) -> None:
    shown, heated = defaultdict(int), defaultdict(int)
    for _, told in lived(arm):
        here = (told.picked.kind == slate.HEATED) & told.present[..., None]
        hour = int(told.now_h)
        shown[hour] += int(told.present.sum()) * RICH.sizes.slate
        heated[hour] += int(here.sum())
        assert here.sum(-1).max() <= len(slate.heated_places(RICH.sizes.slate))
        assert heated[hour] <= RICH.heating.cap * shown[hour] + 1e-6
    assert (sum(heated.values()) > 0) == (arm.requests is not None)


def new_users_and_the_holdout_are_left_alone(arm: Arm) -> None:
    new = held = 0
    for day, told in lived(arm):
        young = int(day.state.day) - told.created_day < RICH.heating.protection_days
        young, held_out = young & told.present, told.held_out & told.present
        assert not (told.picked.kind[young] == slate.EXPLORED).any()
        assert (told.picked.kind[held_out] == slate.ORGANIC).all()
        assert not told.picked.stochastic[young | held_out].any()
        new, held = new + young.sum(), held + held_out.sum()
    assert new > 0
    assert held > 0


def the_ledger_balances_after_every_tick_and_is_paid_for_what_was_shown(arm: Arm) -> None:
    spent = 0
    for day, told in lived(arm):
        books = jax.tree.map(np.asarray, day.state.regulator.ledger)
        assert ledger.balanced(books)
        spent += int(((told.picked.kind == slate.HEATED) & told.present[..., None]).sum())
        assert int(books.spent) == spent
        total = int(books.pool) + int(books.spent) + int(books.outstanding.sum())
        assert total <= RICH.heating.pool * 500.0 * float(day.state.scale) * RICH.sizes.contents + 1


def proven_cheats_get_nothing_and_have_nothing(arm: Arm) -> None:
    proven = 0
    for day, told in lived(arm):
        assert not ((told.picked.kind == slate.HEATED) & told.cheat & told.present[..., None]).any()
        books, cheat = day.state.regulator.ledger, np.asarray(day.state.regulator.cheat)
        assert not np.asarray(books.budget)[cheat].any()
        assert not np.asarray(books.outstanding)[cheat].any()
        proven += int(cheat.sum())
    assert (proven > 0) == (arm.requests is not None)


def every_propensity_is_a_probability_and_chance_never_vanishes(arm: Arm) -> None:
    for _, told in lived(arm):
        picked, asked = told.picked, told.question
        assert ((picked.propensity > 0) & (picked.propensity <= 1)).all()
        assert (picked.propensity[~picked.stochastic] == 1).all()
        if asked.exploration is None:
            assert not picked.stochastic.any()
            continue
        chance = asked.exploration.probability[..., None]
        least = chance * 0.02 / asked.ids.shape[-1] * (1 - 1e-5)
        explored = picked.kind == slate.EXPLORED
        assert (picked.propensity >= least)[explored].all()


def the_same_seed_gives_the_same_slates(arm: Arm) -> None:
    again = islice(decisions.ticks(RICH, arm, morning()), 12)
    for (_, one), (_, two) in zip(again, islice(decisions.ticks(RICH, arm, morning()), 12), strict=True):
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.slow
@pytest.mark.parametrize("arm", EVERY, ids=lambda arm: arm.name)
def test_every_arm_keeps_the_invariants(arm):
    """In one test, so that workers who share the tests compile each arm once."""
    heated_share_stays_within_the_cap_in_every_slate_and_at_every_moment_of_an_hour(arm)
    new_users_and_the_holdout_are_left_alone(arm)
    the_ledger_balances_after_every_tick_and_is_paid_for_what_was_shown(arm)
    proven_cheats_get_nothing_and_have_nothing(arm)
    every_propensity_is_a_probability_and_chance_never_vanishes(arm)
    the_same_seed_gives_the_same_slates(arm)


@pytest.mark.slow
@pytest.mark.parametrize("arm", [rules, greedy], ids=lambda arm: arm.name)
def test_four_in_five_new_contents_get_their_chance(arm):
    state = jax.tree.map(jnp.copy, morning())
    chances = graduates = 0
    for day in range(8):
        state, report = world.run_day(SMALL, arm, state)
        if day >= 3:  # contents born under the arm
            chances, graduates = chances + int(report["chances"]), graduates + int(report["graduates"])
    assert graduates > 50
    assert chances / graduates >= SMALL.heating.chance_share


@pytest.mark.slow
def test_exploration_that_hurts_throttles_itself_and_recovers():
    state = jax.tree.map(jnp.copy, morning())
    throttle, explored, loss = [], [], []
    for _ in range(9):
        state, report = world.run_day(FRAGILE, HURTFUL, state)
        throttle.append(float(report["throttle"]))
        explored.append(float(report["explored"]) / float(report["impressions"]))
        r = state.regulator
        loss.append(1.0 - float(r.clicks / r.impressions) / float(r.held_clicks / r.held_impressions))
    # Left alone it would explore two places in ten of all but the holdout: 0.12 of all impressions.
    assert 0.0 < np.mean(explored[:6]) < 0.06
    assert min(throttle[:6]) < 0.3
    assert max(loss) < FRAGILE.heating.ctr_loss + 0.02
    assert explored[6:] == [0.0] * 3  # the arm has changed its ways
    assert throttle[-1] == 1.0


def platform(contents: int, cheat: list[bool]) -> tuple[tick.RegulatorState, Requests]:
    state = tick.opened(np, contents, 100.0)
    state = state._replace(ledger=state.ledger._replace(pool=np.int32(500)), cheat=np.array(cheat))
    none = np.zeros(contents, bool)
    return state, Requests(np.full(contents, 100, np.int32), np.ones(contents, np.float32), none)


def allocated(state: tick.RegulatorState, asked: Requests, owed: list[bool]) -> ledger.Ledger:
    quality = np.full(len(owed), 0.5, np.float32)
    one = np.float32(1.0)
    return tick.allocate(
        np, state, asked, np.array(owed), quality, np.float32(50.0), np.float32(100.0), np.float32(0.2), one, 500 * one
    ).ledger


def test_a_content_proven_a_cheat_while_granted_gives_everything_back():
    state, asked = platform(3, [False, False, False])
    books = allocated(state, asked, [False] * 3)
    assert books.outstanding.tolist() == [100, 100, 100]
    later = allocated(state._replace(ledger=books, cheat=np.array([False, True, False])), asked, [True] * 3)
    assert later.outstanding.tolist() == [100, 0, 100]
    assert later.budget[1] == 0
    assert int(later.pool) == 300
    assert ledger.balanced(later)


def test_a_proven_cheat_is_granted_nothing_whatever_its_budget():
    state, asked = platform(2, [True, False])
    # Its budget was refilled after it was struck out: release takes it away, and nothing is granted all the same.
    books = allocated(state, asked, [True, True])
    assert books.outstanding.tolist() == [0, 50]
    assert books.budget[0] == 0


def test_chances_come_before_whatever_the_arm_wants():
    state, asked = platform(8, [False] * 8)
    owed = [False] * 6 + [True] * 2
    books = allocated(state, asked._replace(impressions=np.array([100] * 6 + [0] * 2, np.int32)), owed)
    assert books.outstanding.tolist() == [100, 100, 100, 100, 0, 0, 50, 50]


def test_no_arm_gives_up_on_a_chance_that_is_owed():
    state, asked = platform(2, [False, False])
    books = allocated(state, asked, [True, True])
    assert books.outstanding.tolist() == [50, 50]
    quits = asked._replace(impressions=np.zeros(2, np.int32), give_up=np.array([True, True]))
    later = allocated(state._replace(ledger=books), quits, [True, False])
    assert later.outstanding.tolist() == [50, 0]
    assert int(later.released) == 50  # of the other alone: nothing is released only to be granted again


def test_no_bid_prices_new_contents_out_of_their_chance():
    state, asked = platform(8, [False] * 8)
    owed = [False] * 6 + [True] * 2
    books = allocated(state, asked._replace(bid=np.full(8, 1e3, np.float32)), owed)
    assert (books.outstanding[6:] >= 50).all()
    # Nor does the cap's own price: an hour in which the heated share stands at the cap.
    full = state._replace(hour_impressions=np.float32(1e3), hour_heated=np.float32(200.0))
    assert allocated(full, asked, owed).outstanding[6:].tolist() == [50, 50]


def test_the_throttle_shrinks_grants_but_never_the_chance():
    state, asked = platform(2, [False, False])
    books = allocated(state._replace(throttle=np.float32(0.25)), asked, [True, False])
    assert books.outstanding.tolist() == [50, 25]


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 2)), min_size=1, max_size=40), st.floats(0.01, 0.5))
def test_the_window_holds_whatever_comes_in_whatever_order(batches, cap):
    shown = heated = 0
    for requests, wanted in batches:
        left = guards.heated_slots_left(np, shown, heated, requests * 10, cap)
        slots = guards.within_window(np, np.full(requests, wanted), left)
        shown, heated = shown + requests * 10, heated + int(slots.sum())
        assert heated <= cap * shown + 1e-6


@given(
    st.lists(st.floats(-20, 20, width=32), min_size=3, max_size=6),
    st.one_of(st.just(0.0), st.floats(0.001, 1)),
    st.floats(0.01, 0.5),
)
def test_chances_of_all_picks_add_up_to_one_at_each_explored_place(logits, probability, floor):
    """Each candidate in turn is made to win the draw: the propensities of all that could happen sum to 1."""
    many = len(logits)
    ids = np.arange(100, 100 + many + 10, dtype=np.int32)[None]
    # Ten certain organic contents before the candidates to explore.
    scores = np.array([[[1e4] * 10 + [0.0] * many]], np.float32)
    preference = np.array([[[0.0] * 10 + logits]], np.float32)
    places = slate.explored_places(10)

    def build(whether: tuple[float, float], winners: tuple[int, int]) -> slate.Slate:
        u_which = np.full((1, 1, 2, many + 10), 1e-30, np.float32)
        for e, winner in enumerate(winners):
            u_which[0, 0, e, 10 + winner] = 1 - 2**-24
        exploration = slate.Exploration(
            np.full((1, 1), probability, np.float32), preference, np.array([[whether]], np.float32), u_which
        )
        return slate.build(np, ids, scores, np.zeros(scores.shape, bool), 10, exploration=exploration, floor=floor)

    stay = build((1.0, 1.0), (0, 0)).propensity[0, 0]
    if probability == 0.0:
        assert (stay == 1.0).all()
        return
    outcomes = [build((-1.0, 1.0), (c, 0)) for c in range(many)]
    assert sorted(int(s.ids[0, 0, places[0]]) for s in outcomes) == (ids[0, 10:]).tolist()
    first = [float(s.propensity[0, 0, places[0]]) for s in outcomes]
    assert sum(first) + stay[places[0]] == pytest.approx(1.0, abs=1e-4)
    assert min(first) >= probability * floor / many * (1 - 1e-4)
    # The second place, given that the first took candidate 0: one fewer to choose from.
    second = [float(build((-1.0, -1.0), (0, c)).propensity[0, 0, places[1]]) for c in range(1, many)]
    assert sum(second) + stay[places[1]] == pytest.approx(1.0, abs=1e-4)
