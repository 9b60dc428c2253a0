"""Changes of layout, with the conversions they make on the way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcompile.backends.tvm.kernels import transpose
from gcompile.backends.tvm.kernels.spec import Image, Output, TransposeKernel
from gcompile.errors import CompileError
from tests.backends.tvm.kernels.compiling import inside, run, with_halo

Array = npt.NDArray[Any]

_SCALE, _ZERO_POINT = 0.02, 100


def _kernel(
    plain_shape: tuple[int, int, int, int],
    to_image: bool,
    plain_dtype: str = "float32",
    image_dtype: str = "float32",
    channels: int = 0,
    halo: tuple[int, int, int, int] = (0, 0, 0, 0),
    threads: int = 1,
    bits: int = 256,
) -> TransposeKernel:
    batch, count, height, width = plain_shape
    is_integer = "int" in plain_dtype + image_dtype
    image = Image(
        *(batch, height, width, channels or count, image_dtype),
        halo=halo,
        fill=_ZERO_POINT if "int" in image_dtype else 0.0,
    )
    return TransposeKernel(
        *(plain_shape, plain_dtype, image, to_image),
        scale=_SCALE if is_integer else 1.0,
        zero_point=_ZERO_POINT if is_integer else 0,
        vector_bits=bits,
        threads=threads,
    )


def _numbers(shape: tuple[int, ...], dtype: str, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    if "int" in dtype:
        return rng.integers(0, 128, shape).astype(dtype)
    return rng.standard_normal(shape).astype(_numpy(dtype))


def _numpy(dtype: str) -> np.dtype:
    return np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)


def _converted(kernel: TransposeKernel, values: Array, source: str, target: str) -> Array:
    """What the numbers become, in float64."""
    if source == target:
        return values.astype(np.float64)
    real = values.astype(np.float64)
    if "int" in source:
        real = (real - kernel.zero_point) * kernel.scale
    if "int" in target:
        info = np.iinfo(target)
        quantized = np.rint(real / kernel.scale) + kernel.zero_point
        return np.asarray(np.clip(quantized, info.min, info.max))
    return real


def _check(kernel: TransposeKernel) -> None:
    if kernel.to_image:
        _check_to_image(kernel)
    else:
        _check_from_image(kernel)


def _close(actual: Array, expected: Array, dtype: str) -> None:
    if "int" in dtype:
        assert np.abs(actual.astype(np.float64) - expected).max(initial=0) <= 1
        return
    tolerance = {"float32": 1e-6, "float16": 1e-3, "bfloat16": 8e-3, "int32": 0}[dtype]
    np.testing.assert_allclose(actual.astype(np.float64), expected, tolerance, tolerance)


def _check_to_image(kernel: TransposeKernel) -> None:
    image = kernel.image
    plain = _numbers(kernel.plain_shape, kernel.plain_dtype)
    result = run(transpose.emit(kernel, "transpose"), [_stored(plain)], Output(image))
    expected = _converted(kernel, plain, kernel.plain_dtype, image.dtype)
    actual = inside(image, result)
    channels = kernel.plain_shape[1]
    _close(actual[..., :channels], expected.transpose(0, 2, 3, 1), image.dtype)
    zero = kernel.zero_point if "int" in image.dtype else 0
    assert (actual[..., channels:] == zero).all()
    np.testing.assert_array_equal(result, with_halo(image, inside(image, result)))


def _check_from_image(kernel: TransposeKernel) -> None:
    image, shape = kernel.image, kernel.plain_shape
    values = _numbers((image.batch, image.height, image.width, image.channels), image.dtype)
    batch, channels, height, width = shape
    plain = Output(Image(batch, channels, height, width, kernel.plain_dtype))
    result = run(transpose.emit(kernel, "transpose"), [with_halo(image, values)], plain)
    expected = _converted(kernel, values, image.dtype, kernel.plain_dtype)
    _close(
        inside(plain.image, result),
        expected[..., :channels].transpose(0, 3, 1, 2),
        kernel.plain_dtype,
    )


def _stored(values: Array) -> Array:
    return values.view(np.uint16) if values.dtype == ml_dtypes.bfloat16 else values


@pytest.mark.parametrize("dtype", ["float32", "uint8", "bfloat16", "float16", "int8"])
@pytest.mark.parametrize("bits", [128, 256, 512])
def test_three_channels_become_four_and_the_halo_is_filled(dtype: str, bits: int) -> None:
    _check(_kernel((1, 3, 9, 37), True, "float32", dtype, 4, (3, 3, 3, 3), 2, bits))


@pytest.mark.parametrize("to_image", [True, False])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 8, 16, 21])
def test_any_number_of_channels_moves_both_ways(to_image: bool, channels: int) -> None:
    _check(_kernel((2, channels, 3, 11), to_image))


@pytest.mark.parametrize("dtype", ["float32", "uint8", "int8", "int32", "bfloat16", "float16"])
@pytest.mark.parametrize("to_image", [True, False])
def test_a_copy_keeps_every_bit(dtype: str, to_image: bool) -> None:
    kernel = _kernel((1, 12, 5, 10), to_image, dtype, dtype, 16)
    _check(kernel)


@pytest.mark.parametrize("channels", [3, 24])
def test_integers_become_real_numbers(channels: int) -> None:
    _check(_kernel((1, channels, 4, 9), False, "float32", "uint8", threads=2))
    _check(_kernel((1, channels, 4, 9), True, "uint8", "float32"))


def test_padded_channels_of_quantized_images_hold_the_zero_point() -> None:
    _check(_kernel((1, 9, 2, 5), True, "float32", "uint8", 16))
    _check(_kernel((1, 3, 2, 5), True, "uint8", "uint8", 4))


def test_declared_shapes_are_what_the_caller_passes() -> None:
    kernel = replace(_kernel((1, 6, 1, 4), True), declared_plain=(6, 4))
    function = transpose.emit(kernel, "transpose")
    assert [int(n) for n in function.params[0].shape] == [6, 4]


def test_two_different_tensors_are_refused() -> None:
    kernel = _kernel((1, 6, 4, 4), True)
    with pytest.raises(CompileError, match="not the same"):
        transpose.emit(replace(kernel, plain_shape=(1, 6, 5, 4)), "transpose")


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    shape=st.tuples(st.integers(1, 2), st.integers(1, 20), st.integers(1, 4), st.integers(1, 20)),
    extra=st.integers(0, 3),
    halo=st.tuples(*[st.integers(0, 2)] * 4),
    to_image=st.booleans(),
    dtypes=st.tuples(
        st.sampled_from(["float32", "float16"]), st.sampled_from(["float32", "uint8", "bfloat16"])
    ),
    threads=st.integers(1, 3),
    bits=st.sampled_from([128, 256, 512]),
)
def test_any_shape_moves_both_ways(
    shape: tuple[int, int, int, int],
    extra: int,
    halo: tuple[int, int, int, int],
    to_image: bool,
    dtypes: tuple[str, str],
    threads: int,
    bits: int,
) -> None:
    _check(_kernel(shape, to_image, *dtypes, shape[1] + extra, halo, threads, bits))
