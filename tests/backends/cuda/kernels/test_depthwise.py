"""Depthwise convolutions, interpreted, against float64 and exact integers."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcompile.backends.cuda.kernels.depthwise import Depthwise, run_for
from gcompile.backends.cuda.kernels.epilogue import Epilogue
from gcompile.backends.cuda.program.interpret import interpret
from gcompile.backends.cuda.program.program import Storage
from gcompile.backends.tvm.kernels.spec import (
    Accumulator,
    Binary,
    Image,
    Output,
    PerChannel,
    Unary,
)
from gcompile.ir import Contraction
from tests.backends.cuda.disassembly import compiled
from tests.backends.cuda.kernels.products import Array, plain_epilogue

_TYPES = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float32": np.float32}


@st.composite
def _contractions(draw: st.DrawFn) -> Contraction:
    kernel, stride, dilation = (
        [draw(st.integers(1, most)) for _ in range(2)] for most in (4, 2, 2)
    )
    pads = [draw(st.integers(0, 2)) for _ in range(4)]
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    size = [draw(st.integers(r, r + 6)) for r in reach]
    channels = draw(st.integers(2, 20))
    out = [(size[i] + pads[i] + pads[i + 2] - reach[i]) // stride[i] + 1 for i in range(2)]
    return Contraction(
        draw(st.integers(1, 2)), size[0], size[1], channels, out[0], out[1], channels,
        kernel[0], kernel[1], stride[0], stride[1], dilation[0], dilation[1],
        pads[0], pads[1], pads[2], pads[3], channels,
    )  # fmt: skip


def _exact(x: Array, weights: Array, c: Contraction) -> Array:
    padded = np.pad(
        x.astype(np.float64),
        [(0, 0), (c.pad_top, c.pad_bottom), (c.pad_left, c.pad_right), (0, 0)],
    )
    result = np.zeros((c.batch, c.out_h, c.out_w, c.out_c))
    for ky in range(c.kernel_h):
        for kx in range(c.kernel_w):
            y0, x0 = ky * c.dilation_h, kx * c.dilation_w
            rows = slice(y0, y0 + (c.out_h - 1) * c.stride_h + 1, c.stride_h)
            columns = slice(x0, x0 + (c.out_w - 1) * c.stride_w + 1, c.stride_w)
            tap = weights[ky * c.kernel_w + kx].astype(np.float64)
            result += padded[:, rows, columns] * tap
    return result


@settings(max_examples=25, deadline=None)
@given(
    c=_contractions(),
    x=st.sampled_from(("float16", "bfloat16", "float32", "int8", "uint8")),
    run=st.sampled_from((1, 2, 4)),
)
def test_depthwise_convolutions_of_any_shape(c: Contraction, x: Storage, run: int) -> None:
    rng = np.random.default_rng(c.in_h)
    shape, taps = (c.batch, c.in_h, c.in_w, c.in_c), (c.kernel_h * c.kernel_w, c.in_c)
    is_integer = x in ("int8", "uint8")
    if is_integer:
        info = np.iinfo(x)
        image: Array = rng.integers(info.min, info.max + 1, shape).astype(x)
        weights: Array = rng.integers(-128, 128, taps).astype(np.int8)
    else:
        image = rng.standard_normal(shape).astype(_TYPES[x])
        weights = rng.standard_normal(taps).astype(np.float32)
    epilogue = plain_epilogue(c.m, c.n, "int32" if is_integer else "float32")
    stored: Storage = "int8" if is_integer else "float32"
    y = np.zeros((c.batch, c.out_h, c.out_w, c.out_c), epilogue.output.image.dtype)
    interpret(Depthwise("dw", c, x, stored, epilogue, run).program(), [image, weights, y])
    exact = _exact(image, weights, c)
    if is_integer:
        np.testing.assert_array_equal(y, exact)
    else:
        np.testing.assert_allclose(y, exact, rtol=1e-5, atol=1e-5)


def test_scale_bias_and_clip_follow_in_integers() -> None:
    c = Contraction(1, 5, 5, 8, 5, 5, 8, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, groups=8)
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (1, 5, 5, 8)).astype(np.uint8)
    weights = rng.integers(-128, 128, (9, 8)).astype(np.int8)
    scale, bias = rng.uniform(0, 1e-3, 8).astype(np.float32), np.ones(8, np.float32)
    expression = Unary(
        "clip",
        Binary("add", Binary("mul", Accumulator(), PerChannel(0)), PerChannel(1)),
        0.0,
        6.0,
    )
    epilogue = Epilogue(Output(Image(1, 5, 5, 8, "uint8"), 0.05), expression, (), 2)
    y = np.zeros((1, 5, 5, 8), np.uint8)
    program = Depthwise("dw", c, "uint8", "int8", epilogue, 2).program()
    interpret(program, [x, weights, scale, bias, y])
    real = np.clip(_exact(x, weights, c).astype(np.float32) * scale + bias, 0, 6)
    np.testing.assert_array_equal(y, np.rint(real * np.float32(1 / 0.05)))


@pytest.mark.parametrize(("x", "weights"), [("float16", "float32"), ("int8", "int8")])
def test_runs_of_pixels_stay_in_registers(x: Storage, weights: Storage) -> None:
    c = Contraction(1, 56, 56, 144, 56, 56, 144, 5, 5, 1, 1, 1, 1, 2, 2, 2, 2, groups=144)
    epilogue = plain_epilogue(c.m, c.n, "float32")
    code = compiled(Depthwise("dw", c, x, weights, epilogue, 4).program(), "80")
    assert code.spilled_bytes == 0


def test_runs_are_long_where_there_is_enough_work() -> None:
    large = Contraction(8, 112, 112, 96, 112, 112, 96, 3, 3, groups=96)
    small = Contraction(1, 7, 7, 960, 7, 7, 960, 3, 3, groups=960)
    assert run_for(large, 8, 108) == 4
    assert run_for(small, 8, 108) == 1


def test_other_groups_are_refused() -> None:
    c = Contraction(1, 4, 4, 8, 4, 4, 8, 3, 3, groups=2)
    with pytest.raises(ValueError, match="one input channel"):
        Depthwise("dw", c, "float16", "float32", plain_epilogue(16, 8))
