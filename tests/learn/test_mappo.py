"""Advantages and aims by hand, and what an update learns where the best action is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from upwell.agents.dials import ROLES, TURNS
from upwell.agents.network import Layer, Network, forward
from upwell.agents.observe import SEES
from upwell.learn import mappo, replay
from upwell.learn.game import SILENT, Played, Steps, log_density, sample
from upwell.world.gauges import FEATURES

RATES = mappo.Rates(discount=0.5, memory=4_096, kept=1_024, drawn=4_096, critic_batch=512)
ROLE = "content"


def linear(seen: float = 0.0, action: float = 0.0) -> Network:
    """A critic of one layer: expects ``seen`` times the first thing seen, and of dial i ``action`` times i + 1."""
    sees, turns = len(SEES[ROLE]), len(TURNS[ROLE])
    weight = np.zeros((sees + turns + replay.WIDE, 1), np.float32)
    weight[0, 0] = seen
    weight[sees : sees + turns, 0] = action * np.arange(1, turns + 1)
    return (Layer(weight, np.full(1, 7.0, np.float32)),)


def test_a_dial_is_credited_with_what_its_own_turn_brings():
    turns = len(TURNS[ROLE])
    seen, whole = jnp.ones((2, len(SEES[ROLE]))), jnp.ones((2, replay.WIDE))
    mean = jnp.zeros((2, turns)).at[1, 0].set(0.2)
    action = jnp.zeros((2, turns)).at[0, 1].set(0.5).at[1, 0].set(-0.3).at[1, 2].set(3.0)
    found = mappo.counterfactual(linear(seen=4.0, action=0.1), seen, mean, action, whole)
    by_hand = np.zeros((2, turns))
    by_hand[0, 1] = 0.2 * 0.5
    by_hand[1, 0], by_hand[1, 2] = 0.1 * (-0.3 - 0.2), 0.3 * 1.0  # no dial turns past 1
    np.testing.assert_allclose(found, by_hand, atol=1e-5)


def test_what_a_critic_is_to_expect_by_hand():
    turns, sees = len(TURNS[ROLE]), len(SEES[ROLE])
    memory = replay.empty(ROLE, 2)._replace(
        gain=jnp.asarray([1.0, 2.0]), goes_on=jnp.asarray([1.0, 0.0]), next_seen=jnp.zeros((2, sees)).at[:, 0].set(3.0)
    )
    still = (Layer(np.zeros((sees, turns), np.float32), np.zeros(turns, np.float32)),)
    actor = still, jnp.full(turns, SILENT)
    moments = mappo.Moments(jnp.float32(5.0), jnp.float32(29.0), jnp.float32(1.0))  # deviation 2
    found = mappo.aims(actor, linear(seen=0.5), moments, memory, RATES, jax.random.key(0))
    # after the first 5 + 2 · (7 + .5 · 3) = 22, half of it counts; the second ended
    np.testing.assert_allclose(found, [1.0 + 0.5 * 22.0, 2.0], rtol=1e-6)


def test_moments_are_those_of_what_was_found():
    zero = jnp.float32(0.0)
    moments = mappo.Moments(zero, zero + 1.0, zero).after(jnp.asarray([1.0, 3.0]))
    assert (float(moments.mean), float(moments.square), float(moments.deviation())) == (2.0, 5.0, 1.0)
    again = moments.after(jnp.asarray([4.0, 4.0]))
    assert float(again.mean) == 3.0  # the second counts for half


def test_moments_that_move_leave_what_is_expected_where_it_was():
    random = np.random.default_rng(0)
    hidden = Layer(random.normal(size=(len(SEES[ROLE]) + len(TURNS[ROLE]) + replay.WIDE, 4)).astype(np.float32), 0.1)
    critic = (hidden, Layer(random.normal(size=(4, 1)).astype(np.float32), np.ones(1, np.float32)))
    old, new = (mappo.Moments(*map(jnp.float32, of)) for of in ((1.0, 5.0, 3.0), (-2.0, 53.0, 4.0)))
    seen, action, whole = (
        jnp.asarray(random.normal(size=(8, n))) for n in (len(SEES[ROLE]), len(TURNS[ROLE]), replay.WIDE)
    )
    before = mappo.expected(critic, old, seen, action, whole)
    after = mappo.expected(mappo.rescaled(critic, old, new), new, seen, action, whole)
    np.testing.assert_allclose(after, before, rtol=1e-4)
    assert float(jnp.std(before)) > 0.1


def test_log_density_is_the_normal_distributions():
    mean, log_std, action = jnp.zeros(2), jnp.log(jnp.asarray([0.5, 2.0])), jnp.asarray([0.5, -2.0])
    by_hand = sum(-0.5 - np.log(s) - 0.5 * np.log(2 * np.pi) for s in (0.5, 2.0))
    assert float(log_density(mean, log_std, action).sum()) == pytest.approx(by_hand, rel=1e-5)


def played(learner: mappo.Learner, key: jax.Array, aim: float) -> Played:
    """A game in which every dial is best at ``aim`` times the first thing seen; for a third of the agents, who are
    absent, it would be best elsewhere."""
    out: dict[str, Steps] = {}
    for i, role in enumerate(ROLES):
        k = jax.random.split(jax.random.fold_in(key, i), 3)
        seen = jax.random.normal(k[0], (6, 300, len(SEES[role])))
        action, _ = sample(getattr(learner.policy, role), learner.log_std[role], seen, k[1])
        acted = jax.random.uniform(k[2], (6, 300)) < 0.67
        off = action - aim * seen[..., :1]
        gain = jnp.where(acted, -(off**2).mean(-1), (off**2).mean(-1))
        whole = jnp.zeros((6, len(FEATURES["system"])))
        out[role] = Steps(seen, whole, action, gain, acted, jnp.zeros((6, 300), bool))
    gain = out["user"].gain
    return Played(out, gain.sum() / gain.shape[1], jnp.int32(gain.size))


@pytest.mark.slow
@pytest.mark.parametrize("aim", [0.4, -0.4])
def test_an_update_learns_what_pays(aim):
    learner = mappo.first_learner(0, RATES)
    late: list[dict[str, np.ndarray]] = []
    for i in range(90):
        key = jax.random.key(i)
        learner, report = mappo.update(learner, played(learner, key, aim), RATES, key)
        if i >= 50:  # a step is larger than what it learns: what counts is their mean
            late.append({role: line(learner, role) for role in ROLES})
    for role in ROLES:
        assert late[0][role].shape == (2, len(TURNS[role]))
        np.testing.assert_allclose(np.mean([of[role] for of in late], (0, 2)), [aim, 0.0], atol=0.08)
        assert np.isfinite(report[role]["value_error"])
        assert float(learner.log_std[role].mean()) < np.log(RATES.first_std)  # surer than at first


def line(learner: mappo.Learner, role: str) -> np.ndarray:
    """Slope of each dial along the first thing seen, and its mean, over agents as they are in the game."""
    seen = np.random.default_rng(0).normal(size=(2_000, len(SEES[role]))).astype(np.float32)
    out = np.asarray(forward(jnp, getattr(learner.policy, role), seen))
    first = seen[:, 0] - seen[:, 0].mean()
    return np.stack([first @ out / (first @ first), out.mean(0)])


def test_an_update_is_the_same_twice():
    learner = mappo.first_learner(1, RATES)
    game = played(learner, jax.random.key(5), 0.3)
    once, twice = (mappo.update(learner, game, RATES, jax.random.key(9))[0] for _ in range(2))
    for a, b in zip(jax.tree.leaves(once), jax.tree.leaves(twice), strict=True):
        np.testing.assert_array_equal(a, b)
    assert int(once.written) == RATES.kept
