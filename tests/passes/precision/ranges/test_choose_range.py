from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gcompile.passes.precision.affine import Affine
from gcompile.passes.precision.ranges import Histogram, RangeMethod, choose_range
from gcompile.passes.precision.ranges.entropy import divergence
from gcompile.passes.precision.ranges.histogram import BINS
from gcompile.passes.precision.ranges.squared_error import squared_error

Reals = NDArray[np.float64]


def histogram_of(values: Reals, bins: int = BINS) -> Histogram:
    low, high = float(values.min()), float(values.max())
    numbers = values[values != 0]
    counts = np.histogram(numbers, bins, (low, high))[0].astype(np.int64)
    return Histogram(low, high, counts, values.size - numbers.size)


def mean_error(values: Reals, bounds: tuple[float, float]) -> float:
    return float(((Affine.for_range(*bounds).round_trip(values) - values) ** 2).mean())


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


@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.9])
def test_zeros_count_towards_a_percentile(fraction: float) -> None:
    values = np.random.default_rng(0).exponential(size=20_000)
    values[: int(fraction * len(values))] = 0.0
    high = choose_range(histogram_of(values), RangeMethod.PERCENTILE, 95.0)[1]
    assert high == pytest.approx(np.quantile(values, 0.95), rel=0.02, abs=0.01)


@pytest.mark.parametrize("seed", range(3))
def test_least_error_range_beats_the_whole_range_on_long_tails(seed: int) -> None:
    values = np.random.default_rng(seed).laplace(size=50_000)
    histogram = histogram_of(values)
    whole = mean_error(values, choose_range(histogram, RangeMethod.MINMAX))
    assert mean_error(values, choose_range(histogram, RangeMethod.MSE)) < 0.95 * whole


@pytest.mark.parametrize("seed", range(3))
def test_least_divergence_cuts_outliers_and_keeps_the_tail(seed: int) -> None:
    values = np.random.default_rng(seed).laplace(size=50_000)
    values = np.concatenate([values, [-60.0, 45.0]])
    low, high = choose_range(histogram_of(values), RangeMethod.ENTROPY)
    assert -20 < low < -4
    assert 4 < high < 20


def test_least_error_finds_the_range_behind_outliers_forty_times_as_large() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.uniform(-1, 1, 100_000), [-40.0, 40.0]])
    best = min(
        ((-end, end) for end in np.geomspace(0.8, 40, 400)),
        key=lambda bounds: mean_error(values, bounds),
    )
    found = mean_error(values, choose_range(histogram_of(values), RangeMethod.MSE))
    assert found < 1.1 * mean_error(values, best)


@pytest.mark.parametrize("method", RangeMethod)
def test_a_value_that_never_changes_keeps_its_range(method: RangeMethod) -> None:
    low, high = choose_range(histogram_of(np.full(100, 3.0)), method)
    assert low <= 3.0 <= high


@pytest.mark.parametrize("method", RangeMethod)
def test_evenly_spread_values_keep_nearly_the_whole_range(method: RangeMethod) -> None:
    low, high = choose_range(histogram_of(np.linspace(-1.0, 1.0, 100_001)), method)
    assert low < -0.95
    assert high > 0.95


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=40).filter(any),
    st.floats(-5, 5),
    st.floats(0.1, 500),
    st.floats(0.05, 2),
)
def test_squared_error_is_that_of_numbers_spread_evenly_over_each_bin(
    counts: list[int], low: float, extent: float, shrink: float
) -> None:
    histogram = Histogram(low, low + extent, np.array(counts, np.int64))
    bounds = min(low * shrink, 0.0), max((low + extent) * shrink, 0.1)
    fine = 4001
    offsets = (np.arange(fine) + 0.5) / fine
    numbers = (histogram.edges[:-1, None] + histogram.width * offsets).reshape(-1)
    errors = (Affine.for_range(*bounds).round_trip(numbers) - numbers) ** 2
    expected = float(errors.reshape(-1, fine).mean(axis=1) @ histogram.counts)
    assert squared_error(histogram, *bounds) == pytest.approx(expected, rel=2e-3, abs=1e-9)


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(260, 500), st.floats(-1, 0), st.floats(0.3, 1))
def test_divergence_is_that_of_its_definition(
    seed: int, bins: int, low: float, shrink: float
) -> None:
    counts = np.random.default_rng(seed).poisson(1.5, bins)
    histogram = Histogram(low, 1.0, counts)
    bounds = low * shrink, shrink
    assert divergence(histogram, *bounds) == pytest.approx(defined(histogram, *bounds), abs=1e-9)


def defined(histogram: Histogram, low: float, high: float) -> float:
    """The divergence, bin by bin."""
    mapping = Affine.for_range(low, high)
    inside = [
        (int(np.clip(round(x / mapping.scale) + mapping.zero_point, 0, 255)), n, index)
        for index, (x, n) in enumerate(zip(histogram.centers, histogram.counts, strict=True))
        if n and low <= x <= high
    ]
    if not inside:
        return math.inf
    first, last = inside[0][2], inside[-1][2]
    total, kept = int(histogram.counts.sum()), sum(n for _, n, _ in inside)
    found = 0.0
    for step, n, index in inside:
        same = [m for other, m, _ in inside if other == step]
        spread = sum(same) / len(same) / kept
        seen = int(n)
        seen += int(histogram.counts[:first].sum()) if index == first else 0
        seen += int(histogram.counts[last + 1 :].sum()) if index == last else 0
        found += seen / total * math.log(seen / total / spread)
    return found
