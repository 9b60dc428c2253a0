"""Backward elimination against least squares solved anew for every set of channels."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gcompile.passes.prune.eliminate import Reader, eliminate


def drawn(seed: int, channels: int, depth: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs of 200 rows, of which some columns say much the same, and weights."""
    rng = np.random.default_rng(seed)
    size = channels * depth
    x = rng.standard_normal((200, size)) @ (rng.standard_normal((size, size)) + 2 * np.eye(size))
    return x - x.mean(axis=0), rng.standard_normal((size, width))


def lost(x: np.ndarray, weights: np.ndarray, stay: list[int]) -> float:
    """The share of x · W that no product of the columns that stay can make up for."""
    wanted = x @ weights
    fitted = np.linalg.lstsq(x[:, stay], wanted, rcond=None)[0]
    return float(((wanted - x[:, stay] @ fitted) ** 2).sum() / (wanted**2).sum())


@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.integers(0, 2**16), st.integers(2, 7), st.integers(1, 3), st.integers(1, 4))
def test_errors_are_those_of_least_squares_and_each_step_is_the_least_there_is(
    seed: int, channels: int, depth: int, width: int
) -> None:
    x, weights = drawn(seed, channels, depth, width)
    blocks = np.arange(channels * depth).reshape(channels, depth)
    reader = Reader.of(weights, x.T @ x / len(x), blocks, 0.0)
    found = eliminate([reader], channels)
    assert sorted(found.order.tolist()) == list(range(channels))
    for count in range(channels - 1, 0, -1):
        left = found.keep(count + 1)
        tries = {c: lost(x, weights, blocks[[k for k in left if k != c]].reshape(-1).tolist())
                 for c in left}  # fmt: skip
        gone = (set(left) - set(found.keep(count))).pop()
        assert tries[gone] <= min(tries.values()) + 1e-9
        np.testing.assert_allclose(found.errors[channels - count - 1], tries[gone], atol=1e-8)


def test_the_errors_of_several_readers_add_up() -> None:
    x, weights = drawn(3, 5, 2, 3)
    other = np.random.default_rng(4).standard_normal((10, 2))
    blocks, covariance = np.arange(10).reshape(5, 2), x.T @ x / len(x)
    found = eliminate([Reader.of(w, covariance, blocks, 0.0) for w in (weights, other)], 5)
    stay = blocks[found.keep(2)].reshape(-1).tolist()
    expected = lost(x, weights, stay) + lost(x, other, stay)
    np.testing.assert_allclose(found.errors[2], expected, rtol=1e-6)
