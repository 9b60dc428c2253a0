"""One window of a pool: which numbers it has, and how a thread combines them.

Registers: `total` has what was found for each channel, `counted` how many numbers a mean is of
where that depends on the window.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gcompile.backends.cuda.kernels.epilogue import pieces
from gcompile.backends.cuda.program.operations import DType
from gcompile.backends.cuda.program.program import (
    STORAGE_BYTES,
    Buffer,
    For,
    If,
    Let,
    LoadGlobal,
    Registers,
    Set,
    Statement,
    Storage,
)
from gcompile.backends.cuda.program.scalar import (
    Scalar,
    apply,
    both,
    constant,
    less,
    register,
    select,
    variable,
)
from gcompile.ir import Contraction

Function = Literal["max", "mean"]

_WIDEST = 8

_UNROLLED = 16
"""Pixels of a window, for each thread, that are written out; more are a loop."""

COUNTED = register("counted", 0, "int32")
"""How many numbers a thread has found, where windows differ in that."""


@dataclass(frozen=True)
class PoolWindow:
    """What is pooled.

    Attributes:
        contraction: The windows, as those of a depthwise convolution. The last ones may reach
            over the padding, where output sizes are rounded up; nothing is counted there.
        x: How the image is stored. Integers are compared and added as int32, all else as float32.
        function: Of the numbers of a window.
        counts_padding: A mean counts the padding too.
        fill: What it finds there.
    """

    contraction: Contraction
    x: Storage
    function: Function
    counts_padding: bool = False
    fill: int = 0

    def __post_init__(self) -> None:
        if not self.contraction.is_depthwise:
            raise ValueError("Each output channel reads the input channel of its number.")

    @property
    def width(self) -> int:
        """Channels of one thread."""
        size = max(STORAGE_BYTES[self.x], 2)
        return math.gcd(self.contraction.out_c, _WIDEST, 16 // size)

    @property
    def image(self) -> Buffer:
        """What is read."""
        c = self.contraction
        return Buffer("x", self.x, c.batch * c.in_h * c.in_w * c.in_c)

    @property
    def is_integer(self) -> bool:
        """Numbers are compared and added exactly."""
        return "int" in self.x

    @property
    def dtype(self) -> DType:
        """Of `total`."""
        return "int32" if self.is_integer else "float32"

    @property
    def lowest(self) -> float | int:
        """What no number of the image is below."""
        return int(np.iinfo(self.x).min) if self.is_integer else -math.inf

    @property
    def size(self) -> int:
        """Pixels of a window."""
        return self.contraction.kernel_h * self.contraction.kernel_w

    @property
    def reach(self) -> tuple[int, int]:
        """Lines and columns from the first pixel of the first window to the last of the last."""
        c = self.contraction
        return (
            (c.out_h - 1) * c.stride_h + (c.kernel_h - 1) * c.dilation_h + 1,
            (c.out_w - 1) * c.stride_w + (c.kernel_w - 1) * c.dilation_w + 1,
        )

    @property
    def counts(self) -> bool:
        """Means are of differently many numbers."""
        if self.function == "max":
            return False
        return self._passes_padding if self.counts_padding else self._passes_image

    def statements(self, share: Scalar, shares: int) -> list[Statement]:
        """Find what a window has, or every so many of its pixels.

        They use the first `channel`, the window's first pixel (`top`, `left`), which may be
        outside of the image, and the `batch` that it is in.

        Args:
            share: Which of the shares a thread has.
            shares: How many there are.
        """
        c, i, tap = self.contraction, variable("i"), variable("tap")
        is_mean = self.function == "mean"
        steps, width = math.ceil(self.size / shares), c.kernel_w
        total, value = register("total", i, self.dtype), register("value", i, self.dtype)
        combine = Set(total, self.combined(total, value))
        body = (
            Let("tap", variable("step") * shares + share),
            Let("row", variable("top") + tap // width * c.dilation_h),
            Let("column", variable("left") + tap % width * c.dilation_w),
            *self._load(less(tap, self.size) if self.size % shares else None),
            For("i", self.width, (combine,), unrolled=True),
        )
        return [
            Registers("total", self.dtype, self.width, zero=is_mean),
            *([] if is_mean else [self._each("total", self._number(self.lowest))]),
            *([Registers("counted", "int32", 1, zero=True)] if self.counts else []),
            For("step", steps, body, unrolled=steps <= _UNROLLED),
        ]

    def combined(self, left: Scalar, right: Scalar) -> Scalar:
        """The larger one, or the sum."""
        if self.function == "max":
            return select(apply("less", left, right), right, left)
        return left + right if self.is_integer else apply("fadd", left, right)

    @property
    def _passes_padding(self) -> bool:
        c = self.contraction
        return (
            self.reach[0] > c.in_h + c.pad_top + c.pad_bottom
            or self.reach[1] > c.in_w + c.pad_left + c.pad_right
        )

    @property
    def _passes_image(self) -> bool:
        return any(self.contraction.pads) or self._passes_padding

    def _load(self, exists: Scalar | None) -> list[Statement]:
        """The numbers of one pixel; outside of the image, those that change nothing."""
        c = self.contraction
        start = (variable("batch") * c.in_h + variable("row")) * c.in_w + variable("column")
        index = start * c.in_c + variable("channel")
        loads: list[Statement] = [
            LoadGlobal(
                tuple(register("value", first + i, self.dtype) for i in range(count)),
                self.image,
                index + first,
            )
            for first, count in pieces(self.width, self.image.element_bytes)
        ]
        result: list[Statement] = [Registers("value", self.dtype, self.width)]
        inside = both(exists, *(self._inside(False) if self._passes_image else ()))
        if inside is None:
            return [*result, *loads]
        padded = both(exists, *(self._inside(True) if self._passes_padding else ()))
        counted = padded if self.counts_padding else inside
        if self.counts and counted is not None:
            result.append(Set(COUNTED, COUNTED + select(counted, constant(1), constant(0))))
        return [*result, self._each("value", self._outside(padded)), If(inside, tuple(loads))]

    def _inside(self, with_padding: bool) -> tuple[Scalar, Scalar]:
        """Whether a pixel is one of the image, or of the image with its padding."""
        c = self.contraction
        top, left, bottom, right = c.pads if with_padding else (0, 0, 0, 0)
        return (
            apply("inside", variable("row") + top, c.in_h + top + bottom),
            apply("inside", variable("column") + left, c.in_w + left + right),
        )

    def _outside(self, padded: Scalar | None) -> Scalar:
        if self.function == "max":
            return self._number(self.lowest)
        if padded is None or not self.fill:
            return self._number(self.fill)
        return select(padded, self._number(self.fill), self._number(0))

    def _each(self, name: str, value: Scalar) -> Statement:
        target = register(name, variable("i"), self.dtype)
        return For("i", self.width, (Set(target, value),), unrolled=True)

    def _number(self, value: float) -> Scalar:
        return Scalar("constant", self.dtype, (), value)
