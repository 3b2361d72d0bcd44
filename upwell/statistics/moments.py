"""The sums that effects are computed of: they add up, so an experiment can be followed while it runs."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from upwell.errors import BadRequest

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

ROUNDING = 1e-12
"""Share of a mean square below which a variance is what floating point leaves of zero."""


class Table(NamedTuple):
    """An experiment in columns, a row a unit ``[N]``: a user, or whatever else was given an arm as a whole.

    The metric is the sum of numerators over the sum of denominators.
    """

    arm: Ints  # 0 (the control) … A-1
    numerator: Floats
    denominator: Floats | None = None  # None: ones, so that the metric is a mean over units
    pre: Floats | None = None  # [N] or [N, K], of the time before; NaN: the unit was not there
    cluster: Ints | None = None  # units that hang together, all of one arm; None: none do

    def rows(self, which: npt.NDArray[np.bool_]) -> Table:
        """Those of some units alone."""
        columns: list[Any] = [None if column is None else column[which] for column in self]
        return Table(*columns)


class Moments(NamedTuple):
    """Sums over an arm's clusters of their vectors ``[V]``: numerator, denominator, then covariates.

    Those of disjoint clusters add up. Of a user who comes back, what was there is taken out and what is there now is
    put in: ``all.minus(moments(before)).plus(moments(after))``. Squares are summed as they are, which is fine for
    counts and money, not for values whose spread is a millionth of their mean.
    """

    n: Floats  # [...] clusters
    sums: Floats  # [..., V]
    products: Floats  # [..., V, V]

    def plus(self, other: Moments) -> Moments:
        return Moments(self.n + other.n, self.sums + other.sums, self.products + other.products)

    def minus(self, other: Moments) -> Moments:
        return Moments(self.n - other.n, self.sums - other.sums, self.products - other.products)

    def at(self, index: int) -> Moments:
        """Those at a place of the first axis: an arm's."""
        return Moments(self.n[index], self.sums[index], self.products[index])

    @property
    def means(self) -> Floats:
        """``[..., V]``, over clusters."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.sums / self.n[..., None]

    @property
    def covariance(self) -> Floats:
        """``[..., V, V]``, of the means: that between clusters over their number. NaN with fewer than two."""
        outer = self.sums[..., :, None] * self.means[..., None, :]
        with np.errstate(divide="ignore", invalid="ignore"):
            return (self.products - outer) / (self.n * (self.n - 1.0))[..., None, None]


def moments(table: Table, arms: int) -> Moments:
    """Moments ``[arms]`` of a table. With ``pre``, covariates are whether a unit was there before, and its values.

    Raises:
        BadRequest: for columns that do not fit together, numbers that are not finite, denominators below zero, arms
            that do not exist, and clusters in two arms.
    """
    many = len(table.arm)
    below = np.ones(many) if table.denominator is None else table.denominator
    pre = np.empty((many, 0)) if table.pre is None else table.pre.reshape(len(table.pre), -1)
    if any(len(column) != many for column in (table.numerator, below, pre)):
        raise BadRequest(f"an experiment's columns must have a row for each of its {many:,} units")
    known = ~np.isnan(pre).any(axis=1)
    covariates = [known, *np.where(known, pre.T, 0.0)] if pre.shape[1] else []
    columns = np.stack([table.numerator, below, *covariates], axis=1).astype(np.float64)
    if not np.isfinite(columns).all() or (below < 0.0).any():
        raise BadRequest("numerators and denominators must be finite numbers, and denominators not below zero")
    return added(columns, table.arm, arms, table.cluster)


def added(columns: Floats, arm: Ints, arms: int, cluster: Ints | None) -> Moments:
    """Moments ``[arms]`` of vectors ``[N, V]`` that are summed by cluster first. Raises BadRequest as ``moments``."""
    if len(arm) and not 0 <= arm.min() <= arm.max() < arms:
        raise BadRequest(f"arms are numbered 0 to {arms - 1}, not {arm.min()} to {arm.max()}")
    if cluster is not None:
        if len(cluster) != len(arm):
            raise BadRequest(f"{len(cluster):,} clusters are given for {len(arm):,} units")
        _, first, whose = np.unique(cluster, return_index=True, return_inverse=True)
        if (arm[first][whose] != arm).any():
            raise BadRequest("a cluster is in two arms: cluster by what was given an arm, or by something larger")
        columns, arm = by_group(columns, whose, len(first)), arm[first]
    products = by_group(columns[:, :, None] * columns[:, None, :], arm, arms)
    return Moments(np.bincount(arm, minlength=arms).astype(np.float64), by_group(columns, arm, arms), products)


def by_group(values: Floats, group: Ints, groups: int) -> Floats:
    """Sums ``[groups, ...]`` of ``values [N, ...]`` by the group of each row."""
    shape = values.shape[1:]
    summed = np.empty((groups, int(np.prod(shape))))
    for sums, column in zip(summed.T, values.reshape(len(values), -1).T, strict=True):
        sums[:] = np.bincount(group, column, groups)
    return summed.reshape(groups, *shape)


def slopes(arm: Moments) -> Floats:
    """How the metric moves with each mean, ``[..., V]``: with the numerator's and the denominator's."""
    above, below = arm.means[..., 0], arm.means[..., 1]
    rest = np.zeros_like(arm.sums[..., 2:])
    return np.concatenate([np.stack([1.0 / below, -above / below**2], axis=-1), rest], axis=-1)


def covarying(arm: Moments, weights: Floats) -> Floats:
    """Covariance ``[..., V]`` of each mean with the weighted sum of the means."""
    return np.einsum("...ij,...j->...i", arm.covariance, weights)


def error2(arm: Moments, weights: Floats) -> Floats:
    """Variance ``[...]`` of the weighted sum of the means; 0 where no more than rounding is left of it."""
    variance = (weights * covarying(arm, weights)).sum(-1)
    return np.where(variance <= (weights**2 * rounding(arm)).sum(-1), 0.0, variance)


def rounding(arm: Moments) -> Floats:
    """What a mean's variance ``[..., V]`` may be by rounding alone."""
    return ROUNDING * np.diagonal(arm.products, axis1=-2, axis2=-1) / arm.n[..., None] ** 2
