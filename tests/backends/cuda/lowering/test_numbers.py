"""Numbers of a layer are arguments of its kernel, and results stay what they were to the bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gcompile.backends.cuda.kernels.epilogue import Epilogue
from gcompile.backends.cuda.lowering.numbers import with_numbers
from gcompile.backends.cuda.lowering.numeric_form import finish
from gcompile.backends.tvm.kernels.spec import (
    Accumulator,
    Binary,
    Constant,
    Expression,
    Image,
    Load,
    Output,
    PerChannel,
    Select,
    Source,
    Unary,
)
from tests.backends.cuda.lowering.building import build
from tests.backends.tvm.lowering.compiling import calibration_rows, parse
from tests.runtime.cuda.conftest import needs_nvrtc

_ROWS, _CHANNELS = 7, 12


def _body() -> Expression:
    """clip(gelu(sum · v0 + v1) · 0.37 + source 0), the half of it where source 1 is positive."""
    product = Binary("add", Binary("mul", Accumulator(), PerChannel(0)), PerChannel(1))
    added = Binary("add", Binary("mul", Unary("gelu", product), Constant(0.37)), Load(0))
    positive = Binary("less", Constant(0.0), Load(1))
    half = Select(positive, Binary("mul", added, Constant(0.5)), added)
    return Unary("clip", half, -3.3, 90.1)


def _epilogue(dtype: str, scale: float, zero_points: tuple[int, int, int]) -> Epilogue:
    image = Image(1, 1, _ROWS, _CHANNELS, dtype)
    return Epilogue(
        Output(image, 1.0, zero_points[0]),
        _body(),
        (
            Source(replace(image, dtype="uint8"), scale, zero_points[1]),
            Source(replace(image, dtype="int8"), 1.0, zero_points[2] - 128),
        ),
        channel_vectors=2,
    )


@settings(max_examples=40, deadline=None)
@given(
    dtype=st.sampled_from(("uint8", "float32")),
    scale=st.floats(0.01, 3),
    zero_points=st.tuples(*(st.integers(0, 255) for _ in range(3))),
    seed=st.integers(0, 2**31),
)
def test_results_do_not_change_by_a_bit(
    dtype: str, scale: float, zero_points: tuple[int, int, int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    plain = _epilogue(dtype, scale, zero_points)
    found = with_numbers(plain)
    sums = rng.integers(-5000, 5000, (_ROWS, _CHANNELS)).astype(np.int32)
    vectors = list((rng.standard_normal((2, _CHANNELS)) / 50).astype(np.float32))
    images = [
        rng.integers(0, 256, _ROWS * _CHANNELS).astype(np.uint8),
        rng.integers(-128, 128, _ROWS * _CHANNELS).astype(np.int8),
    ]
    expected = np.zeros(_ROWS * _CHANNELS, dtype)
    finish(plain, sums, [*vectors, *images], expected)
    actual = np.zeros_like(expected)
    finish(found.epilogue, sums, [*vectors, *found.constants, *images], actual)
    np.testing.assert_array_equal(actual, expected)


def test_layers_that_differ_in_numbers_alone_have_one_description() -> None:
    first = with_numbers(_epilogue("uint8", 0.25, (3, 5, 7)))
    second = with_numbers(_epilogue("uint8", 0.125, (30, 50, 70)))
    assert first.epilogue == second.epilogue
    assert not np.array_equal(first.constants[0], second.constants[0])


def test_a_zero_point_of_zero_is_no_argument() -> None:
    without = with_numbers(_epilogue("uint8", 0.25, (0, 0, 7)))
    assert without.epilogue.zero_point is None
    assert without.epilogue != with_numbers(_epilogue("uint8", 0.25, (3, 5, 7))).epilogue


def test_numbers_of_operators_on_floats_stay_in_the_text() -> None:
    image = Image(1, 1, 4, 8, "bfloat16")
    epilogue = Epilogue(Output(image), Unary("clip", Accumulator(), 0.0, 6.0))
    assert with_numbers(epilogue).epilogue is epilogue


@needs_nvrtc
def test_equal_layers_of_other_scales_share_a_kernel(tmp_path: Path) -> None:
    model = parse("""
        g (float[3,20,32] x) => (float[3,20,32] y)
        <float[32,32] w1, float[32,32] w2, float[32,32] w3, float[32] b> {
            s1 = MatMul(x, w1)
            a1 = Add(s1, b)
            g1 = Gelu(a1)
            s2 = MatMul(g1, w2)
            a2 = Add(s2, b)
            g2 = Gelu(a2)
            s3 = MatMul(g2, w3)
            y = Add(s3, b)
        }""")
    report, kernels = build(model, tmp_path / "out", "int8", calibration_rows(model))
    assert report.verify.code_ran == "on-cpu"
    assert sum(name.startswith("gemm") for name in kernels) == 2  # The last one writes floats.
