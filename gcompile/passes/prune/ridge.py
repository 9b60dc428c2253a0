"""Ridge regression of what a product misses on what it reads.

    D = (cov(x) + λ)⁻¹ · cov(x, r),    b = mean(r) - mean(x) · D

minimises |r - x · D - b|² + λ |D|²: the correction D to weights, and b to the bias. The larger λ,
the less is read out of few rows. Where none is given, λ is what explains held-out rows best.
"""

from __future__ import annotations

import numpy as np

from gcompile.passes.prune.matrices import Matrix
from gcompile.passes.prune.moments import Moments

RIDGES = tuple(10.0**power for power in (-3, -2, -1, 0, 1))


def correction(moments: Moments, ridge: float, *, centred: bool) -> Matrix:
    """The correction to the weights, as (K, N).

    Args:
        moments: Of the inputs x and of what is missed, r.
        ridge: λ as a share of the mean variance of the inputs.
        centred: Whether the bias takes care of the means.
    """
    covariance = moments.covariance(centred=centred)
    damped = covariance + damping(covariance, ridge) * np.eye(len(covariance))
    return np.asarray(np.linalg.solve(damped, moments.cross(centred=centred)), np.float64)


def best_ridge(seen: Moments, held_out: Moments, *, centred: bool) -> float:
    """The ridge whose correction, fitted to the rows seen, leaves least on the rows held out."""
    covariance = held_out.covariance(centred=centred)
    cross = held_out.cross(centred=centred)

    def left(ridge: float) -> float:
        """The mean square that is left of r, less that of r."""
        found = correction(seen, ridge, centred=centred)
        return float(np.einsum("kn,kn->", found, covariance @ found - 2 * cross))

    return min(RIDGES, key=left)


def damping(covariance: Matrix, ridge: float) -> float:
    """The ridge as a number: a share of the mean variance."""
    return max(ridge * float(np.trace(covariance)) / len(covariance), 1e-30)
