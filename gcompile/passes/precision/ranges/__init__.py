"""The ranges of values: observed on calibration rows, and clipped where that costs least."""

from gcompile.passes.precision.ranges.choose_range import RangeMethod, choose_range
from gcompile.passes.precision.ranges.histogram import (
    Histogram,
    check_finite,
    collect_histograms,
    largest_magnitudes,
    needs_calibration,
)

__all__ = [
    "Histogram",
    "RangeMethod",
    "check_finite",
    "choose_range",
    "collect_histograms",
    "largest_magnitudes",
    "needs_calibration",
]
