"""Attention of bytes: what the graph's own rounding gives, over sizes that no block divides."""

from __future__ import annotations

from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcompile.backends.tvm.kernels import attention
from gcompile.backends.tvm.kernels.attention import AttentionKernel, block_steps
from gcompile.backends.tvm.kernels.matrices import Matrices
from gcompile.backends.tvm.kernels.spec import Accumulator, Image, Output
from gcompile.backends.tvm.kernels.units import unit_named
from gcompile.errors import CompileError
from gcompile.ir.tile import Tile
from tests.backends.tvm.kernels.attention_kernels import heads_of, kernels, masked, run_attention
from tests.backends.tvm.kernels.compiling import Array
from tests.backends.tvm.kernels.examples import few

UNITS = (
    "sse-int8", "avx2-int8", "avx-vnni", "avx512-vnni", "amx-int8",
    "neon-int8", "neon-dotprod", "neon-usdot",
)  # fmt: skip
FEW = few()
_SCALE, _STEP = 0.02, 1 / 255


@st.composite
def quantized(draw: st.DrawFn, unit: str) -> AttentionKernel:
    """Small attention of bytes of both kinds around any zero points."""
    kernel = draw(kernels(unit))
    rows, step = block_steps(kernel.tile, unit_named(unit))
    high = min(rows, kernel.queries.rows)
    high *= draw(st.integers(1, max(1, min(48, kernel.queries.rows) // high)))
    kinds = st.sampled_from([("uint8", 128), ("uint8", 3), ("int8", 0), ("int8", -90)])
    found, zeros = [], []
    for matrices in (kernel.queries, kernel.keys, kernel.values):
        dtype, zero = draw(kinds)
        found.append(replace(matrices, image=replace(matrices.image, dtype=dtype)))
        zeros.append(zero)
    written = kernel.output.image
    return replace(
        kernel,
        output=Output(written, 0.03, 100) if written.dtype == "uint8" else Output(written),
        queries=found[0],
        keys=found[1],
        values=found[2],
        scale=draw(st.sampled_from([0.001, 0.0001])),
        zero_points=(zeros[0], zeros[1], zeros[2]),
        weights=Output(Image(1, 1, 1, 1, "uint8"), draw(st.sampled_from([_STEP, 0.001]))),
        value_scale=_SCALE * _STEP,
        block=(high, -(-kernel.keys.rows // step) * step),
    )


@pytest.mark.parametrize("unit", UNITS)
@FEW
@given(data=st.data())
def test_bytes_give_what_rounded_weights_give(unit: str, data: st.DataObject) -> None:
    kernel = data.draw(quantized(unit))
    inputs = _inputs(kernel)
    _check(kernel, inputs, run_attention(kernel, inputs))


def test_rows_of_many_keys_are_multiplied_exactly() -> None:
    image, other = Image(1, 1, 9, 16, "uint8"), Image(1, 1, 5000, 16, "uint8")
    q, k = Matrices.in_image(image, 16), Matrices.in_image(other, 16)
    kernel = AttentionKernel(
        Output(Image(1, 1, 9, 16)), Accumulator(), queries=q, keys=k, values=k,
        written=Matrices.in_image(Image(1, 1, 9, 16), 16), scale=1e-7,
        zero_points=(128, 128, 10), weights=Output(Image(1, 1, 1, 1, "uint8"), 1e-7),
        value_scale=_SCALE * 1e-7, tile=Tile("sse-int8", 3, 2, outer="n"), block=(3, 5000),
    )  # fmt: skip
    inputs = _inputs(kernel)
    found = run_attention(kernel, inputs)
    values = inputs[2].reshape(5000, 16).astype(np.int64) - 10
    # Every weight is far above 255 steps.
    expected = np.broadcast_to(255 * values.sum(0) * kernel.value_scale, (1, 1, 9, 16))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {"weights": None},
        {"block": (3, 32)},
        {"tile": Tile("avx2", 3, 2)},
        {"tile": Tile("neon-i8mm", 3, 2)},
    ],
)
def test_what_the_kernel_cannot_do_is_refused(changes: dict[str, object]) -> None:
    vectors = Matrices.in_image(Image(1, 1, 40, 8, "uint8"), 8)
    kernel = AttentionKernel(
        Output(vectors.image), Accumulator(), queries=vectors, keys=vectors, values=vectors,
        written=vectors, weights=Output(Image(1, 1, 1, 1, "uint8"), _STEP),
        tile=Tile("sse-int8", 3, 2), block=(3, 40),
    )  # fmt: skip
    attention.emit(kernel, "carried")
    with pytest.raises(CompileError):
        attention.emit(replace(kernel, **changes), "refused")  # type: ignore[arg-type]


def _inputs(kernel: AttentionKernel) -> list[Array]:
    rng = np.random.default_rng(kernel.queries.rows)
    found: list[Array] = []
    for matrices in (kernel.queries, kernel.keys, kernel.values):
        low, high = (0, 256) if matrices.image.dtype == "uint8" else (-128, 128)
        found.append(rng.integers(low, high, matrices.image.shape).astype(matrices.image.dtype))
    for source in kernel.sources:
        drawn, dtype = rng.standard_normal(source.image.shape), source.image.dtype
        if dtype == "bfloat16":
            found.append(drawn.astype(ml_dtypes.bfloat16).view(np.uint16))
        else:
            found.append((drawn > 0 if dtype == "uint8" else drawn).astype(dtype))
    return found


def _check(kernel: AttentionKernel, inputs: list[Array], found: Array) -> None:
    """Only weights within rounding of a tie may be one step off."""
    weights, output = kernel.weights, kernel.output
    assert weights is not None
    q, k, v = (
        heads_of(matrices, stored) - zero
        for matrices, stored, zero in zip(
            (kernel.queries, kernel.keys, kernel.values), inputs, kernel.zero_points, strict=False
        )
    )
    k, v = (np.repeat(x, q.shape[1] // x.shape[1], axis=1) for x in (k, v))
    scores = masked(kernel, q @ k.swapaxes(-1, -2) * kernel.scale, inputs[3:])
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    steps = powers / powers.sum(-1, keepdims=True) / weights.scale
    rounded = np.clip(np.rint(steps), 0, 255)
    at_tie = np.abs(steps % 1 - 0.5) < 1e-4 * (1 + steps)
    real = rounded @ v * kernel.value_scale
    allowed = at_tie @ np.abs(v) * kernel.value_scale + 1e-6 * np.abs(real)
    if output.image.dtype == "float32":
        assert np.all(np.abs(found - real) <= allowed)
        return
    low, high = (
        np.clip(np.rint(bound / output.scale + output.zero_point), 0, 255)
        for bound in (real - allowed - 1e-6, real + allowed + 1e-6)
    )
    assert np.all((low <= found) & (found <= high))
