"""User agents learn from logged traffic: towards what pays, at the pace that logged chances allow."""

import jax
import numpy as np
import pytest

from upwell.agents.dials import TURNS
from upwell.agents.network import first_policy, forward
from upwell.agents.observe import SEES
from upwell.online.experience import Step
from upwell.online.update import FURTHEST, Logged, arrays_of, first_judge, update

DIALS, SEEN, STD = len(TURNS["user"]), len(SEES["user"]), 0.15
BEST = np.zeros(DIALS, np.float32)
BEST[:3] = 0.4, -0.4, 0.2


def traffic(rng: np.random.Generator, user, many: int = 6_000, chance: float = 0.3) -> Logged:
    """Steps under the policy: the nearer the dials come to ``BEST``, the more is gained."""
    seen, z = (rng.normal(size=(many, n)).astype(np.float32) for n in (SEEN, DIALS))
    action = np.asarray(forward(np, user, seen)) + np.float32(STD) * z
    gain = 0.3 * seen[:, 0] - ((action - BEST) ** 2).sum(-1) + chance * rng.normal(size=many)
    return Logged(seen, action, z, gain.astype(np.float32), np.ones(many, np.float32), rng.permutation(seen))


def away(user) -> float:
    """How far the mean dials are from the best ones."""
    seen = np.random.default_rng(0).normal(size=(500, SEEN)).astype(np.float32)
    return float(np.sqrt(((np.asarray(forward(np, user, seen)) - BEST) ** 2).sum(-1)).mean())


@pytest.mark.slow
def test_dials_come_to_where_they_pay():
    rng, judge, user = np.random.default_rng(3), first_judge(3), first_policy(3).user
    before = away(user)
    for n in range(25):
        judge, learned, report = update(judge, user, traffic(rng, user), STD, jax.random.key(n))
        user = jax.tree.map(np.asarray, learned)  # each goes live
    assert before == pytest.approx(0.6, abs=0.01)
    assert away(user) < 0.3
    assert float(report["value_error"]) < 1.0


@pytest.mark.slow
def test_updates_that_never_go_live_stay_near_what_is():
    """However often one learns: a policy that drifts off the traffic is one that nothing is known of."""
    rng, judge, live = np.random.default_rng(4), first_judge(3), first_policy(3).user
    steps, apart = traffic(rng, live), []
    for n in range(12):
        judge, learned, report = update(judge, live, steps, STD, jax.random.key(n))
        off = np.asarray(forward(np, jax.tree.map(np.asarray, learned), steps.seen)) - forward(np, live, steps.seen)
        apart.append(float((off**2).sum(-1).mean()) / (2.0 * STD**2))
        assert np.isfinite(float(report["surrogate"]))
    assert max(apart) < 1.5 * FURTHEST
    assert min(apart) > 0.0


def test_steps_become_arrays():
    one = Step("u", 0, "v", np.ones(SEEN, np.float32), np.ones(DIALS, np.float32), np.zeros(DIALS, np.float32), 0.5,
               None, 0, 0)  # fmt: skip
    two = Step("u", 0, "v", np.ones(SEEN, np.float32), np.ones(DIALS, np.float32), np.zeros(DIALS, np.float32), 0.25,
               np.full(SEEN, 2.0, np.float32), 0, 0)  # fmt: skip
    logged = arrays_of([one, two])
    assert logged.gain.tolist() == [0.5, 0.25]
    assert logged.goes_on.tolist() == [0.0, 1.0]
    assert logged.next_seen[1].tolist() == [2.0] * SEEN
