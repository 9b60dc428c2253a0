"""Products with weights of few bits, interpreted, against float64; and their machine code."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcompile.backends.cuda.kernels.epilogue import Epilogue
from gcompile.backends.cuda.kernels.pack_stored import pack_stored, unpack_stored
from gcompile.backends.cuda.kernels.stored_product import StoredProduct
from gcompile.backends.cuda.program.interpret import interpret
from gcompile.backends.tvm.kernels.spec import (
    Accumulator,
    Binary,
    Image,
    Output,
    PerChannel,
    Unary,
)
from tests.backends.cuda.disassembly import compiled, instructions
from tests.backends.cuda.kernels.products import plain_epilogue

_TYPES = {"f16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}


@settings(max_examples=30, deadline=None)
@given(
    element=st.sampled_from(("f16", "bf16", "f16-75")),
    bits=st.sampled_from((4, 8)),
    m=st.integers(1, 20) | st.integers(60, 140),
    n=st.integers(1, 50),
    eighths=st.integers(1, 80),
    block=st.sampled_from((32, 64, 128, 10_000)),
    has_points=st.booleans(),
    warps=st.sampled_from((1, 4, 8)),
)
def test_stored_weights_are_multiplied_as_the_numbers_they_mean(
    element: str,
    bits: int,
    m: int,
    n: int,
    eighths: int,
    block: int,
    has_points: bool,
    warps: int,
) -> None:
    k = 8 * eighths
    arch = 75 if element.endswith("-75") else 80
    element = element.removesuffix("-75")
    rng = np.random.default_rng(k)
    x = rng.standard_normal((m, k)).astype(_TYPES[element])
    low = 0 if has_points else -(1 << (bits - 1))
    numbers = rng.integers(low, low + (1 << bits), (n, k))
    product = StoredProduct(
        "stored", element, bits, m, n, k, block, plain_epilogue(m, n), k, has_points, warps, arch
    )
    scales = rng.uniform(0.5, 2.0, (product.blocks, n)).astype(np.float32)
    points = rng.integers(0, 1 << bits, (product.blocks, n)).astype(np.uint8)
    y = np.zeros((m, n), np.float32)
    packed = pack_stored(numbers, bits, has_points)
    optional = [points] if has_points else []
    interpret(product.program(), [x, packed, scales, *optional, y])
    of = np.arange(k) // block
    offsets = points[of].T.astype(np.int64) if has_points else 0
    weights = (numbers - offsets) * scales[of].T.astype(np.float64)
    exact = x.astype(np.float64) @ weights.T
    size = np.abs(x.astype(np.float64)) @ np.abs(weights).T
    assert np.all(np.abs(y - exact) <= 1e-6 * size)


def test_bias_and_activation_follow_the_sums() -> None:
    m, n, k = 2, 24, 64
    rng = np.random.default_rng(0)
    x = rng.standard_normal((m, k)).astype(np.float16)
    numbers = rng.integers(-8, 8, (n, k))
    bias = rng.standard_normal(n).astype(np.float32)
    expression = Unary("relu", Binary("add", Accumulator(), PerChannel(0)))
    epilogue = Epilogue(Output(Image(1, 1, m, n, "float16")), expression, (), 1)
    product = StoredProduct("stored", "f16", 4, m, n, k, k, epilogue, k)
    y = np.zeros((m, n), np.float16)
    interpret(product.program(), [x, pack_stored(numbers, 4), np.ones(n, np.float32), bias, y])
    exact = np.maximum(x.astype(np.float64) @ numbers.T + bias, 0)
    np.testing.assert_allclose(y, exact, rtol=1e-3, atol=1e-3)


def test_packing_keeps_every_weight_once() -> None:
    numbers = np.arange(16 * 64).reshape(16, 64) % 16 - 8
    packed = pack_stored(numbers, 4)
    assert packed.shape == (1, 1, 32, 16)
    nibbles = np.stack([packed & 15, packed >> 4]).reshape(-1)
    np.testing.assert_array_equal(np.bincount(nibbles), np.full(16, 64))


@pytest.mark.parametrize("bits", [4, 8])
def test_packed_weights_are_read_back(bits: int) -> None:
    numbers = np.random.default_rng(0).integers(0, 1 << bits, (37, 200))
    packed = pack_stored(numbers, bits, has_points=True)
    np.testing.assert_array_equal(unpack_stored(packed.reshape(-1), 37, 200, bits), numbers)


@pytest.mark.parametrize(
    ("element", "bits", "m", "arch"),
    [("f16", 4, 8, 80), ("bf16", 8, 8, 80), ("bf16", 4, 256, 80), ("f16", 4, 8, 75)],
)
def test_decoding_feeds_tensor_cores_without_spills(
    element: str, bits: int, m: int, arch: int, tmp_path: Path
) -> None:
    epilogue = plain_epilogue(m, 4096)
    product = StoredProduct("stored", element, bits, m, 4096, 4096, 128, epilogue, 4096, arch=arch)
    code = compiled(product.program(), str(arch))
    assert code.spilled_bytes == 0
    assert code.registers <= (128 if m <= 8 else 168)
    found = instructions(code, tmp_path)
    each = product.unit // 16 * product.tiles[0] * len(product.instruction.pieces)
    assert found["HMMA"] % each == 0 < found["HMMA"]
    assert found["I2F"] == 0


@pytest.mark.parametrize(
    ("element", "bits", "m", "k", "block"),
    [
        ("f16", 3, 1, 64, 32),
        ("tf32", 4, 1, 64, 32),
        ("f16", 4, 1, 60, 32),
        ("f16", 4, 1, 64, 16),
    ],
)
def test_what_no_kernel_does_is_refused(
    element: str, bits: int, m: int, k: int, block: int
) -> None:
    with pytest.raises(ValueError, match=r"bits|Rows|Scales"):
        StoredProduct("stored", element, bits, m, 16, k, block, plain_epilogue(m, 16), 64)
