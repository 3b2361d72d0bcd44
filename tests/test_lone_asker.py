"""The system agent's score of a content that asks alone: worked by hand."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from upwell.agents import system
from upwell.agents.system import SystemDials

WEIGHTS = (0.4, 0.3, 0.3)
FIRST, NOBODY, ALL = ([True, False, False], [False] * 3, [True] * 3)


def score(xp, match, bid, asks) -> np.ndarray:
    boost = xp.zeros(3, xp.float32)
    return np.asarray(system.score(xp, xp.asarray(match), xp.asarray(bid), boost, xp.asarray(asks), WEIGHTS)[0])


@pytest.mark.parametrize("xp", [np, jnp])
def test_who_asks_alone_is_compared_with_all_contents(xp):
    """Of 1, 0, 0 the mean is 1/3 and the variance 2/9: z is √2, and the logistic of 1.7·√2 is 0.9171."""
    one = np.asarray([1.0, 0.0, 0.0], np.float32)
    good = score(xp, one, one, FIRST)[0]
    assert good == pytest.approx(0.4 * 0.9171 + 0.3 * 0.9171 + 0.3 * 0.5, abs=1e-4)  # 0.792
    assert good > SystemDials().approval
    # z of the others is -1/√2: the logistic of -1.2021 is 0.2311.
    poor = score(xp, 1.0 - one, 1.0 - one, FIRST)[0]
    assert poor == pytest.approx(0.7 * (1.0 - 0.9171) + 0.3 * 0.5, abs=1e-4)
    assert poor < SystemDials().approval


@pytest.mark.parametrize("xp", [np, jnp])
def test_with_several_only_those_who_ask_count(xp):
    """Of 1 and 0 the mean is 1/2 and the variance 1/4: z is 1, and the logistic of 1.7 is 0.8455."""
    match = np.asarray([1.0, 0.0, 9.0], np.float32)
    two = score(xp, match, match, [True, True, False])
    assert two[0] == pytest.approx(0.7 * 0.8455 + 0.3 * 0.5, abs=1e-4)
    assert two[1] == pytest.approx(0.7 * (1.0 - 0.8455) + 0.3 * 0.5, abs=1e-4)
    np.testing.assert_allclose(score(xp, match, match, NOBODY), score(xp, match, match, ALL))
