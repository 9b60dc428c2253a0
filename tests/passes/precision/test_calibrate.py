from __future__ import annotations

import numpy as np
import pytest

from gcompile import ir, testing
from gcompile.errors import PassError, UsageError
from gcompile.passes.precision.affine import Affine
from gcompile.passes.precision.calibrate import (
    BINS,
    Histogram,
    RangeMethod,
    check_finite,
    choose_range,
    collect_histograms,
)
from tests.passes.precision.models import HEADER, context


def histogram_of(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Histogram:
    low, high = float(values.min()), float(values.max())
    return Histogram(low, high, np.histogram(values, BINS, (low, high))[0].astype(np.int64))


def test_min_and_max_are_those_of_all_rows() -> None:
    model = ir.parse(HEADER + "g (float[1,4] x) => (float[1,4] y) { r = Relu(x) y = Neg(r) }")
    ctx = context(model, rows=40)
    assert ctx.calibration is not None
    assert ctx.run is not None
    rows = ctx.calibration["x"].astype(np.float64)
    found = collect_histograms(model, ["x", "r"], ctx.calibration, ctx.run)
    assert (found["x"].low, found["x"].high) == (rows.min(), rows.max())
    assert (found["r"].low, found["r"].high) == (0.0, rows.max())
    assert found["x"].counts.sum() == rows.size


def test_a_runner_of_single_batches_sees_the_same_values() -> None:
    model = ir.parse(HEADER + "g (float[1,4] x) => (float[1,4] y) { r = Relu(x) y = Neg(r) }")
    ctx = context(model, rows=9)
    assert ctx.calibration is not None
    assert ctx.run is not None
    at_once = collect_histograms(model, ["r"], ctx.calibration, ctx.run)
    singly = collect_histograms(model, ["r"], ctx.calibration, testing.run)
    np.testing.assert_array_equal(at_once["r"].counts, singly["r"].counts)


def test_percentile_cuts_a_lone_outlier_and_minmax_keeps_it() -> None:
    values = np.concatenate([np.linspace(0.0, 1.0, 100_000), [50.0]])
    assert choose_range(histogram_of(values), RangeMethod.MINMAX) == (0.0, 50.0)
    low, high = choose_range(histogram_of(values), RangeMethod.PERCENTILE, 99.9)
    assert low == 0.0
    assert 0.9 < high < 1.2


def test_percentile_cuts_both_ends_of_a_signed_value() -> None:
    values = np.concatenate([np.linspace(-1.0, 1.0, 100_000), [-9.0, 9.0]])
    low, high = choose_range(histogram_of(values), RangeMethod.PERCENTILE, 99.9)
    assert -1.2 < low < -0.9
    assert 0.9 < high < 1.2


@pytest.mark.parametrize("seed", range(3))
def test_least_error_range_beats_the_whole_range_on_long_tails(seed: int) -> None:
    values = np.random.default_rng(seed).laplace(size=50_000)
    histogram = histogram_of(values)

    def error(bounds: tuple[float, float]) -> float:
        return float(((Affine.for_range(*bounds).round_trip(values) - values) ** 2).mean())

    whole = error(choose_range(histogram, RangeMethod.MINMAX))
    assert error(choose_range(histogram, RangeMethod.MSE)) < 0.95 * whole


def test_nan_in_a_row_is_refused_by_name() -> None:
    rows = np.zeros((5, 3), np.float32)
    rows[3, 1] = np.nan
    with pytest.raises(UsageError, match=r"'x' of the calibration rows holds NaN.* in row 3"):
        check_finite("x", rows, "calibration")


def test_a_value_that_becomes_infinite_is_refused_by_name() -> None:
    model = ir.parse(HEADER + "g (float[1,2] x) => (float[1,2] y) { r = Log(x) y = Neg(r) }")
    ctx = context(model, rows=3)
    assert ctx.run is not None
    with pytest.raises(PassError, match="'r' becomes NaN or infinite"):
        collect_histograms(model, ["r"], {"x": np.zeros((3, 2), np.float32)}, ctx.run)
