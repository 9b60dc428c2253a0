"""The squared error of clipping and rounding, where numbers lie evenly inside each bin.

With t = x / scale and its nearest integer n, the rounding error is (t - n) · scale, and

    F(x) = integral of the squared error up to x = scale^3 · (n / 12 + (t - n)^3 / 3) + constant

inside the range; outside it grows by (x - end)^3 / 3. The error of a bin is the difference of F
over its width: exact, however the width compares with the scale.
"""

from __future__ import annotations

import numpy as np

from gcompile.passes.precision.affine import U8_MAX, Affine
from gcompile.passes.precision.ranges.histogram import Histogram


def squared_error(histogram: Histogram, low: float, high: float) -> float:
    """Sum of squared errors of all numbers counted, with 256 steps from `low` to `high`."""
    mapping = Affine.for_range(low, high)
    steps = histogram.edges / mapping.scale
    first, last = -mapping.zero_point, U8_MAX - mapping.zero_point
    inside = np.minimum(np.maximum(steps, first), last)
    nearest = np.rint(inside)
    off, outside = inside - nearest, steps - inside
    # Products of three, as powers of three take ten times as long.
    integral = nearest / 12 + (off * off * off + outside * outside * outside) / 3
    mean = np.diff(integral) * mapping.scale**3 / histogram.width
    return float(mean @ histogram.counts)
