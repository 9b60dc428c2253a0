"""Observe on calibration rows how often a value falls where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gcompile import ir
from gcompile.errors import PassError, UsageError
from gcompile.passes.base import Arrays, PassContext, Runner
from gcompile.passes.precision.run_rows import RowRunner, batches, inferences, run_rows

BINS = 2048
_SAMPLES_PER_RUN = 1 << 17
_VOUCHING = 3
"""Inferences that are enough to see whether rows depend on each other."""


@dataclass(frozen=True, eq=False)
class Histogram:
    """How often a value fell where: equal bins from `low` to `high`, the extremes seen.

    Attributes:
        counts: Numbers in each bin that are not zero.
        zeros: How many are exactly zero, as most are after a Relu: every range represents them.
        usual: The mean over inferences of the least and of the greatest number in each; None
            where inferences were not told apart.
    """

    low: float
    high: float
    counts: NDArray[np.int64]
    zeros: int = 0
    usual: tuple[float, float] | None = None

    @property
    def width(self) -> float:
        """The width of one bin."""
        return (self.high - self.low) / len(self.counts)

    @cached_property
    def edges(self) -> NDArray[np.float64]:
        """Where bins begin, and where the last one ends."""
        return np.linspace(self.low, self.high, len(self.counts) + 1)

    @property
    def centers(self) -> NDArray[np.float64]:
        """The middle of each bin."""
        return np.asarray(self.low + self.width * (np.arange(len(self.counts)) + 0.5))


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
    if isinstance(run, RowRunner):
        # The model itself shows that its rows are independent: of what is watched there is much.
        run_rows(model, next(batches(calibration, model, _VOUCHING)), run)
    extremes = {name: _Extremes() for name in names}
    pieces = list(batches(calibration, watched))
    kept = run_rows(watched, pieces[0], run, model)  # Rows that fit one run are run once.
    for piece in pieces:
        outputs = {
            **piece,
            **(kept if piece is pieces[0] else run_rows(watched, piece, run, model)),
        }
        for name in names:
            _check_observed(name, outputs[name])
            extremes[name].add(outputs[name], inferences(piece, watched))
    counts = {name: np.zeros(BINS, np.int64) for name in names}
    zeros = dict.fromkeys(names, 0)
    for piece in pieces:
        outputs = {
            **piece,
            **(kept if piece is pieces[0] else run_rows(watched, piece, run, model)),
        }
        for name in names:
            counted, zero = _count(outputs[name], extremes[name].low, extremes[name].high)
            counts[name] += counted
            zeros[name] += zero
    return {
        name: Histogram(seen.low, seen.high, counts[name], zeros[name], seen.usual)
        for name, seen in extremes.items()
    }


def largest_magnitudes(
    model: ir.Model, names: Sequence[str], calibration: Arrays, run: Runner
) -> dict[str, float]:
    """Run the model on all rows and find how far from zero each named value goes; perhaps inf."""
    watched = expose(model, names)
    largest = dict.fromkeys(names, 0.0)
    for piece in batches(calibration, watched):
        outputs = {**piece, **run_rows(watched, piece, run)}
        for name in names:
            found = float(np.abs(outputs[name].astype(np.float64)).max(initial=0.0))
            largest[name] = max(largest[name], np.inf if np.isnan(found) else found)
    return largest


def expose(model: ir.Model, names: Sequence[str]) -> ir.Model:
    """Copy the model with the named values as extra outputs."""
    copy = model.clone()
    found = {str(v.name): v for node in copy.graph for v in node.outputs if v.name}
    found |= {str(v.name): v for v in copy.graph.inputs}
    present = {str(v.name) for v in copy.graph.outputs}
    copy.graph.outputs.extend(found[name] for name in dict.fromkeys(names) if name not in present)
    return copy


@dataclass
class _Extremes:
    """The least and the greatest number of a value, of all inferences and in their mean."""

    low: float = np.inf
    high: float = -np.inf
    lows: float = 0.0
    highs: float = 0.0
    count: int = 0

    @property
    def usual(self) -> tuple[float, float]:
        return self.lows / self.count, self.highs / self.count

    def add(self, array: NDArray[np.generic], count: int) -> None:
        """Take the outputs of `count` inferences, joined along axis 0."""
        each = array.reshape(count, -1)
        lows, highs = each.min(axis=1), each.max(axis=1)
        self.low, self.high = min(self.low, float(lows.min())), max(self.high, float(highs.max()))
        self.lows += float(lows.sum(dtype=np.float64))
        self.highs += float(highs.sum(dtype=np.float64))
        self.count += count


def _check_observed(name: str, array: NDArray[np.generic]) -> None:
    if not np.isfinite(array).all():
        raise PassError(
            f"Value {name!r} becomes NaN or infinite on the calibration rows, so it has no range "
            "to quantize. Check the rows and the model."
        )


def _count(array: NDArray[np.generic], low: float, high: float) -> tuple[NDArray[np.int64], int]:
    """How many numbers fall into each bin, and how many are zero."""
    flat = array.reshape(-1)
    sampled = flat[:: -(-flat.size // _SAMPLES_PER_RUN)]
    # In double precision, so that there is room for bins between neighbouring floats.
    numbers = sampled[sampled != 0].astype(np.float64)
    counted, _ = np.histogram(numbers, bins=BINS, range=(low, high) if high > low else None)
    return counted.astype(np.int64), sampled.size - numbers.size
