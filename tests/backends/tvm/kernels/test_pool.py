"""Pooling against float64."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcompile.backends.tvm.kernels import pool
from gcompile.backends.tvm.kernels.spec import (
    Accumulator,
    Image,
    Output,
    PoolKernel,
    Unary,
)
from gcompile.errors import CompileError
from gcompile.ir.contraction import Contraction
from tests.backends.tvm.kernels.compiling import inside, run, with_halo

Array = npt.NDArray[Any]

_LOWEST = {"float32": -np.inf, "float16": -np.inf, "bfloat16": -np.inf, "uint8": 0, "int8": -128}


def _kernel(
    size: tuple[int, int],
    channels: int,
    window: tuple[int, int],
    stride: tuple[int, int] = (1, 1),
    pads: tuple[int, int, int, int] = (0, 0, 0, 0),
    function: str = "max",
    dtype: str = "float32",
    batch: int = 1,
    threads: int = 1,
    ceil: bool = False,
    include_pad: bool = False,
    out_halo: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> PoolKernel:
    (height, width), (top, left, bottom, right) = size, pads
    spans = (height + top + bottom - window[0], width + left + right - window[1])
    out = [
        -(-span // step) + 1 if ceil else span // step + 1
        for span, step in zip(spans, stride, strict=True)
    ]
    # A window that would begin behind the last pixel does not exist.
    ends = (height + top, width + left)
    out = [n - ((n - 1) * step >= end) for n, step, end in zip(out, stride, ends, strict=True)]
    contraction = Contraction(
        *(batch, height, width, channels, out[0], out[1], channels, *window, *stride),
        *(1, 1, *pads, channels),
    )
    reach = [
        (n - 1) * step + k - pad - extent
        for n, step, k, pad, extent in zip(out, stride, window, (top, left), size, strict=True)
    ]
    halo = (top, left, max(reach[0], 0), max(reach[1], 0))
    halo = halo if function == "max" else (1, 0, 0, 2)
    is_integer = dtype in ("uint8", "int8")
    x = Image(batch, height, width, channels, dtype, halo, _LOWEST[dtype])
    image = Image(batch, out[0], out[1], channels, dtype, out_halo, 1.0)
    return PoolKernel(
        output=Output(image, 0.3, 5) if is_integer else Output(image),
        expression=Unary("relu", Accumulator()),
        threads=threads,
        contraction=contraction,
        x=x,
        function=function,
        count_include_pad=include_pad,
        x_scale=0.25 if is_integer else 1.0,
        x_zero_point=9 if is_integer else 0,
    )


def _pooled(kernel: PoolKernel, x: Array) -> Array:
    """The pool in float64, pixel by pixel, from the contents of the image."""
    sizes = kernel.contraction
    real = (x.astype(np.float64) - kernel.x_zero_point) * kernel.x_scale
    out = np.zeros((sizes.batch, sizes.out_h, sizes.out_w, sizes.out_c))
    for y in range(sizes.out_h):
        for column in range(sizes.out_w):
            top = y * sizes.stride_h - sizes.pad_top
            left = column * sizes.stride_w - sizes.pad_left
            rows = slice(max(top, 0), min(top + sizes.kernel_h, sizes.in_h))
            columns = slice(max(left, 0), min(left + sizes.kernel_w, sizes.in_w))
            seen = real[:, rows, columns].reshape(sizes.batch, -1, sizes.out_c)
            if kernel.function == "max":
                out[:, y, column] = seen.max(axis=1)
                continue
            count = seen.shape[1]
            if kernel.count_include_pad:
                padded_h = min(top + sizes.kernel_h, sizes.in_h + sizes.pad_bottom) - top
                padded_w = min(left + sizes.kernel_w, sizes.in_w + sizes.pad_right) - left
                count = padded_h * padded_w
            out[:, y, column] = seen.sum(axis=1) / count
    return out


def _check(kernel: PoolKernel, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    image = kernel.x
    shape = (image.batch, image.height, image.width, image.channels)
    low = -128 if image.dtype == "int8" else 0
    is_integer = image.dtype in ("uint8", "int8")
    x = rng.integers(low, low + 256, shape) if is_integer else rng.standard_normal(shape)
    stored = with_halo(image, x)
    result = run(pool.emit(kernel, "pool"), [stored], kernel.output)
    expected = np.maximum(_pooled(kernel, inside(image, stored)), 0)
    actual = inside(kernel.output.image, result).astype(np.float64)
    if is_integer:
        info = np.iinfo(image.dtype)
        quantized = np.clip(np.rint(expected / 0.3) + 5, info.min, info.max)
        assert np.abs(actual - quantized).max() <= 1
        assert (actual == quantized).mean() > 0.98
    else:
        rounding = {"float32": 1e-6, "float16": 1e-3, "bfloat16": 8e-3}[image.dtype]
        np.testing.assert_allclose(actual, expected, rtol=rounding, atol=rounding)
    expected_halo = with_halo(kernel.output.image, inside(kernel.output.image, result))
    np.testing.assert_array_equal(result, expected_halo)


_DTYPES = ["float32", "bfloat16", "float16", "uint8", "int8"]


@pytest.mark.parametrize("dtype", _DTYPES)
@pytest.mark.parametrize("function", ["max", "average"])
def test_every_type_is_pooled_with_padding(dtype: str, function: str) -> None:
    _check(_kernel((9, 7), 70, (3, 3), (2, 2), (1, 1, 1, 1), function, dtype, threads=2))


@pytest.mark.parametrize("dtype", _DTYPES)
@pytest.mark.parametrize("threads", [1, 3])
def test_global_pools_share_out_the_channels(dtype: str, threads: int) -> None:
    _check(_kernel((7, 7), 200, (7, 7), function="average", dtype=dtype, threads=threads))


@pytest.mark.parametrize("include_pad", [False, True])
def test_windows_beyond_the_padding_are_not_counted(include_pad: bool) -> None:
    _check(
        _kernel(
            *((6, 6), 5, (3, 3), (2, 2), (1, 1, 1, 1), "average"),
            ceil=True,
            include_pad=include_pad,
        )
    )


def test_a_max_pool_without_a_halo_is_refused() -> None:
    kernel = _kernel((6, 6), 8, (3, 3), pads=(1, 1, 1, 1))
    bare = replace(kernel, x=replace(kernel.x, halo=(0, 0, 0, 0)))
    with pytest.raises(CompileError, match="wider halo"):
        pool.emit(bare, "pool")


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    size=st.tuples(st.integers(5, 9), st.integers(5, 9)),
    channels=st.integers(1, 40),
    window=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    function=st.sampled_from(["max", "average"]),
    dtype=st.sampled_from(_DTYPES),
    batch=st.integers(1, 2),
    threads=st.integers(1, 2),
    ceil=st.booleans(),
    include_pad=st.booleans(),
)
def test_any_pool_agrees_with_float64(
    size: tuple[int, int],
    channels: int,
    window: tuple[int, int],
    stride: tuple[int, int],
    function: str,
    dtype: str,
    batch: int,
    threads: int,
    ceil: bool,
    include_pad: bool,
) -> None:
    pads = ((window[0] - 1) // 2, window[1] // 3, window[0] // 2, 0)
    _check(
        _kernel(
            *(size, channels, window, stride, pads, function, dtype, batch, threads),
            ceil=ceil,
            include_pad=include_pad,
            out_halo=(1, 0, 0, 2),
        )
    )
