"""How wrong a fit is on rows it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from gcompile.energy.calibration.prior import Vector

FOLDS = 5
MIN_FAMILY = 4
"""A family with fewer rows is not left out by itself."""

Fitter = Callable[[Vector, Vector], Vector]
Groups = NDArray[np.int64]


def fold_errors(amounts: Vector, measured: Vector, fitter: Fitter, seed: int = 0) -> Vector:
    """Return the relative error of each row, predicted from the other four fifths."""
    order = np.random.default_rng(seed).permutation(len(measured))
    groups = np.empty(len(measured), dtype=np.int64)
    groups[order] = np.arange(len(measured)) % FOLDS
    return _left_out(amounts, measured, fitter, groups)


def family_errors(
    amounts: Vector, measured: Vector, families: Sequence[Hashable], fitter: Fitter
) -> Vector | None:
    """Return the relative error of rows whose family was left out; None with one family only."""
    known = list(dict.fromkeys(families))
    groups = np.array([known.index(family) for family in families])
    sizes = np.bincount(groups)
    large = [g for g, size in enumerate(sizes) if MIN_FAMILY <= size <= len(groups) - MIN_FAMILY]
    if not large:
        return None
    errors = _left_out(amounts, measured, fitter, np.where(np.isin(groups, large), groups, -1))
    chosen: Vector = errors[np.isin(groups, large)]
    return chosen


def _left_out(amounts: Vector, measured: Vector, fitter: Fitter, groups: Groups) -> Vector:
    errors = np.full(len(measured), np.nan)
    for group in np.unique(groups[groups >= 0]):
        held = groups == group
        found = fitter(amounts[~held], measured[~held])
        errors[held] = amounts[held] @ found / measured[held] - 1
    return errors
