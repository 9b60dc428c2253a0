"""What calibration rows say about the input of a product: counts, means, covariances."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from gcompile.passes.prune.matrices import Floats, Matrix

_AT_ONCE = 1 << 12
"""Rows that are summed in single precision; such sums are added up in double precision."""


@dataclass
class Moments:
    """Sums over rows of inputs x (K numbers) and of targets r (N numbers).

    Sums are of differences from the mean of the first rows, `about`: covariances are then no small
    differences of large numbers.

    Attributes:
        count: How many rows were added.
        about: What is subtracted from x.
        x: The sum of x, less `about`.
        r: The sum of r.
        xx: The sum of x · xᵀ, both less `about`.
        xr: The sum of x, less `about`, times rᵀ.
    """

    count: int
    about: Matrix
    x: Matrix
    r: Matrix
    xx: Matrix = field(repr=False)
    xr: Matrix = field(repr=False)

    @classmethod
    def of(cls, x: Floats, r: Floats | None = None, about: Matrix | None = None) -> Moments:
        """Sum over rows: x as (M, K), r as (M, N)."""
        depth, width = x.shape[1], r.shape[1] if r is not None else 0
        if about is None:
            about = x[:_AT_ONCE].mean(axis=0, dtype=np.float64)
        about = about.astype(np.float32).astype(np.float64)
        found = cls(
            0, about, np.zeros(depth), np.zeros(width),
            np.zeros((depth, depth)), np.zeros((depth, width)),
        )  # fmt: skip
        for piece in _pieces(len(x)):
            found._add(x[piece], r[piece] if r is not None else None)
        return found

    def plus(self, other: Moments) -> Moments:
        """The sums over the rows of both; both must be about the same."""
        assert np.array_equal(self.about, other.about)
        return Moments(
            self.count + other.count, self.about, self.x + other.x, self.r + other.r,
            self.xx + other.xx, self.xr + other.xr,
        )  # fmt: skip

    @property
    def mean(self) -> Matrix:
        """The mean of x."""
        return np.asarray(self.about + self.x / self.count, np.float64)

    def covariance(self, *, centred: bool) -> Matrix:
        """The covariance of x, as (K, K), or the mean of x · xᵀ for products without a bias."""
        shift = self.x / self.count
        found = self.xx / self.count - np.outer(shift, shift)
        return np.asarray(found if centred else found + np.outer(self.mean, self.mean), np.float64)

    def cross(self, *, centred: bool) -> Matrix:
        """The covariance of x with r, as (K, N), or the mean of x · rᵀ."""
        shift, mean = self.x / self.count, self.r / self.count
        found = self.xr / self.count - np.outer(shift, mean)
        return np.asarray(found if centred else found + np.outer(self.mean, mean), np.float64)

    def mean_error(self, correction: Matrix) -> Matrix:
        """The mean of what is left of r once `correction`, as (K, N), is made."""
        return np.asarray(self.r / self.count - self.mean @ correction, np.float64)

    def _add(self, x: Floats, r: Floats | None) -> None:
        near = x.astype(np.float32) - self.about.astype(np.float32)
        self.count += len(near)
        self.x += near.sum(axis=0, dtype=np.float64)
        self.xx += near.T @ near
        if r is not None:
            target = r.astype(np.float32)
            self.r += target.sum(axis=0, dtype=np.float64)
            self.xr += near.T @ target


def _pieces(count: int) -> Iterator[slice]:
    for start in range(0, count, _AT_ONCE):
        yield slice(start, start + _AT_ONCE)
