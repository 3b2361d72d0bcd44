"""Advantages by hand, and what an update learns where the best action is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from upwell.agents.dials import ROLES, TURNS
from upwell.agents.network import forward
from upwell.agents.observe import SEES
from upwell.learn import mappo
from upwell.learn.game import Played, Steps, log_density, sample
from upwell.world.gauges import FEATURES

RATES = mappo.Rates(learning=5e-3, discount=0.5, trace=0.5)


def steps(gain: list[list[float]], goes_on: list[list[bool]]) -> Steps:
    shape = np.shape(gain)
    none = jnp.zeros((*shape, 1))
    return Steps(
        none, jnp.zeros((shape[0], 1)), none, jnp.zeros(shape), jnp.asarray(gain), jnp.ones(shape, bool),
        jnp.asarray(goes_on),
    )  # fmt: skip


def test_advantages_by_hand():
    played = steps([[1.0], [2.0], [4.0]], [[True], [True], [True]])
    value = jnp.asarray([[1.0], [2.0], [3.0]])
    advantage, returns = mappo.advantages(value, played, RATES)
    # last: 4 + .5·3 - 3 = 2.5; before: 2 + .5·3 - 2 + .25·2.5 = 2.125; first: 1 + .5·2 - 1 + .25·2.125
    np.testing.assert_allclose(advantage[:, 0], [1.53125, 2.125, 2.5])
    np.testing.assert_allclose(returns[:, 0], [2.53125, 4.125, 5.5])


def test_nothing_comes_back_over_an_end():
    played = steps([[1.0, 1.0], [2.0, 2.0], [4.0, 99.0]], [[True, True], [True, False], [True, True]])
    value = jnp.asarray([[1.0, 1.0], [2.0, 2.0], [3.0, 50.0]])
    advantage, _ = mappo.advantages(value, played, RATES)
    np.testing.assert_allclose(advantage[:2, 1], [1.0, 0.0])  # 2 - 2; 1 + .5·2 - 1 + .25·0
    np.testing.assert_allclose(advantage[:2, 0], [1.53125, 2.125])


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
        action, log_prob = sample(getattr(learner.policy, role), learner.log_std[role], seen, k[1])
        acted = jax.random.uniform(k[2], (6, 300)) < 0.67
        off = action - aim * seen[..., :1]
        gain = jnp.where(acted, -(off**2).mean(-1), (off**2).mean(-1))
        whole = jnp.zeros((6, len(FEATURES["system"])))
        out[role] = Steps(seen, whole, action, log_prob, gain, acted, jnp.zeros((6, 300), bool))
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
    assert int(once.updates) == 1
