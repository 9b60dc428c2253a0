"""Expressions: every function against SciPy, every way a number is stored, halos and borders."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from scipy import special
from tvm.tirx import Buffer, PrimFunc

from gcompile.backends.tvm.kernels.expression import evaluate, size, write
from gcompile.backends.tvm.kernels.function import Tensors, kernel_code, parallel
from gcompile.backends.tvm.kernels.image_access import Position, fill_halo
from gcompile.backends.tvm.kernels.lanes import Lanes, for_each_vector, pieces
from gcompile.backends.tvm.kernels.spec import (
    Accumulator,
    Binary,
    Constant,
    Expression,
    Image,
    Kernel,
    Load,
    Output,
    PerChannel,
    Select,
    Source,
    Unary,
)
from gcompile.backends.tvm.kernels.vector_math import UNARY
from tests.backends.tvm.kernels.compiling import Array, inside, run, with_halo

Real = npt.NDArray[np.float64]
SELU = (1.6732632, 1.0507009)

ATTRIBUTES: dict[str, tuple[float, float]] = {
    "clip": (-1.5, 6.0),
    "leaky_relu": (0.01, 0.0),
    "hard_sigmoid": (0.2, 0.5),
    "elu": (1.3, 0.0),
    "selu": SELU,
    "affine": (0.75, -3.0),
    "scaled_tanh": (1.5, 0.25),
    "thresholded_relu": (0.8, 0.0),
}


def reference(function: str, x: Real) -> Real:
    """The function in float64."""
    softplus = np.logaddexp(0, x)
    below = np.expm1(np.minimum(x, 0))
    known: dict[str, Any] = {
        "abs": np.abs(x),
        "neg": -x,
        "exp": np.exp(x),
        "log": np.log(x),
        "sqrt": np.sqrt(x),
        "reciprocal": 1 / x,
        "relu": np.maximum(x, 0),
        "clip": np.clip(x, -1.5, 6.0),
        "leaky_relu": np.where(x < 0, np.float32(0.01) * x, x),
        "sigmoid": special.expit(x),
        "hard_sigmoid": np.clip(np.float32(0.2) * x + 0.5, 0, 1),
        "hard_swish": x * np.clip(x / 6 + 0.5, 0, 1),
        "silu": x * special.expit(x),
        "tanh": np.tanh(x),
        "erf": special.erf(x),
        "gelu": 0.5 * x * special.erfc(-x / math.sqrt(2)),
        "gelu_tanh": x
        * special.expit(2 * math.sqrt(2 / math.pi) * (x + np.float32(0.044715) * x**3)),
        "elu": np.where(x < 0, np.float32(1.3) * below, x),
        "selu": np.float32(SELU[1]) * np.where(x < 0, np.float32(SELU[0]) * below, x),
        "softplus": softplus,
        "mish": x * np.tanh(softplus),
        "softsign": x / (1 + np.abs(x)),
        "affine": 0.75 * x - 3,
        "scaled_tanh": 1.5 * np.tanh(0.25 * x),
        "thresholded_relu": np.where(x > np.float32(0.8), x, 0),
        "floor": np.floor(x),
        "ceil": np.ceil(x),
        "round": np.rint(x),
        "sign": np.sign(x),
        "is_nan": np.isnan(x),
        "round_trip_bfloat16": x.astype(np.float32).astype(ml_dtypes.bfloat16),
        "round_trip_float16": x.astype(np.float32).astype(np.float16),
    }
    return np.asarray(known[function], np.float64)


@pytest.mark.parametrize("function", sorted(UNARY))
def test_a_function_is_precise_to_a_millionth_wherever_floats_are(function: str) -> None:
    x = np.concatenate(
        [
            np.linspace(-100, 100, 1501),
            np.linspace(-2, 2, 1001),
            np.logspace(-37, 37, 601),
            -np.logspace(-37, 3, 601),
            [0.0, 0.5, 1.5, 2.5, -2.5, 88.7, 87.4, -87.3],
        ]
    ).astype(np.float32)
    written = apply_to_line(unary(function), x)
    with np.errstate(all="ignore"):
        expected = reference(function, x.astype(np.float64)).astype(np.float32)
    normal = np.isnan(expected) | (np.abs(expected) > 2.0**-100) | (expected == 0)
    written, expected = np.where(normal, written, 0), np.where(normal, expected, 0)
    # Near a zero that a sum of larger numbers makes, and far out in a tail, it is absolute.
    absolute = {"hard_sigmoid": 1e-6, "hard_swish": 1e-6, "gelu": 1e-15, "gelu_tanh": 1e-15}
    absolute["affine"] = 1e-6
    atol = absolute.get(function, 1e-30)
    np.testing.assert_allclose(written, expected, rtol=2e-6, atol=atol)


@pytest.mark.parametrize(
    ("function", "at_minus_infinity", "at_infinity"),
    [
        ("exp", 0, math.inf),
        ("log", math.nan, math.inf),
        ("tanh", -1, 1),
        ("erf", -1, 1),
        ("sigmoid", 0, 1),
        ("relu", 0, math.inf),
        ("softplus", 0, math.inf),
        ("elu", np.float32(-1.3), math.inf),
        ("round_trip_bfloat16", -math.inf, math.inf),
        ("round_trip_float16", -math.inf, math.inf),
    ],
)
def test_a_function_goes_on_to_infinity_and_keeps_nan(
    function: str, at_minus_infinity: float, at_infinity: float
) -> None:
    x = np.array([-np.inf, np.inf, np.nan, 0], np.float32)
    written = apply_to_line(unary(function), x)
    np.testing.assert_array_equal(
        written[:2], np.array([at_minus_infinity, at_infinity], np.float32)
    )
    assert np.isnan(written[2])


@pytest.mark.parametrize("width", [1, 2, 4, 8, 16])
def test_the_width_of_a_vector_does_not_change_a_value(width: int) -> None:
    x = np.linspace(0.1, 9, 53, dtype=np.float32)
    expression = Binary("add", unary("gelu"), Binary("mul", unary("softplus"), unary("log")))
    written = apply_to_line(expression, x, 32 * width)
    exact = apply_to_line(expression, x, 32)
    np.testing.assert_allclose(written, exact, rtol=1e-6)


@pytest.mark.parametrize("exponent", [-2.0, -1.0, 0.5, 1.0, 2.0, 3.0, 5.0, 2.5, 0.0])
def test_a_power_with_a_constant_exponent_is_precise(exponent: float) -> None:
    x = np.linspace(0.1, 30, 101, dtype=np.float32)
    written = apply_to_line(Binary("pow", Load(0), Constant(exponent)), x)
    np.testing.assert_allclose(written, x.astype(np.float64) ** exponent, rtol=4e-6)


def test_a_power_of_a_negative_number_needs_a_whole_exponent() -> None:
    x = np.array([-2, -2, -2, 0, 2], np.float32)
    exponent = np.array([3, 4, 0.5, 2, -1], np.float32)
    written = apply_to_line(Binary("pow", Load(0), PerChannel(0)), x, vector=exponent)
    np.testing.assert_allclose(written, [-8, 16, np.nan, 0, 0.5], rtol=2e-6)


@pytest.mark.parametrize(
    ("function", "expected"),
    [("add", 8.5), ("sub", -3.5), ("mul", 15), ("div", 2.5 / 6), ("max", 6), ("min", 2.5)],
)
def test_two_values_are_combined(function: str, expected: float) -> None:
    x = np.full(5, 2.5, np.float32)
    written = apply_to_line(Binary(function, Load(0), Constant(6.0)), x)
    np.testing.assert_allclose(written, np.full(5, expected), rtol=1e-6)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("less", [1, 0, 0, 0, 1, 0]),
        ("less_equal", [1, 1, 0, 0, 1, 0]),
        ("equal", [0, 1, 0, 0, 0, 0]),
    ],
)
def test_a_comparison_with_what_is_no_number_fails(function: str, expected: list[int]) -> None:
    x = np.array([-1, 6, 7, np.nan, -np.inf, np.inf], np.float32)
    compared = Binary(function, Load(0), Constant(6.0))
    np.testing.assert_array_equal(apply_to_line(compared, x), expected)
    chosen = Select(compared, Constant(2.0), Load(0))
    np.testing.assert_array_equal(apply_to_line(chosen, x), np.where(expected, 2, x))


@pytest.mark.parametrize(
    ("dtype", "zero_point", "low", "high"),
    [
        ("uint8", 0, 0, 255),
        ("uint8", 200, 0, 255),
        ("int8", 0, -128, 127),
        ("int8", -90, -128, 127),
    ],
)
def test_integers_are_rounded_to_even_and_saturate(
    dtype: str, zero_point: int, low: int, high: int
) -> None:
    x = np.array([-3e38, -1e9, -300, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 40, 300, 1e9, 3e38, 7, 3])
    line = Image(1, 1, 1, len(x))
    output = Output(Image(1, 1, 1, len(x), dtype), 0.5, zero_point)
    kernel = Kernel(output, Load(0), (Source(line),), vector_bits=512)
    written = run_pointwise(kernel, [x.astype(np.float32)])
    expected = np.clip(
        np.rint(x.astype(np.float32).astype(np.float64) / 0.5) + zero_point, low, high
    )
    np.testing.assert_array_equal(written.ravel(), expected)


def test_int32_is_rounded_and_saturates() -> None:
    x = np.array([-3e38, -2.5, 0.5, 1.5, 16777217, 2147483520, 2147483648, 3e38], np.float32)
    output = Output(Image(1, 1, 1, len(x), "int32"))
    kernel = Kernel(output, Load(0), (Source(Image(1, 1, 1, len(x))),))
    expected = [-(2**31), -2, 0, 2, 16777216, 2147483520, 2**31 - 1, 2**31 - 1]
    np.testing.assert_array_equal(run_pointwise(kernel, [x]).ravel(), expected)


def test_bfloat16_is_rounded_to_even_and_nan_stays_nan() -> None:
    bits = np.array([0x3F808000, 0x3F818000, 0x3F808001, 0x7FFFFFFF, 0xFF800000, 0x7F7FFFFF], "u4")
    x = bits.view(np.float32)
    output = Output(Image(1, 1, 1, len(x), "bfloat16"))
    kernel = Kernel(output, Load(0), (Source(Image(1, 1, 1, len(x))),))
    written = inside(output.image, run_pointwise(kernel, [x]))
    expected = x.astype(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(written.ravel().astype(np.float32), expected)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "uint8", "int8", "int32"])
@pytest.mark.parametrize(
    "shape", [(2, 3, 4, 21), (1, 3, 4, 21), (2, 1, 1, 21), (2, 3, 4, 1), (1, 1, 1, 1)]
)
def test_a_source_of_any_type_is_broadcast(dtype: str, shape: tuple[int, int, int, int]) -> None:
    image = Image(*shape, dtype, (1, 0, 2, 1), 1.0)
    is_integer = dtype in ("uint8", "int8", "int32")
    source = Source(image, 0.5 if is_integer else 1.0, 3 if is_integer else 0)
    values = np.random.default_rng(0).integers(0, 100, shape)
    kernel = Kernel(Output(Image(2, 3, 4, 21)), Load(0), (source,))
    real = (values - source.zero_point) * source.scale
    written = run_pointwise(kernel, [with_halo(image, values)])
    np.testing.assert_array_equal(written, np.broadcast_to(real, (2, 3, 4, 21)))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "uint8"])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("halo", [(1, 1, 1, 1), (0, 2, 0, 0), (2, 0, 0, 1), (0, 0, 3, 0)])
def test_the_halo_is_filled_and_nothing_else_is_touched(
    dtype: str, threads: int, halo: tuple[int, int, int, int]
) -> None:
    image = Image(2, 5, 3, 7, dtype, halo, fill=6.0)
    kernel = Kernel(Output(image), PerChannel(0), channel_vectors=1, threads=threads)
    vector = np.arange(7, dtype=np.float32)
    expected = with_halo(image, np.broadcast_to(vector, (2, 5, 3, 7)))
    np.testing.assert_array_equal(run_pointwise(kernel, [vector]), expected)


def test_equal_nodes_are_emitted_once() -> None:
    shared = Unary("exp", Load(0))
    assert size(Binary("add", shared, Binary("mul", shared, shared))) == 4
    once = str(pointwise(line_kernel(shared, 16)))
    thrice = str(pointwise(line_kernel(Binary("add", shared, Binary("mul", shared, shared)), 16)))
    assert thrice.count("nearbyint") == once.count("nearbyint")


def test_an_expression_that_refers_to_a_missing_sum_is_refused() -> None:
    kernel = line_kernel(Accumulator(), 16)
    with pytest.raises(ValueError, match="no accumulator"):
        evaluate(kernel, Tensors((), (), None), Position(0, 0, 0, 0), Lanes(16))


def test_pieces_cover_every_element_once() -> None:
    for count in range(40):
        covered = [
            offset + lane for offset, part in pieces(count, 16) for lane in range(part.count)
        ]
        assert covered == list(range(count))


def unary(function: str) -> Unary:
    return Unary(function, Load(0), *ATTRIBUTES.get(function, (0.0, 0.0)))


def line_kernel(expression: Expression, count: int, bits: int = 512, vectors: int = 0) -> Kernel:
    line = Image(1, 1, 1, count)
    return Kernel(Output(line), expression, (Source(line),), vectors, vector_bits=bits)


def apply_to_line(
    expression: Expression,
    x: npt.NDArray[np.float32],
    bits: int = 512,
    vector: npt.NDArray[np.float32] | None = None,
) -> Array:
    kernel = line_kernel(expression, len(x), bits, 0 if vector is None else 1)
    inputs = [x] if vector is None else [vector, x]
    return run_pointwise(kernel, inputs).ravel()


def run_pointwise(kernel: Kernel, inputs: list[Array]) -> Array:
    shaped = inputs[: kernel.channel_vectors]
    for source, stored in zip(kernel.sources, inputs[kernel.channel_vectors :], strict=True):
        shaped.append(stored.reshape(source.image.shape))
    return run(pointwise(kernel), shaped, kernel.output)


def pointwise(kernel: Kernel) -> PrimFunc:
    """The simplest kernel there is: an expression at every pixel, and the halo."""
    image = kernel.output.image

    def body(_: list[Buffer], tensors: Tensors) -> None:
        def row(index: Any) -> None:
            batch, y = index // image.height, index % image.height
            for x in range(image.width):

                def vector(channel: Any, lanes: Lanes, x: int = x) -> None:
                    write(kernel, tensors, Position(batch, y, x, channel), lanes)

                for_each_vector(image.channels, kernel.vector_bits // 32, vector)

        for task in range(kernel.threads):
            fill_halo(image, tensors.output, kernel.vector_bits, task, kernel.threads)
        parallel(kernel.threads, image.batch * image.height, row)

    return kernel_code(kernel, [], body).function("pointwise")
