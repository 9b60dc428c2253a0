"""Normalizations against float64, also where the mean dwarfs the deviation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcompile.backends.tvm.kernels import normalize
from gcompile.backends.tvm.kernels.normalize import NormalizeKernel
from gcompile.backends.tvm.kernels.spec import (
    Accumulator,
    Binary,
    Image,
    Load,
    Output,
    PerChannel,
    Source,
)
from gcompile.errors import CompileError
from tests.backends.tvm.kernels.compiling import Array, inside, run, with_halo

_SCALE_AND_BIAS = Binary("add", Binary("mul", Accumulator(), PerChannel(0)), PerChannel(1))


def _kernel(image: Image, **fields: Any) -> NormalizeKernel:
    plain = Image(image.batch, image.height, image.width, image.channels)
    values = {"sources": (Source(plain),), "channel_vectors": 2, **fields}
    return NormalizeKernel(output=Output(image), expression=_SCALE_AND_BIAS, **values)


def _normalized(kernel: NormalizeKernel, x: Array) -> Array:
    """In float64. Groups become an axis of their own."""
    image = kernel.output.image
    groups = kernel.groups or 1
    split = x.astype(np.float64).reshape(*x.shape[:3], groups, image.channels // groups)
    axes = (-1,) if kernel.groups is None else (1, 2, 4)
    if kernel.is_centered:
        split = split - split.mean(axis=axes, keepdims=True)
    square = np.square(split).mean(axis=axes, keepdims=True)
    normalized: Array = (split / np.sqrt(square + kernel.epsilon)).reshape(x.shape)
    return normalized


def _check(kernel: NormalizeKernel, x: Array, tolerance: float = 3e-6) -> None:
    image = kernel.output.image
    scale = np.linspace(0.5, 2, image.channels, dtype=np.float32)
    bias = np.linspace(-1, 1, image.channels, dtype=np.float32)
    stored = run(normalize.emit(kernel, "normalize"), [scale, bias, x], kernel.output)
    expected = _normalized(kernel, x) * scale + bias
    np.testing.assert_allclose(inside(image, stored), expected, rtol=1e-5, atol=tolerance)
    np.testing.assert_array_equal(stored, with_halo(image, inside(image, stored)))


@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    pixels=st.tuples(*[st.integers(1, 3)] * 3),
    channels=st.one_of(st.integers(2, 9), st.integers(10, 150)),
    halo=st.tuples(*[st.integers(0, 2)] * 4),
    bits=st.sampled_from([128, 256, 512]),
    is_centered=st.booleans(),
    threads=st.integers(1, 3),
)
def test_the_channels_of_every_pixel_are_normalized(
    pixels: tuple[int, int, int],
    channels: int,
    halo: tuple[int, int, int, int],
    bits: int,
    is_centered: bool,
    threads: int,
) -> None:
    image = Image(*pixels, channels, halo=halo, fill=2.0)
    kernel = _kernel(image, vector_bits=bits, is_centered=is_centered, threads=threads)
    x = np.random.default_rng(channels).normal(1, 3, (*pixels, channels)).astype(np.float32)
    _check(kernel, x)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    pixels=st.tuples(st.integers(1, 2), st.integers(1, 5), st.integers(2, 5)),
    groups=st.integers(1, 7),
    group=st.sampled_from([1, 2, 5, 16, 19]),
    halo=st.tuples(*[st.integers(0, 2)] * 4),
    bits=st.sampled_from([128, 256, 512]),
    is_centered=st.booleans(),
    threads=st.integers(1, 3),
)
def test_groups_of_channels_are_normalized_over_whole_images(
    pixels: tuple[int, int, int],
    groups: int,
    group: int,
    halo: tuple[int, int, int, int],
    bits: int,
    is_centered: bool,
    threads: int,
) -> None:
    kernel = _kernel(
        Image(*pixels, groups * group, halo=halo, fill=2.0),
        groups=groups,
        vector_bits=bits,
        is_centered=is_centered,
        threads=threads,
    )
    size = (*pixels, groups * group)
    _check(kernel, np.random.default_rng(group).normal(1, 3, size).astype(np.float32))


@pytest.mark.parametrize("groups", [None, 4])
def test_a_mean_a_thousand_deviations_away_costs_no_precision(groups: int | None) -> None:
    x = np.random.default_rng(3).normal(1000, 1, (1, 6, 7, 52)).astype(np.float32)
    x[0, 0, 0] = 0.0 if groups else x[0, 0, 1]  # a first pixel far from all others
    _check(_kernel(Image(1, 6, 7, 52), groups=groups), x, tolerance=5e-6)


@pytest.mark.parametrize("groups", [None, 1])
def test_equal_numbers_become_the_bias(groups: int | None) -> None:
    x = np.full((1, 2, 3, 21), 0.1, np.float32)
    _check(_kernel(Image(1, 2, 3, 21), groups=groups, epsilon=1e-12), x, tolerance=2e-2)


def test_a_residual_is_added_before_and_integers_are_read() -> None:
    image = Image(1, 1, 5, 40)
    stored = Image(1, 1, 5, 40, "uint8")
    kernel = _kernel(
        image,
        sources=(Source(image), Source(stored, 0.05, 100)),
        operand=Binary("add", Load(0), Load(1)),
    )
    rng = np.random.default_rng(4)
    x = rng.standard_normal((1, 1, 5, 40)).astype(np.float32)
    added = rng.integers(0, 256, (1, 1, 5, 40), dtype=np.uint8)
    ones, zeros = np.ones(40, np.float32), np.zeros(40, np.float32)
    inputs: list[Array] = [ones, zeros, x, added]
    actual = run(normalize.emit(kernel, "normalize"), inputs, kernel.output)
    expected = _normalized(kernel, x + (added.astype(np.float64) - 100) * 0.05)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=3e-6)


def test_groups_that_do_not_divide_the_channels_are_refused() -> None:
    with pytest.raises(CompileError, match="groups"):
        normalize.code(_kernel(Image(1, 2, 2, 10), groups=4))
