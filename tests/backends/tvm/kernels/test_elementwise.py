"""Elementwise expressions against numpy, however the tensors lie in memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcompile.backends.tvm.kernels import elementwise
from gcompile.backends.tvm.kernels.spec import (
    Binary,
    Constant,
    ElementwiseKernel,
    Expression,
    Image,
    Load,
    Output,
    PerChannel,
    Source,
    Unary,
)
from tests.backends.tvm.kernels.compiling import inside, run, with_halo

Array = npt.NDArray[Any]

_SUM = Binary("add", Binary("mul", Load(0), Constant(1.37)), Load(1))


def _stored(rng: np.random.Generator, image: Image) -> Array:
    shape = (image.batch, image.height, image.width, image.channels)
    is_integer = "int" in image.dtype
    values = rng.integers(0, 120, shape) if is_integer else rng.standard_normal(shape)
    return with_halo(image, values)


def _real(source: Source, stored: Array) -> Array:
    numbers = inside(source.image, stored).astype(np.float64)
    return (numbers - source.zero_point) * source.scale


def _check(kernel: ElementwiseKernel, expected: Array, stored: list[Array]) -> None:
    arguments = [
        array.reshape(source.image.declared or source.image.shape)
        for array, source in zip(stored, kernel.sources, strict=True)
    ]
    vectors = [_vector(kernel, index) for index in range(kernel.channel_vectors)]
    result = run(elementwise.emit(kernel, "elementwise"), [*vectors, *arguments], kernel.output)
    image = kernel.output.image
    actual = inside(image, result).astype(np.float64)
    if "int" in image.dtype:
        info = np.iinfo(image.dtype)
        scaled = np.rint(expected / kernel.output.scale) + kernel.output.zero_point
        quantized = np.clip(scaled, info.min, info.max)
        assert np.abs(actual - quantized).max() <= 1
        assert (actual == quantized).mean() > 0.98
    else:
        rounding = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 1e-2}[image.dtype]
        np.testing.assert_allclose(actual, expected, rtol=rounding, atol=rounding)
    np.testing.assert_array_equal(result, with_halo(image, inside(image, result)))


def _vector(kernel: ElementwiseKernel, index: int) -> Array:
    channels = kernel.output.image.channels
    return np.linspace(-1, 1 + index, channels, dtype=np.float32)


def _kernel(
    image: Image, sources: list[Image], expression: Expression, threads: int = 1, bits: int = 256
) -> ElementwiseKernel:
    quantized = {True: (0.05, 60), False: (1.0, 0)}
    return ElementwiseKernel(
        output=Output(image, *quantized["int" in image.dtype]),
        expression=expression,
        sources=tuple(Source(item, *quantized["int" in item.dtype]) for item in sources),
        vector_bits=bits,
        threads=threads,
    )


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "uint8", "int8"])
@pytest.mark.parametrize("threads", [1, 2])
def test_every_type_is_read_and_written(dtype: str, threads: int) -> None:
    image = Image(1, 5, 6, 19, dtype)
    kernel = _kernel(image, [image, image], _SUM, threads)
    rng = np.random.default_rng(1)
    stored = [_stored(rng, image) for _ in range(2)]
    reals = [_real(s, a) for s, a in zip(kernel.sources, stored, strict=True)]
    _check(kernel, reals[0] * 1.37 + reals[1], stored)


def test_tensors_of_one_shape_are_one_line() -> None:
    image = Image(1, 8, 8, 3)
    kernel = _kernel(image, [image, Image(1, 1, 1, 1)], _SUM)
    line = elementwise.flattened(kernel)
    assert line.output.image.shape == (1, 1, 1, 192)
    assert line.output.image.declared == (1, 8, 8, 3)
    rng = np.random.default_rng(2)
    stored = [_stored(rng, source.image) for source in kernel.sources]
    _check(kernel, stored[0] * 1.37 + stored[1], stored)


@pytest.mark.parametrize(
    "change",
    [
        {"sources": (Source(Image(1, 8, 8, 1)), Source(Image(1, 8, 8, 3)))},
        {"output": Output(Image(1, 8, 8, 3, halo=(1, 1, 1, 1)))},
        {"channel_vectors": 1},
    ],
)
def test_broadcasts_halos_and_channel_vectors_keep_the_layout(change: dict[str, object]) -> None:
    image = Image(1, 8, 8, 3)
    kernel = replace(_kernel(image, [image, image], _SUM), **change)  # type: ignore[arg-type]
    assert elementwise.flattened(kernel) is kernel


def test_declared_shapes_are_what_the_caller_passes() -> None:
    image = Image(1, 1, 6, 10, declared=(2, 3, 10))
    kernel = _kernel(image, [image], Unary("sigmoid", Load(0)))
    function = elementwise.emit(kernel, "elementwise")
    shapes = [tuple(int(size) for size in item.shape) for item in function.params]
    assert shapes == [(2, 3, 10), (2, 3, 10)]
    x = _stored(np.random.default_rng(3), image)
    _check(kernel, 1 / (1 + np.exp(-x.astype(np.float64))), [x])


@pytest.mark.parametrize("threads", [1, 3])
def test_channel_vectors_follow_the_channels(threads: int) -> None:
    image = Image(2, 1, 4, 37, halo=(1, 0, 0, 2), fill=2.0)
    expression = Binary("mul", Binary("add", Load(0), PerChannel(0)), PerChannel(1))
    kernel = replace(_kernel(image, [image], expression, threads), channel_vectors=2)
    x = _stored(np.random.default_rng(4), image)
    reals = _real(kernel.sources[0], x)
    _check(kernel, (reals + _vector(kernel, 0)) * _vector(kernel, 1), [x])


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    shape=st.tuples(*[st.integers(1, 5)] * 3, st.integers(1, 40)),
    broadcast=st.tuples(*[st.booleans()] * 4),
    halo=st.tuples(*[st.integers(0, 2)] * 4),
    out_halo=st.tuples(*[st.integers(0, 2)] * 4),
    dtypes=st.tuples(*[st.sampled_from(["float32", "uint8", "bfloat16", "float16"])] * 2),
    threads=st.integers(1, 3),
    bits=st.sampled_from([128, 256, 512]),
)
def test_any_broadcast_agrees_with_numpy(
    shape: tuple[int, int, int, int],
    broadcast: tuple[bool, ...],
    halo: tuple[int, int, int, int],
    out_halo: tuple[int, int, int, int],
    dtypes: tuple[str, str],
    threads: int,
    bits: int,
) -> None:
    one, two, three, four = (
        1 if once else size for once, size in zip(broadcast, shape, strict=True)
    )
    sources = [Image(*shape, dtypes[0]), Image(one, two, three, four, dtypes[1], halo)]
    kernel = _kernel(Image(*shape, halo=out_halo, fill=-1), sources, _SUM, threads, bits)
    rng = np.random.default_rng(5)
    stored = [_stored(rng, image) for image in sources]
    reals = [_real(s, a) for s, a in zip(kernel.sources, stored, strict=True)]
    _check(kernel, reals[0] * 1.37 + reals[1], stored)
