"""What agents gain: expectations that agree with what then happens, and credit for those who are needed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from upwell.agents.dials import ROLES, TURNS
from upwell.agents.network import first_policy
from upwell.experiment.runner import lived
from upwell.learn import es, gains, game, train
from upwell.world import world
from upwell.world.arm import RAW
from upwell.world.config import reference_world
from upwell.world.state import HEATED_VALID, VALID

SMALL = reference_world().override({
    "sizes.users": 600, "sizes.contents": 800, "sizes.creators": 80, "sizes.segments": 2, "sizes.ticks_per_day": 24,
    "response.purchase": 0.1, "ranker.learns_from_day": 1.0,
})  # fmt: skip


@pytest.fixture(scope="module")
def day() -> tuple[world.Day, world.Day]:
    """Before and after half a day of a platform whose agents leave all dials alone.

    Half, as chance has a user who is shown a content twice on a day do the same twice.
    """
    state = world.burnt_in(SMALL, 3, 5)
    before = game.wake(SMALL, state._replace(arm=game.empty(state, game.goals(SMALL, state, jax.random.key(0)))))
    after = jax.jit(world.run_until, static_argnums=1)(SMALL, game.TRAINED, before, jnp.float32(12.0))
    return before, after


@pytest.mark.slow
def test_what_is_counted_is_what_was_to_be_expected(day):
    before, after = day
    held: gains.Held = after.state.arm
    grown = after.state.contents.stats - before.state.contents.stats
    asked = float(held.asked.sum())
    assert asked == float(after.counts.requests) > 500
    valid = float(grown[:, VALID].sum())
    assert float(held.views.sum()) == pytest.approx(valid, abs=4.0 * np.sqrt(valid))
    heated = float(grown[:, HEATED_VALID].sum())
    assert float(held.heated_views.sum()) == pytest.approx(heated, abs=4.0 * np.sqrt(heated + 1.0))
    gmv = float(after.counts.gmv)
    assert float(held.money.sum()) == pytest.approx(gmv, rel=0.3)
    # Given what was watched, money is known but for who buys.
    assert float(after.counts.expected_gmv) == pytest.approx(gmv, rel=0.3)
    assert float(held.money.sum()) == pytest.approx(float(after.counts.expected_gmv), rel=0.1)


@pytest.mark.slow
def test_tags_stay_engaged_for_as_long_as_was_to_be_expected(day):
    _, after = day
    last, now = (np.asarray(x.state.users.last_valid_day, np.int32) for x in day)
    longer = np.minimum(now - last, 7).clip(0).sum() / SMALL.healthy_tags
    assert longer > 50
    assert float(after.state.arm.wider.sum()) == pytest.approx(longer, rel=0.15)


@pytest.mark.slow
def test_gains_by_hand(day):
    before, after = day
    held: gains.Held = after.state.arm
    raw = lived(SMALL, RAW, before.state._replace(arm=None), 1)
    norms = gains.norms_of(SMALL, before.state, raw)
    assert float(norms.asked) == pytest.approx(raw["impressions_per_dau"] / 10.0)
    user = gains.gains(SMALL, norms, before, after)["user"]
    parts = gains.of_slates(SMALL, norms, held).mean()
    further = float((gains.begun(after.state) - gains.begun(before.state)).sum())
    starts = further * float(held.weights[..., 2].mean()) / 3.0 * raw["dau"] / 600 / float(norms.graduates)
    assert float(gains.together(SMALL, norms, before, after)) == pytest.approx(float(parts) + starts, rel=1e-4)
    assert further > 0
    at = np.unravel_index(int(np.argmax(np.asarray(held.asked))), held.asked.shape)
    w_user, w_revenue, w_long = np.asarray(held.weights)[at]
    asked, enjoyed, broadly, money, wider, credit = (
        float(getattr(held, name)[at]) for name in ("asked", "enjoyed", "broadly", "money", "wider", "credit")
    )
    active, visits = raw["dau"] / 600, raw["impressions_per_dau"] / 10.0
    liking = enjoyed - asked * raw["satisfaction_mean"]
    by_hand = (
        w_user * liking / visits
        + w_long / 3.0 * SMALL.activity.satisfaction * active * (1.0 - active) * liking / visits
        + w_revenue * SMALL.activity.visits_satisfaction * liking / visits
        + w_revenue * (money / raw["expected_net_gmv_per_dau"] - asked / visits)
        + w_long / 3.0 * active * wider
        + w_long / 3.0 * credit * active * 600 / float(norms.graduates)
        + 0.1 * (broadly - asked * raw["interest_diversity"] * raw["satisfaction_mean"]) / visits
    )
    assert float(user[at]) == pytest.approx(by_hand, rel=1e-4)
    idle = np.asarray(held.asked) == 0
    assert idle.any()
    np.testing.assert_array_equal(np.asarray(user)[idle], 0.0)  # who does not come gains nothing


def test_half_of_the_agents_have_the_platforms_goal_and_half_their_own():
    state = world.reset(SMALL, 1)
    weights = np.asarray(game.goals(SMALL, state, jax.random.key(3)))
    np.testing.assert_allclose(weights.sum(-1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(weights[:, ::2], np.broadcast_to([0.4, 0.3, 0.3], weights[:, ::2].shape), rtol=1e-6)
    own = weights[:, 1::2].reshape(-1, 3)
    np.testing.assert_allclose(own.mean(0), 1 / 3, atol=0.05)
    assert own.min() < 0.05  # up to the corners
    assert own.max() > 0.85
    assert len(np.unique(own[:, 0])) == len(own)


def test_roles_that_do_not_learn_stay_at_the_rules():
    learner = es.first_learner(0, es.Rates())
    moved = learner._replace(policy=jax.tree.map(lambda x: x + 1.0, learner.policy))
    kept = train.by_rules_but(("user",), moved)
    np.testing.assert_array_equal(kept.policy.user[0].weight, moved.policy.user[0].weight)
    for role in ("content", "system"):
        assert all(not np.any(x) for x in jax.tree.leaves(getattr(kept.policy, role)))
        np.testing.assert_array_equal(kept.log_std[role], game.SILENT)


def test_evolution_climbs_what_it_is_paid_for():
    """Worth is minus the distance of the last biases from an aim."""
    rates = es.Rates(learning=0.05, std=0.1, pairs=8)
    learner, aim = es.first_learner(0, rates), 0.5

    def off(policy):
        return sum(float(((getattr(policy, role)[-1].bias - aim) ** 2).mean()) for role in ROLES)

    first = off(learner.policy)
    assert first == pytest.approx(len(ROLES) * aim**2)
    for i in range(600):
        gain = np.full((1, 1), -off(es.plays(learner, rates)), np.float32)
        played = game.Played({}, gain[0, 0], np.int32(1))
        learner, _ = es.update(learner, played, rates, jax.random.key(i))
    assert off(learner.policy) < 0.2 * first
    assert set(learner.log_std) == set(TURNS)
    assert jax.tree.structure(learner.policy) == jax.tree.structure(first_policy(0))
