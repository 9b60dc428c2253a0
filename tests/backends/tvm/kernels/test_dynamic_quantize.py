"""Dynamic quantization: the very integers, scale and zero point that ONNX defines."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st

from gcompile.backends.tvm.kernels import dynamic_quantize
from gcompile.backends.tvm.kernels.spec import DynamicQuantizeKernel
from tests.backends.tvm.kernels.compiling import Array, compile_function


def quantized(x: Array, bits: int = 256) -> tuple[Array, Array, Array]:
    """What the kernel writes: integers, scale and zero point."""
    kernel = DynamicQuantizeKernel(x.shape, x.shape, bits)
    function = dynamic_quantize.code(kernel).function("quantize")
    outputs = [np.full(x.shape, 77, np.uint8), np.zeros((), np.float32), np.zeros((), np.uint8)]
    tensors = [tvm.runtime.tensor(array) for array in (x, *outputs)]
    compile_function(function)["quantize"](*tensors)
    stored, scale, zero = (tensor.numpy() for tensor in tensors[1:])
    return stored, scale, zero


def defined(x: Array) -> tuple[Array, Array, Array]:
    """The definition, in the float32 that it is given in."""
    low, high = np.minimum(x.min(), np.float32(0)), np.maximum(x.max(), np.float32(0))
    scale = (high - low) / np.float32(255) if high > low else np.float32(1)
    zero = np.rint(np.clip(np.float32(0) - low / scale, 0, 255))
    stored = np.clip(np.rint(x / scale) + zero, 0, 255)
    return stored.astype(np.uint8), np.asarray(scale), np.asarray(zero.astype(np.uint8))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    shape=st.lists(st.integers(1, 23), min_size=1, max_size=3),
    offset=st.sampled_from([-9.0, -1.0, 0.0, 0.3, 7.0]),
    spread=st.sampled_from([1e-6, 1.0, 300.0]),
    bits=st.sampled_from([128, 256, 512]),
    seed=st.integers(0, 99),
)
def test_every_integer_is_the_one_that_onnx_defines(
    shape: list[int], offset: float, spread: float, bits: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x = (spread * (rng.standard_normal(shape) + offset)).astype(np.float32)
    for got, want in zip(quantized(x, bits), defined(x), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("value", [0.0, 3.0, -2.5])
def test_one_number_everywhere(value: float) -> None:
    x = np.full(37, value, np.float32)
    for got, want in zip(quantized(x), defined(x), strict=True):
        np.testing.assert_array_equal(got, want)
