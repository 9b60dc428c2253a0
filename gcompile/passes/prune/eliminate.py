"""Choose channels to remove by how much the error of the products that read them must grow.

A product Y = X · W over inputs of covariance C loses, when rows b of W are removed and the others
refitted by least squares,

    increase = tr( W_bᵀ · [(C⁻¹)_bb]⁻¹ · W_b )

and the others become W - C⁻¹_:b · [(C⁻¹)_bb]⁻¹ · W_b: optimal brain surgery on whole channels
(Hassibi and Stork, "Second order derivatives for network pruning", 1992; on structures: Kurtic et
al., "ZipLM", 2023, arXiv 2302.04089). Removing the least, one after the other, is backward
elimination of least squares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gcompile.passes.prune.matrices import Matrix
from gcompile.passes.prune.ridge import damping

_STEPS = 128
"""Groups of more channels lose several at a time, so that this many steps suffice."""


@dataclass
class Reader:
    """A product that reads the channels of a group.

    Attributes:
        weights: Its weights, as (K, N); rows that were removed are zero.
        inverse: The inverse of the covariance of its inputs, among rows that stay.
        blocks: The rows of each channel.
        scale: One over the variance of its outputs: errors of readers are compared as shares.
    """

    weights: Matrix
    inverse: Matrix
    blocks: NDArray[np.int64]
    scale: float

    @classmethod
    def of(
        cls, weights: Matrix, covariance: Matrix, blocks: NDArray[np.int64], ridge: float
    ) -> Reader:
        """Describe a product by its weights and the covariance of its inputs."""
        signal = float(np.einsum("kn,kn->", covariance @ weights, weights))
        damped = covariance + damping(covariance, ridge) * np.eye(len(covariance))
        return cls(
            weights.copy(),
            np.asarray(np.linalg.inv(damped), np.float64),
            blocks,
            1.0 / max(signal, 1e-30),
        )

    def increases(self, channels: NDArray[np.int64]) -> NDArray[np.float64]:
        """What removing each of these channels alone costs, as a share of the output."""
        rows = self.blocks[channels]
        corners = self.inverse[rows[:, :, None], rows[:, None, :]]
        weights = self.weights[rows]
        lost = np.einsum("ckn,ckn->c", np.linalg.solve(corners, weights), weights)
        return np.asarray(lost * self.scale, np.float64)

    def remove(self, channels: NDArray[np.int64]) -> None:
        """Remove channels, and refit what stays."""
        rows = self.blocks[channels].reshape(-1)
        columns = self.inverse[:, rows]
        corner = columns[rows]
        self.weights -= columns @ np.linalg.solve(corner, self.weights[rows])
        self.inverse -= columns @ np.linalg.solve(corner, columns.T)
        self.weights[rows] = 0.0


@dataclass(frozen=True)
class Elimination:
    """Channels in the order in which they are missed least.

    Attributes:
        order: The first to go comes first; the last channel is never removed.
        errors: The error when the first, the first two, … are gone: shares of the outputs' power,
            added over the readers.
    """

    order: NDArray[np.int64]
    errors: NDArray[np.float64]

    def keep(self, count: int) -> list[int]:
        """The `count` channels that are missed most, in ascending order."""
        return sorted(self.order[len(self.order) - count :].tolist())


def eliminate(readers: Sequence[Reader], size: int) -> Elimination:
    """Remove channel after channel from all readers, the least missed first."""
    left = np.arange(size)
    order: list[int] = []
    errors: list[float] = []
    total = 0.0
    at_once = -(-size // _STEPS)
    while len(left) > 1:
        costs = sum((reader.increases(left) for reader in readers), np.zeros(len(left)))
        picked = np.argsort(costs, kind="stable")[: min(at_once, len(left) - 1)]
        for index in picked:
            total += max(float(costs[index]), 0.0)
            order.append(int(left[index]))
            errors.append(total)
        for reader in readers:
            reader.remove(left[picked])
        left = np.delete(left, picked)
    return Elimination(np.array([*order, *left.tolist()]), np.array(errors))
