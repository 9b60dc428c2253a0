"""The transforms of Winograd's minimal filtering F(m, 3): how inputs, weights and outputs change.

    Y = Aᵀ [ (G g Gᵀ) ⊙ (Bᵀ d B) ] A

for an (m + 2)² patch d of one channel, a 3x3 filter g and m² outputs Y. Matrices and points (0,
±1, ∞ for F(2, 3); 0, ±1, ±2, ∞ for F(4, 3)) are those of Lavin & Gray, "Fast Algorithms for
Convolutional Neural Networks", CVPR 2016.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from tvm.tirx import Expr

from gcompile.backends.tvm.kernels.lanes import Lanes, bind

Matrix = NDArray[np.float64]

INPUT: dict[int, Matrix] = {
    2: np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]], np.float64),
    4: np.array(
        [
            [4, 0, -5, 0, 1, 0],
            [0, -4, -4, 1, 1, 0],
            [0, 4, -4, -1, 1, 0],
            [0, -2, -1, 2, 1, 0],
            [0, 2, -1, -2, 1, 0],
            [0, 4, 0, -5, 0, 1],
        ],
        np.float64,
    ),
}
"""Bᵀ by the size of the output tile."""

FILTER: dict[int, Matrix] = {
    2: np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], np.float64),
    4: np.array(
        [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]], np.float64
    )
    / 24,
}
"""G by the size of the output tile."""

OUTPUT: dict[int, Matrix] = {
    2: np.array([[1, 1, 1, 0], [0, 1, -1, -1]], np.float64),
    4: np.array(
        [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
        np.float64,
    ),
}
"""Aᵀ by the size of the output tile."""


def transformed_weights(weights: NDArray[np.generic], size: int) -> NDArray[np.float32]:
    """G g Gᵀ of every filter.

    Args:
        weights: (out, in, 3, 3).
        size: The output tile's side m.

    Returns:
        ((m + 2)², out, in), computed in double precision.
    """
    g = FILTER[size]
    found = np.einsum("ak,oikl,bl->aboi", g, weights.astype(np.float64), g)
    return np.asarray(found.reshape(-1, *weights.shape[:2]), np.float32)


def emit_transform(matrix: Matrix, values: Sequence[Expr], lanes: Lanes) -> list[Expr]:
    """Multiply a small constant matrix with vectors; zeros cost nothing, nor do ones.

    Rows that differ only in the sign of their odd part share both parts, as do columns.
    """
    rows: list[Expr | None] = [None] * len(matrix)
    columns = _column_pairs(matrix)
    sums = {(i, j): (bind(values[i] + values[j]), bind(values[i] - values[j])) for i, j in columns}
    paired = {i for pair in columns for i in pair}

    def combined(row: NDArray[np.float64]) -> Expr:
        terms = [(row[i], values[i]) for i in range(len(values)) if i not in paired]
        for (i, j), (plus, minus) in sums.items():
            terms.append((row[i], plus if row[i] == row[j] else minus))
        return _linear([(c, v) for c, v in terms if c], lanes)

    index = 0
    while index < len(matrix):
        if not columns and index + 1 < len(matrix) and _are_mirrored(*matrix[index : index + 2]):
            first, second = matrix[index], matrix[index + 1]
            even = bind(combined((first + second) / 2))
            odd = bind(combined((first - second) / 2))
            rows[index], rows[index + 1] = bind(even + odd), bind(even - odd)
            index += 2
        else:
            rows[index] = bind(combined(matrix[index]))
            index += 1
    return [row for row in rows if row is not None]


def transform_both_ways(
    matrix: Matrix, value: Callable[[int, int], Expr], lanes: Lanes
) -> list[list[Expr]]:
    """M v Mᵀ for a square of vectors `value(row, column)`: columns first, then rows."""
    side = matrix.shape[1]
    down = [emit_transform(matrix, [value(y, x) for y in range(side)], lanes) for x in range(side)]
    return [
        emit_transform(matrix, [down[x][y] for x in range(side)], lanes)
        for y in range(len(matrix))
    ]


def operations(size: int) -> tuple[int, int]:
    """Vector additions and multiplications per tile of the input and of the output transform."""
    patch = size + 2
    taken = [int(np.count_nonzero(m)) - len(m) for m in (INPUT[size], OUTPUT[size])]
    return taken[0] * 2 * patch, taken[1] * (patch + size)


def _linear(terms: Sequence[tuple[float, Expr]], lanes: Lanes) -> Expr:
    """A weighted sum; what has weight one comes first, so that the rest are fused additions."""
    ordered = sorted(terms, key=lambda term: (abs(term[0]) != 1, term[0] < 0))
    (weight, value), *rest = ordered
    total = value if weight == 1 else value * lanes.splat(float(weight))
    for weight, value in rest:
        if weight == 1:
            total = total + value
        elif weight == -1:
            total = total - value
        else:
            total = total + value * lanes.splat(float(weight))
    return total


def _are_mirrored(first: NDArray[np.float64], second: NDArray[np.float64]) -> bool:
    """One row is the other with its odd part negated, and both parts are worth sharing."""
    even, odd = (first + second) / 2, (first - second) / 2
    shared = bool(np.any((even != 0) & (odd != 0)))
    return not shared and bool(even.any()) and bool(odd.any())


def _column_pairs(matrix: Matrix) -> list[tuple[int, int]]:
    """Neighbouring columns that are equal or opposite in every row."""
    pairs, index = [], 0
    while index + 1 < matrix.shape[1]:
        first, second = matrix[:, index], matrix[:, index + 1]
        if np.array_equal(np.abs(first), np.abs(second)) and np.count_nonzero(first) > 1:
            pairs.append((index, index + 1))
            index += 2
        else:
            index += 1
    return pairs
