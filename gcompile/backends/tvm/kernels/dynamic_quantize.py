"""Quantize a tensor with the scale and zero point that its own range gives.

    s = (max(x, 0) - min(x, 0)) / 255,   z = round(-min(x, 0) / s),   q = round(x / s) + z

Two passes in one launch: what the first one read is in the cache for the second. Divisions are
divisions, as ONNX says, so that every integer is the one that other runtimes find.
"""

from __future__ import annotations

import math

from tvm import tirx
from tvm.tirx import Buffer, Expr
from tvm.tirx.script import builder as T

from gcompile.backends.tvm.kernels.function import Argument, Code, view
from gcompile.backends.tvm.kernels.lanes import Lanes, bind
from gcompile.backends.tvm.kernels.rows import Row, across
from gcompile.backends.tvm.kernels.spec import DynamicQuantizeKernel

_MOST = 255


def code(kernel: DynamicQuantizeKernel) -> Code:
    """Emit the kernel. Its arguments are x, then what it writes: integers, scale, zero point."""
    count = math.prod(kernel.shape)
    row = Row.of(count, kernel.vector_bits)

    def write(buffers: list[Buffer]) -> None:
        x, stored = (view(buffer, (count,)) for buffer in buffers[:2])
        scale, zero_point = (view(buffer, (1,)) for buffer in buffers[2:])
        low, high = _range(row, x)
        extent = bind(high - low)
        step = T.Select(extent == 0, _float(1.0), extent / _float(_MOST))
        T.buffer_store(scale, step, [0])
        size = scale[0]
        zero = bind(_rounded(_float(0.0) - low / size, Lanes(1)))
        T.buffer_store(zero_point, T.Cast("uint8", zero), [0])
        zeros, sizes = row.lanes.splat(zero), row.lanes.splat(size)

        def quantize(offset: Expr) -> None:
            numbers = x[row.lanes.index(offset)] / sizes
            # Clipped before it is rounded, which no integer is moved by.
            held = T.max(T.min(numbers, row.lanes.splat(_float(_MOST)) - zeros), -zeros)
            number = T.call_llvm_pure_intrin(row.lanes.type("int32"), "llvm.lrint", held)
            total = number + row.lanes.cast("int32", zeros)
            T.buffer_store(stored, row.lanes.cast("uint8", total), [row.lanes.index(offset)])

        row.for_each(quantize)

    arguments = (
        Argument("x", kernel.source_shape, "float32"),
        Argument("stored", kernel.shape, "uint8"),
        Argument("scale", (), "float32"),
        Argument("zero_point", (), "uint8"),
    )
    return Code(arguments, write)


def _range(row: Row, x: Buffer) -> tuple[Expr, Expr]:
    """The least and the greatest number; zero is always between them."""
    low, high = row.register(0.0), row.register(0.0)

    def take(offset: Expr) -> None:
        numbers = bind(x[row.lanes.index(offset)])
        low.set(T.min(low.value, numbers))
        high.set(T.max(high.value, numbers))

    row.for_each(take)
    return bind(across(low, T.min)), bind(across(high, T.max))


def _rounded(number: Expr, lanes: Lanes) -> Expr:
    held = T.max(T.min(number, lanes.splat(float(_MOST))), lanes.splat(0.0))
    return T.nearbyint(held)


def _float(value: float) -> Expr:
    return tirx.const(float(value), "float32")
