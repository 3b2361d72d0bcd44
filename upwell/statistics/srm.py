"""Sample-ratio mismatch: arms that do not hold the shares of units that they should, so no effect can be trusted."""

from __future__ import annotations

import numpy as np
from scipy import stats
from scipy.special import gammaln, logsumexp, xlogy

from upwell.errors import BadRequest
from upwell.statistics.moments import Floats

ALARM = 0.001
"""p-values below it are an alarm: assignment must be all but certainly broken before an experiment is thrown away
(Fabijan et al. 2019, "Diagnosing sample ratio mismatch in online controlled experiments")."""
CONCENTRATIONS = (100.0, 10_000.0)
"""Of the mixtures: one finds large mismatches early, the other small ones with as few units as may be."""


def srm(counts: Floats, shares: Floats) -> float:
    """p-value of counts ``[A]`` of units in each arm against planned shares ``[A]``, for one look: chi-square.

    Raises:
        BadRequest: for counts below zero, and shares that are not above zero.
    """
    planned = checked(counts, shares)
    total = counts.sum()
    return float(stats.chisquare(counts, total * planned).pvalue) if total > 0.0 else 1.0


def sequential_srm(counts: Floats, shares: Floats) -> Floats:
    """p-values ``[...]`` of counts so far ``[..., A]`` that hold at every look together; counts of units, each once.

    One over the Bayes factor of Dirichlet mixtures around the planned shares against these (Lindon & Malek 2022, arXiv
    2011.03567), averaged over ``CONCENTRATIONS``. Raises BadRequest as ``srm``.
    """
    planned = checked(counts, shares)
    null, total = xlogy(counts, planned).sum(-1), counts.sum(-1)
    factors: list[Floats] = []
    for concentration in CONCENTRATIONS:
        prior = concentration * planned
        arms = (gammaln(prior + counts) - gammaln(prior)).sum(-1)
        factors.append(arms + gammaln(concentration) - gammaln(concentration + total) - null)
    return np.exp(-np.maximum(logsumexp(factors, axis=0) - np.log(len(factors)), 0.0))


def checked(counts: Floats, shares: Floats) -> Floats:
    """The shares, adding up to 1."""
    if shares.shape != counts.shape[-1:] or not (shares > 0.0).all():
        raise BadRequest("an experiment needs a share above zero for each arm")
    if not (counts >= 0.0).all():
        raise BadRequest("counts of units cannot be below zero")
    return shares / shares.sum()
