"""The gate: lets through what earns more, and neither chance nor a flood of made-up clicks."""

import numpy as np
import pytest

from upwell.agents.network import Layer
from upwell.errors import BadRequest
from upwell.online.gate import OF_USER, Steps, fair, gate

SEES, DIALS, STD = 4, 3, 0.15
BEST = np.array([0.4, -0.3, 0.0])


def network(mean, slope=0.0):
    """One layer: the same dials for everybody, the first one also by what is seen."""
    weight = np.zeros((SEES, DIALS))
    weight[0, 0] = slope
    return (Layer(weight, np.asarray(mean, np.float64)),)


NOW, BETTER, WORSE = network([0.0, 0.0, 0.0]), network([0.15, -0.1, 0.0]), network([-0.15, 0.1, 0.0])


def traffic(seed, users=1_500, each=8, noise=1.0, gains=True):
    """Steps under ``NOW``. The nearer the dials come to ``BEST``, the more is gained; chance makes far more of it."""
    rng = np.random.default_rng(seed)
    user = np.tile(np.arange(users), each)
    seen, z = rng.normal(size=(len(user), SEES)), rng.normal(size=(len(user), DIALS))
    action = STD * z
    gain = 0.3 * seen[:, 1] + noise * rng.normal(size=len(user)) + rng.normal(size=users)[user] * 0.2
    if gains:
        gain -= ((action - BEST) ** 2).sum(-1)
    return Steps(user, seen, action, z, gain)


def test_what_earns_more_passes_and_what_earns_less_does_not():
    steps = traffic(0)
    better, worse = gate(steps, STD, NOW, BETTER), gate(steps, STD, NOW, WORSE)
    assert better.passed
    # The truth: ((0 - .4)^2 + (0 + .3)^2) - ((.15 - .4)^2 + (-.1 + .3)^2) = .25 - .1025.
    assert better.low < 0.1475 < better.mean + (better.mean - better.low)
    assert not worse.passed
    assert worse.mean < -0.1
    assert better.users == 1_500
    assert 0 < better.effective_steps < better.steps


def test_the_current_version_itself_is_let_through_and_gains_nothing():
    same = gate(traffic(1), STD, NOW, NOW)
    assert same.passed
    assert same.mean == same.low == 0.0


def test_where_dials_do_nothing_hardly_anything_passes():
    passed = [gate(traffic(seed, 400, gains=False), STD, NOW, BETTER).passed for seed in range(60)]
    assert sum(passed) <= 8  # one in twenty is meant


def test_one_user_with_a_million_steps_is_one_user():
    steps, many = traffic(2), 100_000
    rng = np.random.default_rng(9)
    z = rng.normal(size=(many, DIALS))
    # Gains a lot whenever the dials are turned the wrong way.
    flood = Steps(
        np.full(many, 10**6), rng.normal(size=(many, SEES)), STD * z, z, 1_000.0 * (z[:, 0] < 0)
    )  # fmt: skip
    both = Steps(*(np.concatenate(of) for of in zip(steps, flood, strict=True)))
    assert not gate(both, STD, NOW, WORSE).passed
    assert (fair(both).user == 10**6).sum() == OF_USER
    assert fair(both).gain.max() < 10.0


def test_a_hundredth_of_users_that_lie_do_not_push_a_bad_version_through():
    for seed in range(10):
        steps = traffic(seed, 2_000)
        liars = steps.user < 20
        gain = np.where(liars, 50.0 * (steps.action[:, 0] < 0), steps.gain)
        assert not gate(steps._replace(gain=gain), STD, NOW, WORSE).passed


def test_the_latest_steps_of_each_user_are_kept_in_their_order():
    user = np.array([0] * (OF_USER + 2) + [1, 1])
    n = len(user)
    steps = Steps(user, np.zeros((n, 1)), np.zeros((n, 1)), np.zeros((n, 1)), np.arange(n, dtype=float))
    kept = fair(steps)
    assert kept.user.tolist() == [0] * OF_USER + [1, 1]
    assert kept.gain[1:-1].tolist() == list(range(3, n - 1))


def test_a_handful_of_users_decides_nothing():
    with pytest.raises(BadRequest, match="twenty users"):
        gate(traffic(3, users=19), STD, NOW, BETTER)
