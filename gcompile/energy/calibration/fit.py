"""Fit coefficients to rows: non-negative least squares on relative errors, with a ridge.

    minimise  sum over rows  ((amounts · c - y) / (y · noise))²
            + sum over terms ((c / s - mean) / deviation)²          c >= 0

The terms are collinear: a plain fit zeroes some and blows up others. The ridge pulls them towards
the shares they have on other boards. The factor s, how much this board costs in all, has no prior
and is found by alternating with c.
"""

from __future__ import annotations

import numpy as np

from gcompile.energy.calibration.prior import Prior, Vector

_ROUNDS = 12
_RESAMPLES = 100


def fit(amounts: Vector, measured: Vector, prior: Prior) -> Vector:
    """Return the cost of one unit of each term.

    Args:
        amounts: One line per row, one column per term.
        measured: Joules, or seconds, of each row; positive.
        prior: What the coefficients are like, but for a factor.
    """
    from scipy.optimize import nnls  # Importing it takes a third of a second.

    relative = amounts / measured[:, None]
    scale = scale_of(relative, prior)
    found = prior.mean * scale
    for _ in range(_ROUNDS):
        # In units of the deviation all unknowns are of one size, which NNLS needs.
        unit = prior.deviation * scale
        system = np.vstack([relative * unit / prior.noise, np.eye(len(unit))])
        wanted = np.concatenate(
            [np.full(len(measured), 1 / prior.noise), prior.mean / prior.deviation]
        )
        found = nnls(system, wanted)[0] * unit
        scale = _nearest_scale(found, prior, scale)
    return found


def scale_of(relative: Vector, prior: Prior) -> float:
    """Return the factor by which rows cost more than the prior's typical board."""
    return float(np.median(1 / (relative @ prior.mean)))


def intervals(
    amounts: Vector, measured: Vector, prior: Prior, seed: int = 0
) -> tuple[Vector, Vector]:
    """Return the 5th and 95th percentile of each coefficient over resampled rows (bootstrap)."""
    rng = np.random.default_rng(seed)
    count = len(measured)
    fits = []
    for _ in range(_RESAMPLES):
        drawn = rng.integers(0, count, count)
        fits.append(fit(amounts[drawn], measured[drawn], prior))
    low, high = np.percentile(np.array(fits), [5, 95], axis=0)
    return low, high


def _nearest_scale(found: Vector, prior: Prior, fallback: float) -> float:
    """Return the s for which found / s is nearest to the prior."""
    weighed = found / prior.deviation**2
    along = float(weighed @ prior.mean)
    return float(weighed @ found) / along if along > 0 else fallback
