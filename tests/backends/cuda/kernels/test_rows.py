"""Softmax and normalizations of rows, interpreted, against float64; and their machine code."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcompile.backends.cuda.kernels.epilogue import Epilogue
from gcompile.backends.cuda.kernels.rows import MOST_ELEMENTS, Kind, Rows
from gcompile.backends.cuda.program.interpret import interpret
from gcompile.backends.tvm.kernels.spec import (
    Accumulator,
    Binary,
    Image,
    Load,
    Output,
    PerChannel,
    Source,
)
from tests.backends.cuda.disassembly import compiled
from tests.backends.cuda.kernels.products import Array

_KINDS: tuple[Kind, ...] = ("softmax", "log-softmax", "layer-norm", "rms-norm")


def _rows(kind: Kind, rows: int, channels: int, warps: int, dtype: str = "float32") -> Rows:
    """Y = kind(a + b) * v, in which a and b are read as they are stored."""
    image = Image(1, 1, rows, channels, dtype)
    sources = (Source(image), Source(image))
    output = Output(Image(1, 1, rows, channels, "float32"))
    operand = Epilogue(output, Binary("add", Load(0), Load(1)), sources, 1)
    scaled = Binary("mul", Accumulator(), PerChannel(0))
    return Rows("rows", kind, operand, Epilogue(output, scaled, sources, 1), 1e-3, warps)


def _exact(kind: Kind, x: Array) -> Array:
    if kind in ("softmax", "log-softmax"):
        powers = np.exp(x - x.max(-1, keepdims=True))
        shares = powers / powers.sum(-1, keepdims=True)
        return np.asarray(np.log(shares) if kind == "log-softmax" else shares)
    if kind == "layer-norm":
        x = x - x.mean(-1, keepdims=True)
    return np.asarray(x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-3))


@settings(max_examples=20, deadline=None)
@given(
    kind=st.sampled_from(_KINDS),
    rows=st.integers(1, 9),
    channels=st.one_of(st.integers(1, 70), st.sampled_from((96, 197, 256, 768, 1000))),
    warps=st.sampled_from((1, 2, 4)),
)
def test_rows_are_normalized_in_registers(
    kind: Kind, rows: int, channels: int, warps: int
) -> None:
    rng = np.random.default_rng(channels)
    a, b = rng.standard_normal((2, rows, channels)).astype(np.float32) * 3
    scale = rng.standard_normal(channels).astype(np.float32)
    y = np.zeros((rows, channels), np.float32)
    interpret(_rows(kind, rows, channels, warps).program(), [scale, a, b, y])
    exact = _exact(kind, a.astype(np.float64) + b) * scale
    np.testing.assert_allclose(y, exact, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("arch", ["80", "90"])
@pytest.mark.parametrize("kind", ["softmax", "layer-norm"])
def test_the_longest_rows_stay_in_registers(kind: Kind, arch: str) -> None:
    program = _rows(kind, 64, MOST_ELEMENTS, 1, "bfloat16").program()
    assert compiled(program, arch).spilled_bytes == 0


def test_longer_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        _rows("softmax", 1, MOST_ELEMENTS + 8, 1)
