"""Depthwise convolutions against float64."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcompile.backends.tvm.kernels import depthwise
from gcompile.backends.tvm.kernels.spec import (
    Accumulator,
    Binary,
    DepthwiseKernel,
    Image,
    Output,
    PerChannel,
    Unary,
)
from gcompile.errors import CompileError
from gcompile.ir.contraction import Contraction
from tests.backends.tvm.kernels.compiling import inside, run, with_halo
from tests.backends.tvm.kernels.products import convolution, sums

Array = npt.NDArray[Any]

_BOUND = Binary("add", Binary("mul", Accumulator(), PerChannel(0)), PerChannel(1))


def _contraction(
    height: int,
    width: int,
    channels: int,
    kernel: tuple[int, int] = (3, 3),
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    pads: tuple[int, int, int, int] = (1, 1, 1, 1),
    batch: int = 1,
) -> Contraction:
    top, left, bottom, right = pads
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    return Contraction(
        *(batch, height, width, channels),
        *((height + top + bottom - reach[0]) // stride[0] + 1,),
        *((width + left + right - reach[1]) // stride[1] + 1, channels),
        *(*kernel, *stride, *dilation, *pads, channels),
    )


def _kernel(
    contraction: Contraction,
    dtype: str = "float32",
    out_dtype: str = "float32",
    out_halo: tuple[int, int, int, int] = (0, 0, 0, 0),
    extra_halo: int = 0,
    threads: int = 1,
    vector_bits: int = 256,
) -> DepthwiseKernel:
    top, left, bottom, right = (pad + extra_halo for pad in contraction.pads)
    x = Image(
        *(contraction.batch, contraction.in_h, contraction.in_w, contraction.in_c, dtype),
        halo=(top, left, bottom, right),
        fill=7 if dtype == "uint8" else 0.0,
    )
    sizes = (contraction.batch, contraction.out_h, contraction.out_w, contraction.out_c)
    image = Image(*sizes, out_dtype, halo=out_halo, fill=3)
    scale, zero_point = (0.7, 10) if out_dtype == "uint8" else (1.0, 0)
    return DepthwiseKernel(
        output=Output(image, scale, zero_point),
        expression=Unary("relu", _BOUND),
        channel_vectors=2,
        vector_bits=vector_bits,
        threads=threads,
        contraction=contraction,
        x=x,
    )


def _convolved(contraction: Contraction, stored: Array, weights: Array, halo: Array) -> Array:
    """The accumulator in float64, from the stored image and the position of its contents."""
    total = np.zeros(
        (contraction.batch, contraction.out_h, contraction.out_w, contraction.out_c), np.float64
    )
    top, left = halo[0] - contraction.pad_top, halo[1] - contraction.pad_left
    for row in range(contraction.kernel_h):
        for column in range(contraction.kernel_w):
            y, x = top + row * contraction.dilation_h, left + column * contraction.dilation_w
            seen = stored[
                :,
                y : y + (contraction.out_h - 1) * contraction.stride_h + 1 : contraction.stride_h,
                x : x + (contraction.out_w - 1) * contraction.stride_w + 1 : contraction.stride_w,
            ]
            total += seen.astype(np.float64) * weights[row * contraction.kernel_w + column]
    return total


def _check(kernel: DepthwiseKernel, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    contraction, image = kernel.contraction, kernel.x
    shape = (image.batch, image.height, image.width, image.channels)
    is_integer = image.dtype in ("uint8", "int8")
    x = rng.integers(0, 120, shape) if is_integer else rng.standard_normal(shape)
    stored = with_halo(image, x)
    weight_shape = (contraction.kernel_h * contraction.kernel_w, contraction.out_c)
    weights = (
        rng.integers(-127, 128, weight_shape) if is_integer else rng.standard_normal(weight_shape)
    ).astype(np.float32)
    factor = np.full(contraction.out_c, 0.01 if is_integer else 1.5, np.float32)
    bias = rng.standard_normal(contraction.out_c).astype(np.float32)
    function = depthwise.emit(kernel, "depthwise")
    result = run(function, [stored, weights, factor, bias], kernel.output)
    whole = replace(image, height=stored.shape[1], width=stored.shape[2], halo=(0, 0, 0, 0))
    numbers = inside(whole, stored).astype(np.float64)
    total = _convolved(contraction, numbers, weights, np.array(image.halo))
    expected = np.maximum(total * factor + bias, 0)
    actual = inside(kernel.output.image, result).astype(np.float64)
    if kernel.output.image.dtype == "uint8":
        quantized = np.clip(np.rint(expected / kernel.output.scale) + 10, 0, 255)
        assert np.abs(actual - quantized).max() <= 1
        assert (actual == quantized).mean() > 0.99
    else:
        tolerance = {"float16": 1e-3, "bfloat16": 1e-2}.get(kernel.output.image.dtype, 1e-5)
        np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)
    expected_halo = with_halo(kernel.output.image, inside(kernel.output.image, result))
    np.testing.assert_array_equal(result, expected_halo)


@pytest.mark.parametrize("channels", [64, 10, 3, 1, 33])
@pytest.mark.parametrize("vector_bits", [512, 256, 128])
def test_every_number_of_channels_is_computed_exactly(channels: int, vector_bits: int) -> None:
    _check(_kernel(_contraction(6, 9, max(channels, 2), (3, 3)), vector_bits=vector_bits))


@pytest.mark.parametrize(
    ("dtype", "out_dtype"),
    [
        ("uint8", "uint8"),
        ("int8", "uint8"),
        ("bfloat16", "bfloat16"),
        ("float16", "float32"),
        ("float16", "float16"),
    ],
)
def test_every_input_type_is_read(dtype: str, out_dtype: str) -> None:
    _check(_kernel(_contraction(5, 7, 20), dtype, out_dtype, (1, 1, 1, 1), threads=2))


def test_a_narrow_halo_is_refused() -> None:
    kernel = _kernel(_contraction(5, 5, 8))
    narrow = replace(kernel, x=replace(kernel.x, halo=(0, 1, 1, 1)))
    with pytest.raises(CompileError, match="wider halo"):
        depthwise.emit(narrow, "depthwise")


def test_groups_that_do_not_divide_the_channels_are_refused() -> None:
    kernel = _kernel(_contraction(5, 5, 8))
    uneven = replace(kernel, contraction=replace(kernel.contraction, groups=3))
    with pytest.raises(CompileError, match="3 groups"):
        depthwise.code(uneven)
    padded = replace(kernel, contraction=replace(kernel.contraction, in_c=6, out_c=6, groups=3))
    with pytest.raises(CompileError, match="padded channels"):
        depthwise.code(padded)


def test_strips_divide_the_row_where_they_can() -> None:
    wide = _kernel(_contraction(4, 112, 16), vector_bits=512)
    assert depthwise.strip_width(wide) == 14
    prime = _kernel(_contraction(4, 13, 16), vector_bits=256)
    assert depthwise.strip_width(prime) == 8


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    size=st.tuples(st.integers(4, 12), st.integers(4, 20)),
    channels=st.integers(2, 40),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    batch=st.integers(1, 2),
    threads=st.integers(1, 3),
    extra_halo=st.integers(0, 1),
    dtype=st.sampled_from(["float32", "uint8", "bfloat16"]),
    bits=st.sampled_from([128, 256, 512]),
)
def test_any_window_agrees_with_float64(
    size: tuple[int, int],
    channels: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    batch: int,
    threads: int,
    extra_halo: int,
    dtype: str,
    bits: int,
) -> None:
    reach = [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
    pads = (reach[0], reach[1] // 2, reach[0] // 2, reach[1])
    contraction = _contraction(*size, channels, kernel, stride, dilation, pads, batch)
    _check(
        _kernel(
            contraction,
            dtype,
            out_halo=(0, 1, 2, 0),
            extra_halo=extra_halo,
            threads=threads,
            vector_bits=bits,
        )
    )


@settings(max_examples=10, deadline=None, derandomize=True)
@given(
    groups=st.integers(1, 21),
    ins=st.integers(1, 4),
    outs=st.sampled_from([1, 2, 3, 4, 6, 8]),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    dtype=st.sampled_from(["float32", "bfloat16", "uint8"]),
    bits=st.sampled_from([128, 256, 512]),
    threads=st.integers(1, 2),
)
def test_narrow_groups_of_any_size_are_convolved(
    groups: int,
    ins: int,
    outs: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dtype: str,
    bits: int,
    threads: int,
) -> None:
    contraction = convolution(
        (1, 5, 8, groups * ins), groups * outs, kernel, stride, pads=(1, 0, 1, 1), groups=groups
    )
    narrow = replace(
        _kernel(contraction, dtype, out_halo=(1, 1, 0, 0), threads=threads, vector_bits=bits),
        expression=Accumulator(),
        channel_vectors=0,
    )
    narrow = replace(narrow, x=replace(narrow.x, fill=0.0))
    rng = np.random.default_rng(groups)
    x = with_halo(narrow.x, rng.integers(0, 50, (1, 5, 8, groups * ins)))
    weights = rng.integers(-50, 50, (groups * outs, ins, *kernel)).astype(np.float32)
    packed = weights.transpose(2, 3, 1, 0).reshape(-1, ins, groups * outs)
    packed = packed[:, 0] if ins == 1 else packed
    stored = run(depthwise.emit(narrow, "narrow"), [x, packed], narrow.output)
    expected = sums(narrow, inside(narrow.x, x), weights)
    np.testing.assert_array_equal(stored, with_halo(narrow.output.image, expected))
