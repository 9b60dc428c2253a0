"""The largest or the mean number of every window of an image, channel by channel.

    y[n, oy, ox, c] = epilogue(pool over (i, j): x[n, oy·s + i·d - p, ox·s + j·d - p, c])

A thread has one window for a few neighbouring channels, which it loads at once. Of large windows,
several lanes of a warp have a share each, and combine them by exchanges.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gcompile.backends.cuda.kernels.epilogue import Epilogue, Place
from gcompile.backends.cuda.kernels.pool_window import COUNTED, PoolWindow
from gcompile.backends.cuda.program.program import (
    BLOCK_X,
    LANE,
    WARP,
    Exchange,
    For,
    If,
    Let,
    Program,
    Registers,
    Set,
    Statement,
)
from gcompile.backends.cuda.program.scalar import (
    Scalar,
    apply,
    less,
    register,
    variable,
)

_LANES = 32

_SHARES = 16
"""Lanes of a large window: the other two have neighbouring channels, 32 bytes in fp16."""

_LARGE = 32
"""Pixels of a window that pay for exchanges."""

_WARPS = 4


@dataclass(frozen=True)
class Pool:
    """A pool and what follows it.

    The program's arguments are `x`, the epilogue's, and `y`.

    Attributes:
        name: Of the program.
        window: What is pooled.
        epilogue: Over the largest number, which is an int32 of integers, or the float32 mean.
        shares: Lanes that share a window, a power of two.
        warps: Of a block.
    """

    name: str
    window: PoolWindow
    epilogue: Epilogue
    shares: int = 1
    warps: int = _WARPS

    def program(self) -> Program:
        """The kernel."""
        window, c, together = self.window, self.window.contraction, _LANES // self.shares
        vectors = c.out_c // window.width
        count = c.m * vectors
        unit, pixel, line = variable("unit"), variable("pixel"), variable("line")
        lane, share = LANE % together, LANE // together
        is_first = apply("equal", share, 0)
        results, finish = self._results()
        store = self.epilogue.statements(Place(pixel, variable("channel")), results)
        body: list[Statement] = [
            Let("wanted", (BLOCK_X * self.warps + WARP) * together + lane),
            # Threads past the end repeat the last window: exchanges need whole warps.
            Let("unit", apply("min", variable("wanted"), count - 1)),
            Let("channel", unit % vectors * window.width),
            Let("pixel", unit // vectors),
            Let("line", pixel // c.out_w),
            Let("batch", line // c.out_h),
            Let("top", line % c.out_h * c.stride_h - c.pad_top),
            Let("left", pixel % c.out_w * c.stride_w - c.pad_left),
            *window.statements(share, self.shares),
            *self._join(together),
            *finish,
            If(apply("both", less(variable("wanted"), count), is_first), tuple(store)),
        ]
        return Program(
            self.name,
            (window.image, *self.epilogue.read, self.epilogue.written),
            (math.ceil(count / (self.warps * together)), 1, 1),
            _LANES * self.warps,
            0,
            tuple(body),
        )

    def _join(self, together: int) -> list[Statement]:
        """Combine what the lanes of a window found; each of them has the result."""
        if self.shares == 1:
            return []
        window = self.window
        others = register("others", 0, "int32")
        result: list[Statement] = [Registers("other", window.dtype, window.width)]
        if window.counts:
            result.append(Registers("others", "int32", 1))
        distance = together
        while distance < _LANES:
            for i in range(window.width):
                total, other = (register(n, i, window.dtype) for n in ("total", "other"))
                result += [
                    Exchange(other, total, distance),
                    Set(total, window.combined(total, other)),
                ]
            if window.counts:
                result += [Exchange(others, COUNTED, distance), Set(COUNTED, COUNTED + others)]
            distance *= 2
        return result

    def _results(self) -> tuple[list[Scalar], list[Statement]]:
        """The registers of the results, and how they are found: means are divided."""
        window, i = self.window, variable("i")
        totals = [register("total", number, window.dtype) for number in range(window.width)]
        if window.function == "max":
            return totals, []
        total = register("total", i, window.dtype)
        real = apply("int_to_float", total) if window.is_integer else total
        count = apply("int_to_float", COUNTED) if window.counts else float(window.size)
        mean = Set(register("mean", i, "float32"), apply("fdiv", real, count))
        return [register("mean", number, "float32") for number in range(window.width)], [
            Registers("mean", "float32", window.width),
            For("i", window.width, (mean,), unrolled=True),
        ]


def shared(window: PoolWindow) -> int:
    """Choose how many lanes share a window."""
    return _SHARES if window.size >= _LARGE else 1


def warps_for(pool: Pool, processors: int) -> int:
    """Choose the largest blocks of which every multiprocessor has one."""
    units = pool.window.contraction.m * pool.window.contraction.out_c // pool.window.width
    warps = units * pool.shares / _LANES
    return next((w for w in (_WARPS, 2) if warps >= w * processors), 1)
