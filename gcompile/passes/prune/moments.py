"""What calibration rows say about the input of a product: counts, means, covariances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gcompile.passes.prune.matrices import Floats, Matrix


@dataclass
class Moments:
    """Sums over rows of inputs x (K numbers) and of targets r (N numbers), in double precision.

    Attributes:
        count: How many rows were added.
        x: The sum of x.
        r: The sum of r.
        xx: The sum of x · xᵀ.
        xr: The sum of x · rᵀ.
    """

    count: int
    x: Matrix
    r: Matrix
    xx: Matrix
    xr: Matrix

    @classmethod
    def empty(cls, depth: int, width: int = 0) -> Moments:
        """No rows yet, of `depth` inputs and `width` targets."""
        return cls(
            0,
            np.zeros(depth),
            np.zeros(width),
            np.zeros((depth, depth)),
            np.zeros((depth, width)),
        )

    def add(self, x: Floats, r: Floats | None = None) -> None:
        """Add rows: x as (M, K), r as (M, N)."""
        wide = x.astype(np.float64)
        self.count += len(wide)
        self.x += wide.sum(axis=0)
        self.xx += wide.T @ wide
        if r is not None:
            target = r.astype(np.float64)
            self.r += target.sum(axis=0)
            self.xr += wide.T @ target

    def covariance(self) -> Matrix:
        """The covariance of x, as (K, K): the mean of each input is left to the bias."""
        mean = self.x / self.count
        return self.xx / self.count - np.outer(mean, mean)

    def about_zero(self) -> Matrix:
        """The mean of x · xᵀ, for products without a bias."""
        return self.xx / self.count

    def cross(self, *, centred: bool) -> Matrix:
        """The covariance of x with r, or the mean of x · rᵀ."""
        joint = self.xr / self.count
        return joint - np.outer(self.x, self.r) / self.count**2 if centred else joint

    def mean_error(self, correction: Matrix) -> Matrix:
        """The mean of what is left of r once `correction`, as (K, N), is made."""
        return np.asarray((self.r - self.x @ correction) / self.count, np.float64)
