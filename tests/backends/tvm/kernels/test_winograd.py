"""Winograd convolutions against direct sums in double precision."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcompile.backends.tvm.kernels import winograd
from gcompile.backends.tvm.kernels.spec import (
    Accumulator,
    Binary,
    Image,
    Load,
    Output,
    PerChannel,
    Source,
    Unary,
)
from gcompile.backends.tvm.kernels.units import unit_named
from gcompile.backends.tvm.kernels.winograd import WinogradKernel, pack_weights
from gcompile.backends.tvm.kernels.winograd_transforms import FILTER, INPUT, OUTPUT
from gcompile.errors import CompileError
from gcompile.ir import Contraction, Tile
from tests.backends.tvm.kernels.compiling import Array, inside, run, with_halo
from tests.backends.tvm.kernels.machine import machine_for, skip_unless_runnable

ERROR = {2: 2e-6, 4: 3e-5}
"""Largest error, as a share of the largest output."""

PAIRS_ERROR = 1e-2
"""The same where bfloat16 pairs are multiplied, as a share of the largest sum of magnitudes:
transformed inputs and weights have eight bits."""


def convolution(batch: int, size: tuple[int, int], channels: tuple[int, int]) -> Contraction:
    height, width = size
    inside_, outside = channels
    return Contraction(
        batch, height, width, inside_, height, width, outside, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1
    )


def kernel_of(sizes: Contraction, tile: Tile, dtype: str = "float32") -> WinogradKernel:
    x = Image(sizes.batch, sizes.in_h, sizes.in_w, sizes.in_c, dtype, (1, 2, 1, 1))
    y = Image(sizes.batch, sizes.out_h, sizes.out_w, sizes.out_c, dtype, (1, 0, 0, 1))
    total = Binary("add", Binary("add", Accumulator(), PerChannel(0)), Load(0))
    return WinogradKernel(
        output=Output(y),
        expression=Unary("relu", total),
        sources=(Source(Image(sizes.batch, sizes.out_h, sizes.out_w, sizes.out_c, dtype)),),
        channel_vectors=1,
        threads=tile.threads,
        vector_bits=unit_named(tile.unit).vector_bits,
        contraction=sizes,
        x=x,
        tile=tile,
    )


def direct(x: Array, weights: Array) -> Array:
    padded = np.pad(x.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = x.shape[1:3]
    return np.asarray(
        sum(
            padded[:, i : i + height, j : j + width] @ weights[:, :, i, j].T.astype(np.float64)
            for i in range(3)
            for j in range(3)
        )
    )


@pytest.mark.parametrize("side", [2, 4])
def test_the_transforms_compute_the_filter(side: int) -> None:
    rng = np.random.default_rng(0)
    d, g = rng.standard_normal((side + 2, side + 2)), rng.standard_normal((3, 3))
    products = (INPUT[side] @ d @ INPUT[side].T) * (FILTER[side] @ g @ FILTER[side].T)
    want = [[(d[i : i + 3, j : j + 3] * g).sum() for j in range(side)] for i in range(side)]
    np.testing.assert_allclose(OUTPUT[side] @ products @ OUTPUT[side].T, want, atol=1e-12)


@pytest.mark.parametrize("unit", ["generic", "avx2", "avx512", "avx512-bf16"])
@settings(max_examples=4, deadline=None, derandomize=True)
@given(
    side=st.sampled_from([2, 4]),
    batch=st.integers(1, 2),
    size=st.tuples(st.integers(4, 11), st.integers(4, 11)),
    channels=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    rows=st.integers(1, 4),
    columns=st.integers(1, 2),
    block=st.integers(1, 9),
    threads=st.integers(1, 2),
    dtype=st.sampled_from(["float32", "float16", "bfloat16"]),
)
def test_it_agrees_with_direct_sums(
    unit: str,
    side: int,
    batch: int,
    size: tuple[int, int],
    channels: tuple[int, int],
    rows: int,
    columns: int,
    block: int,
    threads: int,
    dtype: str,
) -> None:
    skip_unless_runnable(unit)
    error = ERROR[side] + {"float32": 0, "float16": 5e-4, "bfloat16": 4e-3}[dtype]
    if unit_named(unit).x_dtype == "bfloat16":
        side, dtype, channels, error = 2, "bfloat16", (2 * channels[0], channels[1]), PAIRS_ERROR
    sizes = convolution(batch, size, channels)
    tiles = batch * -(-size[0] // side) * -(-size[1] // side)
    tile = Tile(unit, rows, columns, threads=threads, winograd=side, block=min(block, tiles))
    kernel = kernel_of(sizes, tile, dtype)
    rng = np.random.default_rng(1)
    x = with_halo(kernel.x, rng.standard_normal((batch, *size, channels[0])))
    weights = rng.standard_normal((channels[1], channels[0], 3, 3)).astype(np.float32)
    bias = rng.standard_normal(channels[1]).astype(np.float32)
    source = kernel.sources[0].image
    residual = with_halo(source, rng.standard_normal((batch, *size, channels[1])))
    stored = run(
        winograd.emit(kernel, "winograd"),
        [x, pack_weights(kernel, weights), bias, residual],
        kernel.output,
        *machine_for(unit),
    )
    reals = inside(kernel.x, x).astype(np.float64), inside(source, residual).astype(np.float64)
    want = np.maximum(direct(reals[0], weights) + bias + reals[1], 0)
    found = inside(kernel.output.image, stored).astype(np.float64)
    largest = np.abs(want).max()
    if unit_named(unit).x_dtype == "bfloat16":
        largest = direct(np.abs(reals[0]), np.abs(weights)).max() + largest
    allowed = error * largest
    np.testing.assert_allclose(found, want, rtol=0, atol=allowed + 1e-6)
    np.testing.assert_array_equal(
        stored, with_halo(kernel.output.image, inside(kernel.output.image, stored))
    )


@pytest.mark.parametrize(
    ("tile", "reason"),
    [
        (Tile("generic", 1, 1, winograd=3, block=1), "3 by 3 pixels do not fit"),
        (Tile("generic", 1, 1, winograd=4, block=99), "A block of 99 tiles of 4"),
        (Tile("avx-vnni", 1, 1, winograd=4, block=1), "with unit 'avx-vnni' is unknown"),
        (Tile("avx512-bf16", 1, 1, winograd=2, block=1), "on float32 with unit 'avx512-bf16'"),
    ],
)
def test_what_it_cannot_do_is_refused(tile: Tile, reason: str) -> None:
    kernel = kernel_of(convolution(1, (6, 6), (4, 4)), tile)
    with pytest.raises(CompileError, match=reason):
        winograd.emit(kernel, "winograd")
