"""Choose where to clip a value, from the histogram of what it was."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from functools import lru_cache

import numpy as np

from gcompile.passes.precision.ranges.entropy import divergence
from gcompile.passes.precision.ranges.histogram import Histogram
from gcompile.passes.precision.ranges.squared_error import squared_error

_FRACTIONS = np.geomspace(1.0, 0.02, 96)

Loss = Callable[[Histogram, float, float], float]
"""What is lost when a value is clipped to [low, high] and rounded to 256 steps."""


class RangeMethod(StrEnum):
    """How an activation's range is read off its histogram.

    `mean-minmax` takes the mean over inferences of their extremes, as NNCF does by default.
    """

    MINMAX = "minmax"
    MEAN_MINMAX = "mean-minmax"
    PERCENTILE = "percentile"
    MSE = "mse"
    ENTROPY = "entropy"


@lru_cache(maxsize=1024)
def choose_range(
    histogram: Histogram, method: RangeMethod, percentile: float = 99.99
) -> tuple[float, float]:
    """The range to represent: [low, high]; values outside saturate."""
    match method:
        case RangeMethod.MINMAX:
            return histogram.low, histogram.high
        case RangeMethod.MEAN_MINMAX:
            return histogram.usual or (histogram.low, histogram.high)
        case RangeMethod.PERCENTILE:
            return _percentile_range(histogram, percentile)
        case RangeMethod.MSE:
            return _range_of_least(squared_error, histogram)
        case RangeMethod.ENTROPY:
            return _range_of_least(divergence, histogram)


def _percentile_range(histogram: Histogram, percentile: float) -> tuple[float, float]:
    tail = (1.0 - percentile / 100.0) / 2 if histogram.low < 0 else 1.0 - percentile / 100.0
    counts = np.append(histogram.counts, 0)
    counts[np.searchsorted(histogram.edges, 0.0, side="right") - 1] += histogram.zeros
    share = np.cumsum(counts) / max(int(counts.sum()), 1)
    last = int(np.searchsorted(share, 1.0 - tail))
    first = int(np.searchsorted(share, tail, side="right")) if histogram.low < 0 else 0
    high = min(histogram.low + histogram.width * (last + 1), histogram.high)
    return histogram.low + histogram.width * first, high


def _range_of_least(loss: Loss, histogram: Histogram) -> tuple[float, float]:
    """Shrink both ends together, then each alone, to the least loss."""
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    if histogram.low == histogram.high:
        return low, high
    both = min(_FRACTIONS, key=lambda f: loss(histogram, low * f, high * f))
    top = min(_FRACTIONS, key=lambda f: loss(histogram, low * both, high * f))
    bottom = min(_FRACTIONS, key=lambda f: loss(histogram, low * f, high * top))
    return low * float(bottom), high * float(top)
