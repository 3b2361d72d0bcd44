"""Off-policy evaluation: what another policy would have earned on traffic that this one was logged on.

A sample is a choice that was made with a known chance (or density) and what came of it. Samples of one user hang
together, so that intervals go by clusters. Estimators differ in what they trust: the logged chances (``ips``,
``snips``), a model of rewards (``dm``), or each where it is better (``dr``, ``switch_dr``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from upwell.errors import BadRequest

Floats = npt.NDArray[np.float64]


class Samples(NamedTuple):
    """Logged choices ``[N]``, and what the policy that is asked about would have done with each."""

    reward: Floats
    weight: Floats  # its chance of the logged action over the logged chance
    cluster: npt.NDArray[np.int64]  # whose choice it was: 0 … C-1
    expected_logged: Floats  # the model's reward of the logged action
    expected_target: Floats  # the model's mean reward of its actions


class Estimate(NamedTuple):
    """A mean reward with its interval."""

    mean: float
    low: float
    high: float
    effective_samples: float


REACH = float(ndtri(0.975))
"""Standard errors to either end of a 95% interval."""

Estimator = Callable[[Samples, float], Floats]
"""Of samples and the most that a weight may be: terms ``[N]`` whose mean is the estimate."""


def ips(samples: Samples, most: float) -> Floats:
    """Inverse propensity scores (Horvitz & Thompson 1952), weights cut at ``most``."""
    return np.minimum(samples.weight, most) * samples.reward


def snips(samples: Samples, most: float) -> Floats:
    """Self-normalised (Swaminathan & Joachims 2015, "The self-normalized estimator for counterfactual learning", 4).

    Terms are linearised around the ratio, so that their mean is it and their spread that of it.
    """
    weight = np.minimum(samples.weight, most)
    total = weight.mean()
    if total <= 0.0:
        raise BadRequest("no logged choice is one that the policy would make: nothing can be said of it")
    ratio = (weight * samples.reward).mean() / total
    return ratio + weight * (samples.reward - ratio) / total


def dm(samples: Samples, most: float) -> Floats:
    """Direct method: the model alone."""
    return samples.expected_target


def dr(samples: Samples, most: float) -> Floats:
    """Doubly robust (Dudik, Langford & Li 2011, arXiv 1103.4601, eq. 2): right where chances or the model are."""
    return samples.expected_target + np.minimum(samples.weight, most) * (samples.reward - samples.expected_logged)


def switch_dr(samples: Samples, most: float) -> Floats:
    """Doubly robust up to a weight of ``most``, the model alone beyond it (Wang, Agarwal & Dudik 2017, arXiv
    1612.01205, 4)."""
    trusted = samples.weight <= most
    return samples.expected_target + trusted * samples.weight * (samples.reward - samples.expected_logged)


ESTIMATORS: dict[str, Estimator] = {"ips": ips, "snips": snips, "dm": dm, "dr": dr, "switch_dr": switch_dr}


def estimate(samples: Samples, estimator: Estimator, most: float = 20.0) -> Estimate:
    """The mean reward of the policy that is asked about, with a two-sided 95% interval.

    Args:
        most: see ``Estimator``.

    Raises:
        BadRequest: without two clusters there is no interval.
    """
    mean, error = mean_by_cluster(estimator(samples, most), samples.cluster)
    reach = REACH * error
    return Estimate(mean, mean - reach, mean + reach, effective_samples(np.minimum(samples.weight, most)))


def effective_samples(weight: Floats) -> float:
    """How many samples of equal weight tell as much: (sum w)^2 / sum w^2 (Kish 1965)."""
    return float(weight.sum() ** 2 / np.maximum((weight**2).sum(), 1e-300))


def lower_bound(ours: Floats, theirs: Floats, cluster: npt.NDArray[np.int64], confidence: float) -> tuple[float, float]:
    """Mean difference of two estimators' terms on the same samples, and its one-sided lower bound."""
    mean, error = mean_by_cluster(ours - theirs, cluster)
    return mean, mean - float(ndtri(confidence)) * error


def mean_by_cluster(terms: Floats, cluster: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Mean of terms ``[N]`` and its standard error when the terms of a cluster hang together.

    Linearised ratio of sums over clusters (Cochran 1977, 6.3). Raises BadRequest with fewer than two clusters.
    """
    many = int(cluster.max(initial=-1)) + 1
    if many < 2:
        raise BadRequest("choices of at least two users are needed for an interval")
    mean = float(terms.mean())
    off = np.bincount(cluster, weights=terms - mean, minlength=many)
    return mean, float(np.sqrt((off**2).sum() * many / (many - 1)) / len(terms))
