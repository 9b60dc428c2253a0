"""Observe the ranges of values on calibration rows, and choose where to clip them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from gcompile import ir
from gcompile.errors import PassError, UsageError
from gcompile.passes.base import Arrays, PassContext, Runner
from gcompile.passes.precision.affine import Affine
from gcompile.passes.precision.run_rows import batches, run_rows

BINS = 2048
_SAMPLES_PER_RUN = 1 << 17
_FRACTIONS = np.linspace(1.0, 0.3, 71)


class RangeMethod(StrEnum):
    """How an activation's range is read off its histogram."""

    MINMAX = "minmax"
    PERCENTILE = "percentile"
    MSE = "mse"


@dataclass(frozen=True)
class Histogram:
    """How often a value fell where: equal bins from `low` to `high`, the extremes seen."""

    low: float
    high: float
    counts: NDArray[np.int64]

    @property
    def centers(self) -> NDArray[np.float64]:
        """The middle of each bin."""
        width = (self.high - self.low) / len(self.counts)
        return np.asarray(self.low + width * (np.arange(len(self.counts)) + 0.5))


def needs_calibration(pass_name: str, ctx: PassContext) -> tuple[Arrays, Runner]:
    """Return the calibration rows and the runner.

    Raises:
        PassError: One of them is missing: ranges are never guessed.
        UsageError: A row holds NaN or infinity.
    """
    if not ctx.calibration:
        raise PassError(
            f"Pass {pass_name!r} needs calibration rows to know the range of every value. "
            "Give some with --calib rows.npz."
        )
    if ctx.run is None:
        raise PassError(
            f"Pass {pass_name!r} needs a runner to observe values on calibration rows."
        )
    for name, array in ctx.calibration.items():
        check_finite(name, array, "calibration")
    return ctx.calibration, ctx.run


def check_finite(name: str, array: NDArray[np.generic], what: str) -> None:
    """Refuse NaN and infinity by name.

    Raises:
        UsageError: Naming the array and its first bad row.
    """
    if array.dtype.kind != "f" or array.ndim == 0:
        return
    bad = ~np.isfinite(array.reshape(len(array), -1)).all(axis=1)
    if bad.any():
        row = int(np.argmax(bad))
        raise UsageError(
            f"Array {name!r} of the {what} rows holds NaN or infinity in row {row}. "
            "Remove or repair the row."
        )


def collect_histograms(
    model: ir.Model, names: Sequence[str], calibration: Arrays, run: Runner
) -> dict[str, Histogram]:
    """Run the model on all rows and count where each named value falls.

    Two passes: the first finds the extremes, the second fills the bins between them.
    """
    watched = expose(model, names)
    low = dict.fromkeys(names, np.inf)
    high = dict.fromkeys(names, -np.inf)
    pieces = list(batches(calibration, watched))
    kept = run_rows(watched, pieces[0], run)  # Rows that fit one run are run once.
    for piece in pieces:
        outputs = {**piece, **(kept if piece is pieces[0] else run_rows(watched, piece, run))}
        for name in names:
            _check_observed(name, outputs[name])
            low[name] = min(low[name], float(outputs[name].min()))
            high[name] = max(high[name], float(outputs[name].max()))
    counts = {name: np.zeros(BINS, np.int64) for name in names}
    for piece in pieces:
        outputs = {**piece, **(kept if piece is pieces[0] else run_rows(watched, piece, run))}
        for name in names:
            counts[name] += _count(outputs[name], low[name], high[name])
    return {name: Histogram(low[name], high[name], counts[name]) for name in names}


def choose_range(
    histogram: Histogram, method: RangeMethod, percentile: float = 99.99
) -> tuple[float, float]:
    """The range to represent: [low, high]; values outside saturate."""
    match method:
        case RangeMethod.MINMAX:
            return histogram.low, histogram.high
        case RangeMethod.PERCENTILE:
            return _percentile_range(histogram, percentile)
        case RangeMethod.MSE:
            return _least_error_range(histogram)


def expose(model: ir.Model, names: Sequence[str]) -> ir.Model:
    """Copy the model with the named values as extra outputs."""
    copy = model.clone()
    found = {str(v.name): v for node in copy.graph for v in node.outputs if v.name}
    found |= {str(v.name): v for v in copy.graph.inputs}
    present = {str(v.name) for v in copy.graph.outputs}
    copy.graph.outputs.extend(found[name] for name in dict.fromkeys(names) if name not in present)
    return copy


def _check_observed(name: str, array: NDArray[np.generic]) -> None:
    if not np.isfinite(array).all():
        raise PassError(
            f"Value {name!r} becomes NaN or infinite on the calibration rows, so it has no range "
            "to quantize. Check the rows and the model."
        )


def _count(array: NDArray[np.generic], low: float, high: float) -> NDArray[np.int64]:
    flat = array.reshape(-1)
    stride = -(-flat.size // _SAMPLES_PER_RUN)
    counted, _ = np.histogram(flat[::stride], bins=BINS, range=(low, high) if high > low else None)
    return counted.astype(np.int64)


def _percentile_range(histogram: Histogram, percentile: float) -> tuple[float, float]:
    tail = (1.0 - percentile / 100.0) / 2 if histogram.low < 0 else 1.0 - percentile / 100.0
    share = np.cumsum(histogram.counts) / max(int(histogram.counts.sum()), 1)
    width = (histogram.high - histogram.low) / BINS
    last = int(np.searchsorted(share, 1.0 - tail))
    first = int(np.searchsorted(share, tail, side="right")) if histogram.low < 0 else 0
    high = min(histogram.low + width * (last + 1), histogram.high)
    return histogram.low + width * first, high


def _least_error_range(histogram: Histogram) -> tuple[float, float]:
    """Shrink both ends together, then each alone, to the least squared error."""
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    both = min(_FRACTIONS, key=lambda f: _error(histogram, low * f, high * f))
    top = min(_FRACTIONS, key=lambda f: _error(histogram, low * both, high * f))
    bottom = min(_FRACTIONS, key=lambda f: _error(histogram, low * f, high * top))
    return low * float(bottom), high * float(top)


def _error(histogram: Histogram, low: float, high: float) -> float:
    centers = histogram.centers
    error = (Affine.for_range(low, high).round_trip(centers) - centers) ** 2
    return float(error @ histogram.counts)
