"""Softmax against float64, over rows that no vector divides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcompile.backends.tvm.kernels import softmax
from gcompile.backends.tvm.kernels.softmax import SoftmaxKernel
from gcompile.backends.tvm.kernels.spec import (
    Accumulator,
    Binary,
    Constant,
    Expression,
    Image,
    Load,
    Output,
    Source,
    Unary,
)
from tests.backends.tvm.kernels.compiling import Array, inside, run, with_halo


def _softmax(x: Array, is_log: bool) -> Array:
    distance = x - x.max(axis=-1, keepdims=True)
    total = np.exp(distance).sum(axis=-1, keepdims=True)
    result: Array = distance - np.log(total) if is_log else np.exp(distance) / total
    return result


def _kernel(
    image: Image, bits: int = 256, is_log: bool = False, threads: int = 1
) -> SoftmaxKernel:
    return SoftmaxKernel(
        output=Output(image),
        expression=Accumulator(),
        sources=(Source(replace(image, halo=(0, 0, 0, 0))),),
        vector_bits=bits,
        threads=threads,
        is_log=is_log,
    )


def _run(kernel: SoftmaxKernel, inputs: list[Array]) -> Array:
    return run(softmax.emit(kernel, "softmax"), inputs, kernel.output)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(
    pixels=st.tuples(*[st.integers(1, 3)] * 3),
    channels=st.one_of(st.integers(1, 9), st.integers(10, 150)),
    halo=st.tuples(*[st.integers(0, 2)] * 4),
    bits=st.sampled_from([128, 256, 512]),
    is_log=st.booleans(),
    threads=st.integers(1, 3),
)
def test_rows_of_any_length_agree_with_float64(
    pixels: tuple[int, int, int],
    channels: int,
    halo: tuple[int, int, int, int],
    bits: int,
    is_log: bool,
    threads: int,
) -> None:
    kernel = _kernel(Image(*pixels, channels, halo=halo, fill=3.0), bits, is_log, threads)
    x = np.random.default_rng(channels).normal(0, 8, (*pixels, channels)).astype(np.float32)
    stored = _run(kernel, [x])
    image = kernel.output.image
    expected = _softmax(x.astype(np.float64), is_log)
    np.testing.assert_allclose(inside(image, stored), expected, rtol=2e-6, atol=1e-6)
    np.testing.assert_array_equal(stored, with_halo(image, inside(image, stored)))


def test_huge_numbers_do_not_overflow_and_masked_ones_are_zero() -> None:
    x = np.full((1, 1, 2, 37), -3e38, np.float32)
    x[..., :5] = np.float32(1e30)
    x[..., 1, 36] = -np.inf
    stored = _run(_kernel(Image(1, 1, 2, 37)), [x])
    np.testing.assert_array_equal(stored[..., :5], np.float32(0.2))
    assert not stored[..., 5:].any()


def test_a_row_with_a_nan_becomes_nan() -> None:
    x = np.zeros((1, 1, 2, 40), np.float32)
    x[0, 0, 1, 3] = np.nan
    stored = _run(_kernel(Image(1, 1, 2, 40)), [x])
    assert np.isnan(stored[0, 0, 1]).all()
    assert not np.isnan(stored[0, 0, 0]).any()


@pytest.mark.parametrize("is_costly", [False, True])
def test_scores_are_scaled_and_masked_on_the_way_in_and_rounded_on_the_way_out(
    is_costly: bool,
) -> None:
    scores, mask = Image(2, 3, 5, 21, "bfloat16"), Image(1, 1, 5, 21)
    operand: Expression = Binary("add", Binary("mul", Load(0), Constant(0.25)), Load(1))
    if is_costly:
        capped = Unary("tanh", Unary("tanh", Binary("mul", Load(0), Constant(0.25))))
        operand = Binary("add", Unary("neg", Unary("neg", capped)), Load(1))
    kernel = SoftmaxKernel(
        output=Output(Image(2, 3, 5, 21, "uint8"), 1 / 256),
        expression=Accumulator(),
        sources=(Source(scores), Source(mask)),
        operand=operand,
    )
    rng = np.random.default_rng(1)
    stored_scores = with_halo(scores, rng.normal(0, 8, (2, 3, 5, 21)))
    stored_mask = np.where(rng.random((1, 1, 5, 21)) < 0.3, -1e9, 0).astype(np.float32)
    stored = _run(kernel, [stored_scores, stored_mask])
    logits = inside(scores, stored_scores).astype(np.float64) * 0.25
    if is_costly:
        logits = np.tanh(np.tanh(logits))
    expected = np.clip(np.rint(_softmax(logits + stored_mask, False) * 256), 0, 255)
    assert np.abs(stored.astype(int) - expected).max() <= 1
    assert (stored == expected).mean() > 0.98
