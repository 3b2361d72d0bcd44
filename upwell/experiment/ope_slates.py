"""Off-policy evaluation of whole slates: rewards of all places, chances of each given those above it.

The estimators differ in what a place's reward may hang on: all of the slate, itself alone, or those above and itself.
The more it may, the fewer logged slates tell of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from upwell.experiment.ope import REACH, Estimate, effective_samples, mean_by_cluster

Floats = npt.NDArray[np.float64]


class Slates(NamedTuple):
    """Logged slates ``[N, K]``, and what the policy that is asked about would have done."""

    reward: Floats
    weight: Floats  # its chance of what stands at a place, given those above, over the logged chance
    cluster: npt.NDArray[np.int64]  # [N], whose slate it was: 0 … C-1


def whole(weight: Floats) -> Floats:
    """A reward hangs on all of the slate: every place by the weight of the whole (``sips``)."""
    return np.broadcast_to(weight.prod(1, keepdims=True), weight.shape)


def independent(weight: Floats) -> Floats:
    """A reward hangs on its place alone (Li et al. 2018, "Offline evaluation of ranking policies with click models",
    the item-position model; ``iips``)."""
    return weight


def cascade(weight: Floats) -> Floats:
    """A reward hangs on its place and those above it (McInerney et al. 2020, "Counterfactual evaluation of slate
    recommendations with sequential reward interactions", arXiv 2007.12986; ``rips``)."""
    return weight.cumprod(1)


WEIGHTS: dict[str, Callable[[Floats], Floats]] = {"sips": whole, "iips": independent, "rips": cascade}


def estimate(slates: Slates, name: str, most: float = 20.0) -> Estimate:
    """A slate's mean reward, all places together, with a 95% interval.

    Args:
        name: of ``WEIGHTS``.
        most: largest weight of a place.

    Raises BadRequest as ``ope.mean_by_cluster`` does.
    """
    weight = np.minimum(WEIGHTS[name](slates.weight), most)
    mean, error = mean_by_cluster((weight * slates.reward).sum(1), slates.cluster)
    return Estimate(mean, mean - REACH * error, mean + REACH * error, effective_samples(weight[:, -1]))
