"""A depthwise convolution on CUDA cores: it moves more bytes than it computes.

    y[n, oy, ox, c] = epilogue(Σ over (i, j): x[n, oy·s + i·d - p, ox·s + j·d - p, c] · w[i, j, c])

A thread computes a run of pixels of one line for a few neighbouring channels, which it loads at
once. Each pixel of the image that the run needs is loaded once for every line of the window.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gcompile.backends.cuda.kernels.epilogue import Epilogue, Place, pieces
from gcompile.backends.cuda.program.operations import DType
from gcompile.backends.cuda.program.program import (
    BLOCK_X,
    STORAGE_BYTES,
    THREAD,
    Buffer,
    For,
    If,
    Let,
    LoadGlobal,
    Program,
    Registers,
    Scope,
    Set,
    Statement,
    Storage,
)
from gcompile.backends.cuda.program.scalar import Scalar, apply, both, less, register, variable
from gcompile.ir import Contraction

_THREADS = 128
_WIDEST = 8
_RUNS = (4, 2, 1)

_BUSY = 256
"""Threads of a multiprocessor below which shorter runs pay: memory is waited for less."""


@dataclass(frozen=True)
class Depthwise:
    """What is convolved.

    The program's arguments are `x`, `weights` (kernel_h · kernel_w, channels), the epilogue's, and
    `y`. Integers are multiplied and added as int32, everything else in float32.

    Attributes:
        name: Of the program.
        contraction: Each output channel reads the input channel of its number. Windows that reach
            over the border find zeros there.
        x: How the image is stored.
        weights: How the weights are stored.
        epilogue: What follows.
        run: Pixels of a line that one thread computes.
    """

    name: str
    contraction: Contraction
    x: Storage
    weights: Storage
    epilogue: Epilogue
    run: int = 1

    def __post_init__(self) -> None:
        if not self.contraction.is_depthwise:
            raise ValueError("Each output channel reads one input channel, in order.")
        if self._is_integer != (self.weights in ("int8", "uint8")):
            raise ValueError("Image and weights are both integers, or neither is.")

    @property
    def width(self) -> int:
        """Channels of one thread."""
        size = max(STORAGE_BYTES[self.x], 2)
        return math.gcd(self.contraction.out_c, _WIDEST, 16 // size)

    @property
    def buffers(self) -> tuple[Buffer, Buffer]:
        """The image and the weights."""
        c = self.contraction
        pixels, taps = c.batch * c.in_h * c.in_w, c.kernel_h * c.kernel_w
        return (
            Buffer("x", self.x, pixels * c.in_c),
            Buffer("weights", self.weights, taps * c.in_c),
        )

    def program(self) -> Program:
        """The kernel."""
        c = self.contraction
        runs, vectors = math.ceil(c.out_w / self.run), c.out_c // self.width
        count = c.batch * c.out_h * runs * vectors
        unit, line = variable("unit"), variable("line")
        body: list[Statement] = [
            Let("channel", unit % vectors * self.width),
            Let("first", unit // vectors % runs * self.run),
            Let("line", unit // (vectors * runs)),
            Let("top", line % c.out_h * c.stride_h - c.pad_top),
            Let("left", variable("first") * c.stride_w - c.pad_left),
            *(Registers(f"sums{r}", self._dtype, self.width, zero=True) for r in range(self.run)),
            For("ky", c.kernel_h, tuple(self._line()), unrolled=c.kernel_h <= _WIDEST),
            *(s for r in range(self.run) for s in self._store(r)),
        ]
        return Program(
            self.name,
            (*self.buffers, *self.epilogue.read, self.epilogue.written),
            (math.ceil(count / _THREADS), 1, 1),
            _THREADS,
            0,
            (
                Let("unit", BLOCK_X * _THREADS + THREAD),
                If(less(unit, count), tuple(body)),
            ),
        )

    @property
    def _is_integer(self) -> bool:
        return self.x in ("int8", "uint8")

    @property
    def _dtype(self) -> DType:
        return "int32" if self._is_integer else "float32"

    def _line(self) -> list[Statement]:
        """Add one line of the window to the sums of all pixels of the run."""
        c, width = self.contraction, self.width
        image, weights = self.buffers
        taps = [
            (r, kx, r * c.stride_w + kx * c.dilation_w)
            for r in range(self.run)
            for kx in range(c.kernel_w)
        ]
        tap = variable("ky") * c.kernel_w
        result: list[Statement] = [
            Let("y", variable("top") + variable("ky") * c.dilation_h),
            Registers("w", self._dtype, c.kernel_w * width),
            Let("start", (variable("line") // c.out_h * c.in_h + variable("y")) * c.in_w),
        ]
        for kx in range(c.kernel_w):
            index = (tap + kx) * c.in_c + variable("channel")
            result += self._load(weights, index, "w", kx * width)
        for column in sorted({place for _, _, place in taps}):
            name = f"x{column}"
            x = variable("left") + column
            index = (variable("start") + x) * c.in_c + variable("channel")
            loads = self._load(image, index, name, 0)
            inside = both(
                apply("inside", variable("y"), c.in_h) if self._passes_lines else None,
                apply("inside", x, c.in_w) if self._passes_columns else None,
            )
            result.append(Registers(name, self._dtype, width, zero=True))
            result += [If(inside, tuple(loads))] if inside is not None else loads
            for r, kx, place in taps:
                if place == column:
                    result.append(self._add(r, kx, name))
        return result

    @property
    def _passes_lines(self) -> bool:
        """Windows reach over the upper or lower border."""
        return self.contraction.pad_top > 0 or self.contraction.pad_bottom > 0

    @property
    def _passes_columns(self) -> bool:
        """Windows reach over the left or right border, or the last run over the line's end."""
        c = self.contraction
        return c.pad_left > 0 or c.pad_right > 0 or c.out_w % self.run > 0

    def _load(self, buffer: Buffer, index: Scalar, name: str, first: int) -> list[Statement]:
        return [
            LoadGlobal(
                tuple(register(name, first + start + i, self._dtype) for i in range(count)),
                buffer,
                index + start,
            )
            for start, count in pieces(self.width, buffer.element_bytes)
        ]

    def _add(self, r: int, kx: int, name: str) -> Statement:
        i = variable("i")
        total, x = register(f"sums{r}", i, self._dtype), register(name, i, self._dtype)
        w = register("w", i + kx * self.width, self._dtype)
        value = total + x * w if self._is_integer else apply("fma", x, w, total)
        return For("i", self.width, (Set(total, value),), unrolled=True)

    def _store(self, r: int) -> list[Statement]:
        c = self.contraction
        column = variable("first") + r
        place = Place(variable("line") * c.out_w + column, variable("channel"))
        sums = [register(f"sums{r}", i, self._dtype) for i in range(self.width)]
        body = tuple(self.epilogue.statements(place, sums))
        if c.out_w % self.run:
            return [If(less(column, c.out_w), body)]
        return [Scope(body)]


def run_for(contraction: Contraction, width: int, processors: int) -> int:
    """Choose the longest run that still gives every multiprocessor enough threads.

    Args:
        contraction: A depthwise convolution.
        width: Channels of one thread.
        processors: Multiprocessors.
    """
    lines = contraction.batch * contraction.out_h * (contraction.out_c // width)
    for run in _RUNS:
        if lines * math.ceil(contraction.out_w / run) >= _BUSY * processors:
            return run
    return _RUNS[-1]
