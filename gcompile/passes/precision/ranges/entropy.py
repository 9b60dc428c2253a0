"""The information lost by clipping and rounding: the Kullback-Leibler divergence.

    D(P || Q) = sum over bins of P · log(P / Q)

P is the distribution seen, with what is clipped added to the outermost bins; Q spreads what falls
on one step evenly over the bins of that step that are not empty. After Migacz, "8-bit Inference
with TensorRT", GPU Technology Conference 2017.
"""

from __future__ import annotations

import math

import numpy as np

from gcompile.passes.precision.affine import U8_MAX, Affine
from gcompile.passes.precision.ranges.histogram import Histogram


def divergence(histogram: Histogram, low: float, high: float) -> float:
    """The divergence in nats, with 256 steps from `low` to `high`; infinite where nothing is left.

    Zeros are left out: every mapping represents them.
    """
    mapping, centers = Affine.for_range(low, high), histogram.centers
    filled = np.flatnonzero((histogram.counts > 0) & (centers >= low) & (centers <= high))
    if not len(filled):
        return math.inf
    kept = histogram.counts[filled].astype(np.float64)
    step = np.rint(centers[filled] / mapping.scale).astype(np.int64) + mapping.zero_point
    step = np.clip(step, 0, U8_MAX)
    bins, mass = np.bincount(step), np.bincount(step, weights=kept)
    spread = (mass[step] / bins[step]) / kept.sum()
    seen = kept.copy()
    seen[0] += histogram.counts[: filled[0]].sum()
    seen[-1] += histogram.counts[filled[-1] + 1 :].sum()
    seen /= seen.sum()
    return float(seen @ np.log(seen / spread))
