"""Pools, interpreted, against float64 and exact integers."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcompile.backends.cuda.kernels.epilogue import Epilogue
from gcompile.backends.cuda.kernels.pool import Pool, shared
from gcompile.backends.cuda.kernels.pool_window import Function, PoolWindow
from gcompile.backends.cuda.lowering.pool_anchor import whole_arrays
from gcompile.backends.cuda.program.interpret import interpret
from gcompile.backends.cuda.program.program import Storage
from gcompile.backends.tvm.kernels.spec import (
    Accumulator,
    Binary,
    Image,
    Output,
    PerChannel,
)
from gcompile.ir import Contraction
from tests.backends.cuda.disassembly import compiled
from tests.backends.cuda.kernels.products import Array, plain_epilogue

_TYPES = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float32": np.float32}


@st.composite
def _contractions(draw: st.DrawFn) -> Contraction:
    """Windows with a pixel of the image each; the last may reach over the padding."""
    kernel, stride, dilation = (
        [draw(st.integers(1, most)) for _ in range(2)] for most in (4, 3, 2)
    )
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    pads = [draw(st.integers(0, kernel[i % 2] - 1)) for i in range(4)]
    size = [draw(st.integers(r, r + 6)) for r in reach]
    channels = draw(st.integers(2, 20))
    out = []
    for i in range(2):
        rest = size[i] + pads[i] + pads[i + 2] - reach[i]
        is_up = draw(st.booleans()) and (rest // stride[i] + 1) * stride[i] < size[i] + pads[i]
        out.append(rest // stride[i] + 1 + (is_up and rest % stride[i] > 0))
    return Contraction(
        draw(st.integers(1, 2)), size[0], size[1], channels, out[0], out[1], channels,
        kernel[0], kernel[1], stride[0], stride[1], dilation[0], dilation[1],
        pads[0], pads[1], pads[2], pads[3], channels,
    )  # fmt: skip


def _exact(x: Array, window: PoolWindow) -> Array:
    """Each window by itself, in float64."""
    c = window.contraction
    result = np.zeros((c.batch, c.out_h, c.out_w, c.out_c))
    for oy, ox in np.ndindex(c.out_h, c.out_w):
        found: list[Array] = []
        for ky, kx in np.ndindex(c.kernel_h, c.kernel_w):
            y = oy * c.stride_h + ky * c.dilation_h - c.pad_top
            x0 = ox * c.stride_w + kx * c.dilation_w - c.pad_left
            if 0 <= y < c.in_h and 0 <= x0 < c.in_w:
                found.append(x[:, y, x0].astype(np.float64))
            elif window.counts_padding and y < c.in_h + c.pad_bottom and x0 < c.in_w + c.pad_right:
                found.append(np.full((c.batch, c.in_c), window.fill, np.float64))
        if not found:
            result[:, oy, ox] = np.nan
        else:
            result[:, oy, ox] = np.max(found, 0) if window.function == "max" else np.mean(found, 0)
    return result


def _image(rng: np.random.Generator, window: PoolWindow) -> Array:
    c = window.contraction
    shape = (c.batch, c.in_h, c.in_w, c.in_c)
    if window.is_integer:
        info = np.iinfo(window.x)
        numbers: Array = rng.integers(info.min, info.max + 1, shape).astype(window.x)
        return numbers
    found: Array = rng.standard_normal(shape).astype(_TYPES[window.x])
    return found


@settings(max_examples=30, deadline=None)
@given(
    c=_contractions(),
    x=st.sampled_from(("float16", "bfloat16", "float32", "int8", "uint8")),
    function=st.sampled_from(("max", "mean")),
    padding=st.sampled_from(((False, 0), (True, 0), (True, 3))),
    shares=st.sampled_from((1, 4, 16)),
    warps=st.sampled_from((1, 4)),
)
def test_pools_of_any_shape(
    c: Contraction,
    x: Storage,
    function: Function,
    padding: tuple[bool, int],
    shares: int,
    warps: int,
) -> None:
    window = PoolWindow(c, x, function, *(padding if function == "mean" else (False, 0)))
    image = _image(np.random.default_rng(c.in_h), window)
    is_exact = window.is_integer and function == "max"
    epilogue = plain_epilogue(c.m, c.n, "int32" if is_exact else "float32")
    y = np.zeros((c.batch, c.out_h, c.out_w, c.out_c), epilogue.output.image.dtype)
    pool = Pool("pool", window, epilogue, shares, warps)
    interpret(pool.program(), [image, y])
    exact, whole = _exact(image, window), np.zeros(y.size, y.dtype)
    whole_arrays(pool)([image.reshape(-1), whole])
    for found in (y, whole.reshape(y.shape)):
        if function == "max":
            np.testing.assert_array_equal(found, exact)
        else:
            np.testing.assert_allclose(found, exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("function", ["max", "mean"])
def test_what_follows_is_computed_in_the_same_launch(function: Function) -> None:
    c = Contraction(1, 9, 9, 24, 5, 5, 24, 3, 3, 2, 2, 1, 1, 1, 1, 1, 1, groups=24)
    rng = np.random.default_rng(0)
    window = PoolWindow(c, "uint8", function)
    x, bias = _image(rng, window), np.arange(24, dtype=np.float32)
    expression = Binary("add", Accumulator(), PerChannel(0))
    epilogue = Epilogue(Output(Image(1, 5, 5, 24, "uint8"), 2.0), expression, (), 1)
    y = np.zeros((1, 5, 5, 24), np.uint8)
    interpret(Pool("pool", window, epilogue).program(), [x, bias, y])
    real = _exact(x, window).astype(np.float32) + bias
    np.testing.assert_array_equal(y, np.minimum(np.rint(real / 2), 255))


@pytest.mark.parametrize("x", ["float16", "int8"])
@pytest.mark.parametrize("function", ["max", "mean"])
def test_pools_stay_in_registers(x: Storage, function: Function) -> None:
    c = Contraction(1, 112, 112, 64, 56, 56, 64, 3, 3, 2, 2, 1, 1, 1, 1, 1, 1, groups=64)
    program = Pool("pool", PoolWindow(c, x, function), plain_epilogue(c.m, c.n)).program()
    assert compiled(program, "80").spilled_bytes == 0


def test_several_lanes_share_a_large_window() -> None:
    small = Contraction(1, 8, 8, 8, 4, 4, 8, 3, 3, 2, 2, groups=8)
    whole = Contraction(1, 7, 7, 64, 1, 1, 64, 7, 7, groups=64)
    assert shared(PoolWindow(small, "int8", "max")) == 1
    assert shared(PoolWindow(whole, "int8", "mean")) == 16
    window = PoolWindow(whole, "bfloat16", "mean")
    assert compiled(Pool("p", window, plain_epilogue(1, 64), 16, 1).program(), "80").cubin


def test_other_groups_are_refused() -> None:
    c = Contraction(1, 4, 4, 8, 4, 4, 8, 3, 3, groups=2)
    with pytest.raises(ValueError, match="input channel of its number"):
        PoolWindow(c, "float16", "max")
