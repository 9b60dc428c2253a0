from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gcompile.passes.precision.rounding import Grid, Problem, reconstruct
from gcompile.passes.precision.rounding.gram import Reals


def layer(
    seed: int, groups: int, channels: int, depth: int, rows: int
) -> tuple[Reals, Reals, Grid]:
    """Weights, the Gram matrix of inputs that vary together, and a grid of four bits."""
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(groups, channels, depth))
    inputs = rng.normal(size=(groups, rows, depth)) @ rng.normal(size=(groups, depth, depth))
    scale = np.abs(weight).max(axis=2, keepdims=True) / 7
    gram = inputs.transpose(0, 2, 1) @ inputs / rows
    return weight, gram, Grid(np.broadcast_to(scale, weight.shape), -7, 7)


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 3),
    st.integers(1, 5),
    st.integers(1, 70),
    st.integers(1, 90),
)
def test_no_channel_errs_more_than_with_weights_rounded_to_nearest(
    seed: int, groups: int, channels: int, depth: int, rows: int
) -> None:
    weight, gram, grid = layer(seed, groups, channels, depth, rows)
    stored = reconstruct(weight, gram, grid)
    assert stored.min() >= grid.low
    assert stored.max() <= grid.high
    problem = Problem.of(weight, gram)
    before, after = problem.error(grid.nearest(weight)), problem.error(stored * grid.scale)
    assert (after <= before * (1 + 1e-9)).all()


@given(st.integers(0, 2**32 - 1), st.integers(2, 24))
def test_no_other_step_of_a_single_weight_is_better(seed: int, depth: int) -> None:
    weight, gram, grid = layer(seed, 1, 3, depth, 4 * depth)
    stored = reconstruct(weight, gram, grid)
    problem = Problem.of(weight, gram)
    least = problem.error(stored * grid.scale)
    for column, step in itertools.product(range(depth), (-1, 1)):
        moved = stored.copy()
        moved[..., column] = np.clip(moved[..., column] + step, grid.low, grid.high)
        assert (problem.error(moved * grid.scale) >= least * (1 - 1e-9)).all()


def test_the_error_is_near_the_least_of_all_integers() -> None:
    found, nearest, least = 0.0, 0.0, 0.0
    for seed in range(20):
        weight, gram, grid = layer(seed, 1, 1, 4, 40)
        problem = Problem.of(weight, gram)
        found += float(problem.error(reconstruct(weight, gram, grid) * grid.scale).sum())
        nearest += float(problem.error(grid.nearest(weight)).sum())
        numbers = range(grid.low, grid.high + 1)
        every = np.array(list(itertools.product(numbers, repeat=4)))[None] * grid.scale[:, :1]
        least += float(Problem(weight[:, :1], problem.hessian).error(every).min())
    assert found < 1.2 * least
    assert found < 0.85 * nearest


def test_weights_of_inputs_never_seen_are_rounded_to_nearest() -> None:
    weight, _, grid = layer(3, 1, 4, 9, 5)
    stored = reconstruct(weight, np.zeros((1, 9, 9)), grid)
    np.testing.assert_array_equal(stored * grid.scale, grid.nearest(weight))
