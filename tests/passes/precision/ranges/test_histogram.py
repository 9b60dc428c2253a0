from __future__ import annotations

import numpy as np
import pytest

from gcompile import ir, testing
from gcompile.errors import PassError, UsageError
from gcompile.passes.precision.ranges import (
    RangeMethod,
    check_finite,
    choose_range,
    collect_histograms,
)
from tests.passes.example_models import HEADER
from tests.passes.precision.models import context


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


@pytest.mark.parametrize("count", [1, 9, 40])
def test_usual_extremes_are_means_over_inferences_of_two_rows(count: int) -> None:
    model = ir.parse(HEADER + "g (float[2,4] x) => (float[2,4] y) { r = Neg(x) y = Neg(r) }")
    rows = np.random.default_rng(count).normal(size=(2 * count, 4)).astype(np.float32)
    ctx = testing.example_context(calibration={"x": rows})
    assert ctx.run is not None
    found = collect_histograms(model, ["x", "r"], {"x": rows}, ctx.run)
    each = rows.astype(np.float64).reshape(count, 8)
    usual = each.min(axis=1).mean(), each.max(axis=1).mean()
    assert found["x"].usual == pytest.approx(usual)
    assert found["r"].usual == pytest.approx((-usual[1], -usual[0]))
    assert choose_range(found["x"], RangeMethod.MEAN_MINMAX) == found["x"].usual


def test_values_that_hardly_differ_have_a_range() -> None:
    """Between neighbouring floats there is no room for bins of the same type."""
    model = ir.parse(HEADER + "g (float[1,2] x) => (float[1,2] y) { r = Relu(x) y = Neg(r) }")
    low = np.float32(1e5)
    rows = {"x": np.array([[low, np.nextafter(low, np.float32(np.inf))]], np.float32)}
    ctx = testing.example_context(calibration=rows)
    assert ctx.run is not None
    found = collect_histograms(model, ["r"], rows, ctx.run)["r"]
    assert found.counts.sum() == 2
    assert found.high > found.low


def test_zeros_are_counted_apart() -> None:
    model = ir.parse(HEADER + "g (float[1,4] x) => (float[1,4] y) { r = Relu(x) y = Neg(r) }")
    ctx = context(model, rows=40)
    assert ctx.calibration is not None
    assert ctx.run is not None
    found = collect_histograms(model, ["r"], ctx.calibration, ctx.run)["r"]
    positive = int((ctx.calibration["x"].astype(np.float64) > 0).sum())
    assert (found.counts.sum(), found.zeros) == (positive, 160 - positive)


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
