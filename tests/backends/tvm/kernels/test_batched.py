"""Batches of products of two dynamic operands, against float64."""

from __future__ import annotations

from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcompile.backends.tvm.kernels import batched
from gcompile.backends.tvm.kernels.batched import BatchedKernel
from gcompile.backends.tvm.kernels.matrices import Matrices
from gcompile.backends.tvm.kernels.spec import (
    Accumulator,
    Binary,
    Constant,
    Image,
    Load,
    Output,
    Source,
)
from gcompile.backends.tvm.kernels.units import unit_named
from gcompile.errors import CompileError
from gcompile.ir.tile import Tile
from tests.backends.tvm.kernels.compiling import Array, inside, run, with_halo
from tests.backends.tvm.kernels.emulation import emulate, load_emulation
from tests.backends.tvm.kernels.examples import few
from tests.backends.tvm.kernels.machine import machine_for, skip_unless_runnable

UNITS = (
    "generic", "avx2", "avx512", "generic-bf16", "avx2-bf16", "avx512-bf16-widened", "avx512-bf16",
    "avx2-fp16-widened", "avx512-fp16-widened",
    "amx-bf16", "sse-int8", "avx2-int8", "avx-vnni", "avx512-vnni", "amx-int8",
)  # fmt: skip
FEW = few()


@st.composite
def kernels(draw: st.DrawFn, unit: str) -> BatchedKernel:
    """Small batches of every layout, whose expression is the bare sum."""
    small = st.integers(0, 1)
    batch, right_heads, per_right = (draw(st.integers(1, 2)) for _ in range(3))
    m, n, k = draw(st.integers(1, 20)), draw(st.integers(1, 40)), draw(st.integers(1, 70))
    is_transposed = draw(st.booleans())
    carrier = unit_named(unit)

    def matrices(rows: int, columns: int, heads: int, dtype: str) -> Matrices:
        in_channels, first = draw(st.booleans()), draw(st.integers(0, 3))
        channels = heads * columns if in_channels else columns
        size = (batch, 1 if in_channels else heads, rows, first + channels + draw(small))
        halo = (draw(small), draw(small), draw(small), draw(small))
        image = Image(*size, dtype, halo)
        return Matrices.in_image(
            image, columns, heads, in_channels=in_channels, first_channel=first
        )

    heads = right_heads * per_right
    is_bytes = carrier.x_dtype == "uint8"
    left_dtype, right_dtype = (
        draw(st.sampled_from(["uint8", "int8"])) if is_bytes else carrier.x_dtype for _ in range(2)
    )
    zero = st.sampled_from([0, 3, 100]) if is_bytes else st.just(0)
    in_channels = draw(st.booleans())
    size = (batch, 1, m, heads * n) if in_channels else (batch, heads, m, n)
    return BatchedKernel(
        output=Output(Image(*size, carrier.accumulator_dtype, (1, 0, 0, 1), 5.0)),
        expression=Accumulator(),
        left=matrices(m, k, heads, left_dtype),
        right=matrices(n, k, right_heads, right_dtype)
        if is_transposed
        else matrices(k, n, right_heads, right_dtype),
        is_transposed=is_transposed,
        output_in_channels=in_channels,
        zero_points=(draw(zero), draw(zero)),
        tile=Tile(
            unit,
            *draw(st.sampled_from([(2, 2), (1, 1), (3, 1), (1, 2)])),
            outer=draw(st.sampled_from(["m", "n"])),
            split=draw(st.sampled_from(["m", "n"])),
            threads=draw(st.integers(1, 3)),
        ),
    )


@pytest.mark.parametrize("unit", UNITS)
@FEW
@given(data=st.data())
def test_matrices_of_any_layout_are_multiplied(unit: str, data: st.DataObject) -> None:
    kernel = data.draw(kernels(unit))
    left, right = _random(kernel.left, 1), _random(kernel.right, 2)
    stored = _run(kernel, [left, right])
    a, b = (_matrices(*pair) for pair in ((kernel.left, left), (kernel.right, right)))
    a, b = a - kernel.zero_points[0], b - kernel.zero_points[1]
    b = np.repeat(b, kernel.left.heads // kernel.right.heads, axis=1)
    b = b.swapaxes(-1, -2) if kernel.is_transposed else b
    expected = _as_output(kernel, a @ b)
    bound = _as_output(kernel, np.abs(a) @ np.abs(b)) * (a.shape[-1] + 1) * 2.0**-24
    if kernel.output.image.dtype == "int32":
        bound *= 0
    image = kernel.output.image
    assert np.all(np.abs(inside(image, stored) - expected) <= bound)
    np.testing.assert_array_equal(stored, with_halo(image, inside(image, stored)))


def test_scores_are_scaled_and_masked() -> None:
    heads = Matrices.in_image(Image(1, 1, 9, 3 * 24), 8, 3, in_channels=True)
    mask = Source(Image(1, 1, 9, 9))
    kernel = BatchedKernel(
        output=Output(Image(1, 3, 9, 9)),
        expression=Binary("add", Binary("mul", Accumulator(), Constant(0.25)), Load(0)),
        sources=(mask,),
        left=heads,
        right=replace(heads, offset=24),
        is_transposed=True,
        tile=Tile("generic", 3, 2, threads=2),
    )
    rng = np.random.default_rng(3)
    x = rng.standard_normal((1, 1, 9, 72)).astype(np.float32)
    masked = np.triu(np.full((9, 9), -1e9, np.float32), 1)
    stored = _run(kernel, [x, x, masked.reshape(1, 1, 9, 9)])
    q, k = _matrices(kernel.left, x), _matrices(kernel.right, x)
    expected = q @ k.swapaxes(-1, -2) * 0.25 + masked
    np.testing.assert_allclose(stored, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"right": Matrices.in_image(Image(1, 1, 5, 8), 8)}, "depth of 6"),
        ({"right": Matrices.in_image(Image(1, 2, 6, 8), 8, 2)}, "evenly"),
        ({"tile": Tile("avx512-vnni", 2, 1)}, "operands are float32"),
        ({"tile": Tile("amx-bf16", 3, 3)}, "operands are float32"),
    ],
)
def test_what_cannot_be_multiplied_is_refused(change: dict[str, object], reason: str) -> None:
    kernel = BatchedKernel(
        output=Output(Image(1, 1, 4, 8)),
        expression=Accumulator(),
        left=Matrices.in_image(Image(1, 1, 4, 6), 6),
        right=Matrices.in_image(Image(1, 1, 6, 8), 8),
        tile=Tile("generic", 2, 1),
    )
    with pytest.raises(CompileError, match=reason):
        batched.code(replace(kernel, **change))  # type: ignore[arg-type]


def _run(kernel: BatchedKernel, inputs: list[Array]) -> Array:
    unit = kernel.tile.unit
    if unit_named(unit).is_tiled:
        faults = load_emulation()
        before = faults()
        # Column sums of bytes need the vector instructions of machines with AMX.
        machine: tuple[()] | tuple[str | None, tuple[str, ...]] = ()
        if unit == "amx-int8":
            skip_unless_runnable("avx512-vnni")
            machine = machine_for("avx512-vnni")
        function = batched.emit(kernel, "batched", emulate)
        stored = run(function, inputs, kernel.output, *machine)
        assert faults() == before
        return stored
    skip_unless_runnable(unit)
    return run(batched.emit(kernel, "batched"), inputs, kernel.output, *machine_for(unit))


def _random(matrices: Matrices, seed: int) -> Array:
    image = matrices.image
    rng = np.random.default_rng(seed)
    size = (image.batch, image.height, image.width, image.channels)
    if "int" not in image.dtype:
        return with_halo(image, rng.standard_normal(size))
    low, high = (0, 256) if image.dtype == "uint8" else (-128, 128)
    return with_halo(image, rng.integers(low, high, size))


def _matrices(matrices: Matrices, stored: Array) -> Array:
    """(batch, heads, rows, columns) in float64."""
    is_narrow = matrices.image.dtype == "bfloat16"
    line = (stored.view(ml_dtypes.bfloat16) if is_narrow else stored).astype(np.float64)
    line = line.reshape(-1)[matrices.offset :]
    shape = (matrices.batch, matrices.heads, matrices.rows, matrices.columns)
    strides = [line.itemsize * step for step in (*matrices.strides, 1)]
    return np.lib.stride_tricks.as_strided(line, shape, strides)


def _as_output(kernel: BatchedKernel, products: Array) -> Array:
    if not kernel.output_in_channels:
        return products
    batch, heads, m, n = products.shape
    return products.transpose(0, 2, 1, 3).reshape(batch, 1, m, heads * n)
