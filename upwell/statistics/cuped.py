"""CUPED: what users did before an experiment explains much of how they differ in it, and is no effect of it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from upwell.errors import BadRequest
from upwell.statistics.moments import Floats, Moments, covarying, error2, rounding, slopes


class Adjusted(NamedTuple):
    """Both arms after CUPED, and the share of their difference's variance that it takes away, ``[...]``."""

    control: Moments
    treated: Moments
    variance_reduction: Floats


def cuped(control: Moments, treated: Moments) -> Adjusted:
    """Both arms without what the pre-period explains, to be compared as they would be.

    Deng, Xu, Kohavi & Walker 2013 ("Improving the sensitivity of online controlled experiments by utilizing
    pre-experiment data"), eq. 4, on the linearised metric as in Deng et al. 2023 (arXiv 2312.02935): theta · (a unit's
    covariates - their mean over both arms) is taken from it. Theta is one for both arms, the one by which their
    difference varies least. New users are not left out: whether a unit was there before is a covariate, too. Covariates
    must be such as the arm cannot move.

    Raises:
        BadRequest: where there are no covariates.
    """
    if control.sums.shape[-1] < 3:
        raise BadRequest("CUPED takes moments of a table with a pre-period: give its column `pre`")
    with np.errstate(divide="ignore", invalid="ignore"):
        ours, theirs = slopes(treated), slopes(control)
        shared = (covarying(control, theirs) + covarying(treated, ours))[..., 2:]
        theta = regressed(control, treated, shared)
        centre = control.plus(treated).means[..., 2:]
        reduction = (theta * shared).sum(-1) / (error2(control, theirs) + error2(treated, ours))
        return Adjusted(without(control, theta, centre), without(treated, theta, centre), reduction)


def regressed(control: Moments, treated: Moments, shared: Floats) -> Floats:
    """Theta ``[..., K]``: least squares of what varies with the covariates, ``shared``, on them.

    The shortest, where covariates say the same; 0 for one that does not vary.
    """
    within = (control.covariance + treated.covariance)[..., 2:, 2:]
    variance = np.diagonal(within, axis1=-2, axis2=-1)
    varies = variance > (rounding(control) + rounding(treated))[..., 2:]
    unit = np.where(varies, variance, np.inf) ** -0.5
    alike = np.nan_to_num(within * unit[..., :, None] * unit[..., None, :])
    inverse = np.linalg.pinv(alike, rcond=1e-9, hermitian=True)
    return unit * np.einsum("...ij,...j->...i", inverse, np.nan_to_num(shared * unit))


def without(arm: Moments, theta: Floats, centre: Floats) -> Moments:
    """Moments of (numerator - mean denominator · theta · (covariates - centre), denominator)."""
    pull = arm.means[..., 1, None] * theta
    rows = np.zeros((*arm.n.shape, 2, arm.sums.shape[-1]))
    rows[..., (0, 1), (0, 1)] = 1.0
    rows[..., 0, 2:] = -pull
    kept = np.einsum("...ij,...j->...i", rows, arm.sums)
    back = np.stack([(pull * centre).sum(-1), np.zeros_like(arm.n)], axis=-1)
    n, cross = arm.n[..., None], kept[..., :, None] * back[..., None, :]
    products = rows @ arm.products @ np.swapaxes(rows, -1, -2) + cross + np.swapaxes(cross, -1, -2)
    return Moments(arm.n, kept + n * back, products + n[..., None] * back[..., :, None] * back[..., None, :])
