"""Round weights so that a layer's outputs move least, not its weights.

The squared error of a layer is quadratic in its weights W: with V in their place, and the damped
second moments H of its inputs (see `gram`),

    error(V) = tr((V - W) · H · (V - W)')

Each row of V, an output channel, is minimised over its grid by itself. One start is OPTQ: columns
are rounded in turn, those that matter most first, and what remains is spread over the columns to
come (Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers", 2022, arXiv 2210.17323); the other is rounding to nearest. Each row goes on from the
better one: columns are revisited, each set to the best step of its grid while the others stand,
which never increases the error (Behdin et al., "QuantEase: Optimization-based Quantization for
Language Models", 2023, arXiv 2309.01885).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gcompile.passes.precision.rounding.gram import Reals

_SWEEPS = 20
_DAMPING = 0.01
_BLOCK = 64
_TINY = 1e-30

Columns = slice | int


@dataclass(frozen=True)
class Grid:
    """The numbers that weights may have: integers from `low` to `high`, times `scale`.

    Attributes:
        scale: Of every weight, (groups, channels, depth).
    """

    scale: Reals
    low: int
    high: int

    def nearest(self, real: Reals, columns: Columns = slice(None)) -> Reals:
        """The representable weights nearest to real weights, or to some columns of them."""
        scale = self.scale[..., columns]
        return np.clip(np.rint(real / scale), self.low, self.high) * scale


@dataclass(frozen=True)
class Problem:
    """One layer: find representable weights with the least squared error of its outputs.

    Attributes:
        target: The real weights, (groups, channels, depth).
        hessian: The damped second moments of the inputs, (groups, depth, depth).
    """

    target: Reals
    hessian: Reals

    @classmethod
    def of(cls, weight: Reals, gram: Reals) -> Problem:
        """Damped: weights of inputs that were not seen are rounded to nearest."""
        depth = weight.shape[-1]
        spread = np.trace(gram, axis1=1, axis2=2) / depth
        damping = np.maximum(_DAMPING * spread, _TINY)[:, None, None]
        return cls(weight, gram + damping * np.eye(depth))

    def error(self, weight: Reals) -> Reals:
        """The squared error of each channel, (groups, channels)."""
        off = weight - self.target
        return np.asarray(np.einsum("gcd,gcd->gc", off @ self.hessian, off))


def reconstruct(weight: Reals, gram: Reals, grid: Grid) -> NDArray[np.int64]:
    """The integers whose weights make the error of the layer's outputs small.

    No channel has a larger error than with weights rounded to nearest.

    Args:
        weight: The real weights, (groups, channels, depth).
        gram: The second moments of the layer's inputs, (groups, depth, depth).
        grid: What may be stored.
    """
    problem = Problem.of(weight, gram)
    order = np.argsort(-np.einsum("gdd->gd", problem.hessian), axis=1, kind="stable")
    back = np.argsort(order, axis=1)
    problem = Problem(
        _columns(problem.target, order), _columns(_rows(problem.hessian, order), order)
    )
    sorted_grid = Grid(_columns(grid.scale, order), grid.low, grid.high)
    nearest = sorted_grid.nearest(problem.target)
    spread = _round_in_turn(problem, sorted_grid)
    is_better = problem.error(spread) < problem.error(nearest)
    best = _descend(problem, sorted_grid, np.where(is_better[:, :, None], spread, nearest))
    return np.rint(_columns(best, back) / grid.scale).astype(np.int64)


def _columns(array: Reals, order: NDArray[np.intp]) -> Reals:
    return np.take_along_axis(array, order[:, None, :], axis=2)


def _rows(array: Reals, order: NDArray[np.intp]) -> Reals:
    return np.take_along_axis(array, order[:, :, None], axis=1)


def _round_in_turn(problem: Problem, grid: Grid) -> Reals:
    """Round columns from first to last; each error moves the columns that are still real.

    The rows of the upper Cholesky factor of the inverse Hessian say how: given the columns up to
    j, the best others move by -error[j] · factor[j] / factor[j, j].
    """
    real, depth = problem.target.copy(), problem.target.shape[-1]
    inverse = np.linalg.inv(problem.hessian)
    symmetric = (inverse + inverse.transpose(0, 2, 1)) / 2
    factor = np.linalg.cholesky(symmetric).transpose(0, 2, 1)
    rounded = np.empty_like(real)
    for start in range(0, depth, _BLOCK):
        end = min(start + _BLOCK, depth)
        errors = np.empty((*real.shape[:2], end - start))
        for j in range(start, end):
            rounded[..., j] = grid.nearest(real[..., j], j)
            error = (real[..., j] - rounded[..., j]) / factor[:, None, j, j]
            real[..., j:end] -= error[:, :, None] * factor[:, None, j, j:end]
            errors[..., j - start] = error
        real[..., end:] -= errors @ factor[:, start:end, end:]
    return rounded


def _descend(problem: Problem, grid: Grid, weight: Reals) -> Reals:
    """Set each column to the best that its grid has, given all others, until none changes."""
    hessian, depth = problem.hessian, weight.shape[-1]
    for _ in range(_SWEEPS):
        before = weight.copy()
        for start in range(0, depth, _BLOCK):
            block = slice(start, min(start + _BLOCK, depth))
            slope = (weight - problem.target) @ hessian[:, :, block]
            for j in range(block.start, block.stop):
                best = weight[..., j] - slope[..., j - start] / hessian[:, None, j, j]
                chosen = grid.nearest(best, j)
                step = chosen - weight[..., j]
                slope += step[:, :, None] * hessian[:, None, j, block]
                weight[..., j] = chosen
        if np.array_equal(weight, before):
            break
    return weight
