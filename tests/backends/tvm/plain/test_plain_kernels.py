"""Plain kernels against numpy and ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import parser

from gcompile.backends.onnx_backend import GcompileBackend

RNG = np.random.default_rng(0)


def read(text: str, opset: int = 21) -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]>\n{text}')


def run(proto: onnx.ModelProto, *inputs: Any) -> Any:
    return GcompileBackend.run_model(proto, list(inputs))


def expected(proto: onnx.ModelProto, *inputs: Any) -> Any:
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    names = [value.name for value in session.get_inputs()]
    return session.run(None, dict(zip(names, inputs, strict=True)))


@pytest.mark.parametrize("direction", ["LEFT", "RIGHT"])
@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32", "uint64"])
def test_bits_are_shifted(direction: str, dtype: str) -> None:
    limits = np.iinfo(dtype)
    x = RNG.integers(limits.min, limits.max, (3, 7), dtype, endpoint=True)
    count = RNG.integers(0, limits.bits, 7).astype(dtype)
    proto = read(
        f"""g ({dtype}[3,7] x, {dtype}[7] n) => ({dtype}[3,7] y)
        {{ y = BitShift<direction = "{direction}">(x, n) }}""",
        28,
    )
    shift = np.left_shift if direction == "LEFT" else np.right_shift
    (found,) = run(proto, x, count)
    np.testing.assert_array_equal(found, shift(x, count))


def test_a_shift_by_all_bits_leaves_the_sign() -> None:
    proto = read(
        """g (int8[4] x, int8[4] n) => (int8[4] y) { y = BitShift<direction = "RIGHT">(x, n) }""",
        28,
    )
    x, count = np.array([-5, 5, -5, 5], np.int8), np.array([8, 8, -1, -1], np.int8)
    (found,) = run(proto, x, count)
    np.testing.assert_array_equal(found, [-1, 0, -1, 0])


@pytest.mark.parametrize("fmod", [0, 1])
@pytest.mark.parametrize("dtype", ["float", "double", "int16", "int64"])
def test_remainders_have_the_sign_that_is_asked_for(fmod: int, dtype: str) -> None:
    numpy_type = {"float": "float32", "double": "float64"}.get(dtype, dtype)
    x = (RNG.standard_normal((5, 6)) * 100).astype(numpy_type)
    y = np.array([3, -3, 7, -7, 2, -9], numpy_type)
    proto = read(
        f"g ({dtype}[5,6] x, {dtype}[6] y) => ({dtype}[5,6] z) {{ z = Mod<fmod = {fmod}>(x, y) }}",
        28,
    )
    (found,) = run(proto, x, y)
    np.testing.assert_array_equal(found, np.fmod(x, y) if fmod else np.mod(x, y))


def test_bits_are_read_as_another_type() -> None:
    proto = read("g (float[2,3] x) => (int32[2,3] y) { y = BitCast<to = 6>(x) }", 26)
    x = RNG.standard_normal((2, 3)).astype(np.float32)
    (found,) = run(proto, x)
    np.testing.assert_array_equal(found, x.view(np.int32))


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_powers_of_whole_numbers_are_exact(dtype: str) -> None:
    x = RNG.integers(-9, 9, (3, 5)).astype(dtype)
    n = np.array([0, 1, 2, 5, 9], dtype)
    proto = read(f"g ({dtype}[3,5] x, {dtype}[5] n) => ({dtype}[3,5] y) {{ y = Pow(x, n) }}")
    (found,) = run(proto, x, n)
    np.testing.assert_array_equal(found, np.power(x, n))


@settings(deadline=None, max_examples=5)
@given(size=st.integers(1, 7), count=st.integers(1, 3), seed=st.integers(0, 99))
def test_determinants(size: int, count: int, seed: int) -> None:
    x = np.random.default_rng(seed).standard_normal((count, size, size)).astype(np.float32)
    x[0, 0, 0] = 0  # No pivot without exchanging rows.
    proto = read(f"g (float[{count},{size},{size}] x) => (float[{count}] y) {{ y = Det(x) }}")
    (found,) = run(proto, x)
    np.testing.assert_allclose(found, np.linalg.det(x.astype(np.float64)), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("attributes", "after"),
    [
        ("strides = [2, 1], pads = [1, 0, 0, 1]", "3,6"),
        ("dilations = [2, 1], storage_order = 1", "3,5"),
        ('auto_pad = "SAME_LOWER", strides = [2, 2]', "4,3"),
    ],
)
def test_maxima_and_their_places(attributes: str, after: str) -> None:
    proto = read(f"""g (float[2,3,7,6] x) => (float[2,3,{after}] y, int64[2,3,{after}] i)
        {{ y, i = MaxPool<kernel_shape = [3, 2], {attributes}>(x) }}""")
    x = RNG.standard_normal((2, 3, 7, 6)).astype(np.float32)
    for found, wanted in zip(run(proto, x), expected(proto, x), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_maxima_are_put_back() -> None:
    proto = read("""g (float[1,2,6,4] x) => (float[1,2,6,4] y) {
        m, i = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)
        y = MaxUnpool<kernel_shape = [2, 2], strides = [2, 2]>(m, i) }""")
    x = RNG.standard_normal((1, 2, 6, 4)).astype(np.float32)
    np.testing.assert_array_equal(run(proto, x)[0], expected(proto, x)[0])


def test_overlapping_blocks_are_added_up() -> None:
    proto = read("""g (float[2,18,12] x) => (float[2,3,5,4] y)
        <int64[2] s = {5, 4}, int64[2] b = {3, 2}>
        { y = Col2Im<pads = [1, 0, 0, 0], strides = [1, 1]>(x, s, b) }""")
    x = RNG.standard_normal((2, 18, 12)).astype(np.float32)
    np.testing.assert_allclose(run(proto, x)[0], expected(proto, x)[0], rtol=1e-5, atol=1e-6)


def test_constants_keep_their_64_bits() -> None:
    proto = read(f"""g (int64[2] n) => (int64[2] y) <int64[2] x = {{{2**40 + 1}, {-(2**50)}}}>
        {{ y = Pow(x, n) }}""")
    (found,) = run(proto, np.ones(2, np.int64))
    np.testing.assert_array_equal(found, [2**40 + 1, -(2**50)])
