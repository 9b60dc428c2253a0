"""Convolutions and matrix products seen as one thing: an implicit matrix product.

    Y[m, n] = sum over k of X[m, k] · W[k, n]

A convolution has M = batch · output pixels, N = output channels, K = kernel pixels · input
channels. A matrix product is the convolution of a one-row image with a 1×1 kernel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Contraction:
    """The sizes of one implicit matrix product, in elements. Images are (batch, h, w, c).

    A plain matrix product of (M, K) by (K, N) is `Contraction.matmul(M, K, N)`.
    """

    batch: int
    in_h: int
    in_w: int
    in_c: int
    out_h: int
    out_w: int
    out_c: int
    kernel_h: int = 1
    kernel_w: int = 1
    stride_h: int = 1
    stride_w: int = 1
    dilation_h: int = 1
    dilation_w: int = 1
    pad_top: int = 0
    pad_left: int = 0
    pad_bottom: int = 0
    pad_right: int = 0
    groups: int = 1

    @classmethod
    def matmul(cls, m: int, k: int, n: int) -> Contraction:
        """The contraction of an (m, k) matrix with a (k, n) matrix."""
        return cls(batch=1, in_h=1, in_w=m, in_c=k, out_h=1, out_w=m, out_c=n)

    @property
    def m(self) -> int:
        """Rows: output pixels of all images."""
        return self.batch * self.out_h * self.out_w

    @property
    def n(self) -> int:
        """Columns: output channels."""
        return self.out_c

    @property
    def k(self) -> int:
        """Depth: how many products make one output."""
        return self.kernel_h * self.kernel_w * self.in_c // self.groups

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the whole product."""
        return self.m * self.n * self.k

    @property
    def is_depthwise(self) -> bool:
        """Each output channel reads exactly one input channel, in order."""
        return self.groups > 1 and self.groups == self.in_c == self.out_c

    @property
    def pads(self) -> tuple[int, int, int, int]:
        """Padding as (top, left, bottom, right)."""
        return self.pad_top, self.pad_left, self.pad_bottom, self.pad_right

    def widened(self, group: int) -> Contraction:
        """The same product with whole groups of depth in each row of the kernel.

        Dot-product instructions take `group` numbers at once. Channels and kernel columns lie side
        by side in memory, so a kernel over at most four channels, which is how networks begin, is
        filled up with columns of zero weights; more channels are padded where they are stored.
        """
        if self.in_c > 4 or self.dilation_w != 1 or self.groups != 1:
            return self
        width = self.kernel_w
        while width * self.in_c % group:
            width += 1
        return replace(self, kernel_w=width)

    @property
    def weight_count(self) -> int:
        """Elements of the weight operand."""
        return math.prod((self.kernel_h, self.kernel_w, self.in_c // self.groups, self.out_c))
