"""Products on tensor cores, interpreted, against float64 and exact integers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gcompile.backends.cuda.kernels.block_tile import BlockTile
from gcompile.backends.cuda.kernels.epilogue import Epilogue
from gcompile.backends.cuda.kernels.product import Product
from gcompile.backends.cuda.program.instruction import INSTRUCTIONS
from gcompile.backends.tvm.kernels.spec import (
    Accumulator,
    Binary,
    Image,
    Load,
    Output,
    PerChannel,
    Source,
    Unary,
)
from gcompile.ir import Contraction
from tests.backends.cuda.kernels.products import (
    SMALL_TILES,
    TESTED,
    Array,
    packed,
    pitch_of,
    plain_epilogue,
    random_operands,
    run,
    windows,
)

_FEW = settings(max_examples=12, deadline=None)
_names = st.sampled_from(sorted(TESTED))
_tiles = st.sampled_from(SMALL_TILES)


def _is_legal(name: str, tile: BlockTile) -> bool:
    """Groups of warps read tf32 unrounded, which the kernels do not use; sm_75 has neither."""
    return not (tile.by_groups and (name == "tf32" or name.endswith("-75")))


def _close(actual: Array, exact: Array, size: Array) -> None:
    """Integers are exact; floats round once per instruction, relative to the sum of magnitudes."""
    if np.asarray(actual).dtype.kind in "iu":
        np.testing.assert_array_equal(actual, exact)
    else:
        assert np.all(np.abs(actual - exact) <= 1e-6 * size + 1e-30)


def _matmul(
    name: str, m: int, n: int, k: int, tile: BlockTile, seed: int, batch: int = 1
) -> tuple[Array, Array, Array]:
    instruction = TESTED[name]
    size = instruction.element_bytes
    rng = np.random.default_rng(seed)
    operands = random_operands(rng, name, (batch, m, k), (batch, n, k))
    pitch = pitch_of(k, size)
    dtype = "int32" if instruction.sums == "int32" else "float32"
    x = packed(operands.x, -(-k * size // 4) * 4 // size)
    product = Product(
        "gemm",
        instruction,
        Contraction.matmul(m, k, n) if x.shape[-1] == k else Contraction.matmul(m, x.shape[-1], n),
        tile,
        plain_epilogue(batch * m, n, dtype),
        x.shape[-1],
        pitch,
        batch=batch,
    )
    y = np.zeros((batch, m, n), dtype)
    runs = run(product, x, packed(operands.weights, pitch), output=y)
    assert all(r.conflicts.get("ldmatrix", 0) == 0 for r in runs)
    a, b = operands.x.astype(np.float64), operands.weights.astype(np.float64).swapaxes(1, 2)
    return y, a @ b, np.abs(a) @ np.abs(b)


@_FEW
@given(
    name=_names,
    m=st.integers(1, 90),
    n=st.integers(1, 90),
    k=st.integers(1, 200),
    tile=_tiles,
    seed=st.integers(0, 99),
)
def test_matrices_of_any_size(
    name: str, m: int, n: int, k: int, tile: BlockTile, seed: int
) -> None:
    assume(_is_legal(name, tile))
    _close(*_matmul(name, m, n, k, tile, seed))


@_FEW
@given(
    name=_names,
    k=st.integers(1, 700),
    split=st.integers(2, 5),
    batch=st.integers(1, 3),
    tile=_tiles,
)
def test_the_depth_is_split_over_blocks(
    name: str, k: int, split: int, batch: int, tile: BlockTile
) -> None:
    assume(_is_legal(name, tile))
    _close(*_matmul(name, 37, 24, k, replace(tile, split=split), seed=k, batch=batch))


@pytest.mark.parametrize("name", sorted(TESTED))
def test_large_tiles_of_every_type(name: str) -> None:
    _close(*_matmul(name, 200, 136, 264, BlockTile(128, 64, 64, 32, 128, 3), seed=1))


@st.composite
def _convolutions(draw: st.DrawFn) -> Contraction:
    kernel = [draw(st.integers(1, 3)) for _ in range(2)]
    stride = [draw(st.integers(1, 2)) for _ in range(2)]
    dilation = [draw(st.integers(1, 2)) for _ in range(2)]
    pads = [draw(st.integers(0, 2)) for _ in range(4)]
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    height, width = (draw(st.integers(reach[i], 9)) for i in range(2))
    return Contraction(
        batch=draw(st.integers(1, 2)),
        in_h=height,
        in_w=width,
        in_c=4 * draw(st.integers(1, 9)),
        out_h=(height + pads[0] + pads[2] - reach[0]) // stride[0] + 1,
        out_w=(width + pads[1] + pads[3] - reach[1]) // stride[1] + 1,
        out_c=draw(st.integers(1, 40)),
        kernel_h=kernel[0],
        kernel_w=kernel[1],
        stride_h=stride[0],
        stride_w=stride[1],
        dilation_h=dilation[0],
        dilation_w=dilation[1],
        pad_top=pads[0],
        pad_left=pads[1],
        pad_bottom=pads[2],
        pad_right=pads[3],
    )


@settings(max_examples=25, deadline=None)
@given(
    name=_names,
    c=_convolutions(),
    tile=_tiles,
    split=st.integers(1, 3),
    spare=st.sampled_from((0, 4)),
)
def test_convolutions_of_any_shape(
    name: str, c: Contraction, tile: BlockTile, split: int, spare: int
) -> None:
    assume(_is_legal(name, tile))
    instruction = TESTED[name]
    rng = np.random.default_rng(c.m)
    channels = c.in_c + spare
    operands = random_operands(rng, name, (c.batch, c.in_h, c.in_w, channels), (c.out_c, c.k))
    pitch = pitch_of(c.k, instruction.element_bytes)
    dtype = "int32" if instruction.sums == "int32" else "float32"
    epilogue = plain_epilogue(c.m, c.n, dtype)
    tile = replace(tile, split=split)
    product = Product("conv", instruction, c, tile, epilogue, channels, pitch)
    y = np.zeros((c.m, c.n), dtype)
    runs = run(product, operands.x, packed(operands.weights, pitch), output=y)
    assert all(r.conflicts.get("ldmatrix", 0) == 0 for r in runs)
    a, b = windows(operands.x.astype(np.float64), c), operands.weights.astype(np.float64).T
    _close(y, a @ b, np.abs(a) @ np.abs(b))


@_FEW
@given(groups=st.integers(2, 4), inputs=st.sampled_from((4, 8, 20)), outputs=st.integers(1, 20))
def test_groups_lie_side_by_side_in_the_channels(groups: int, inputs: int, outputs: int) -> None:
    c = Contraction(
        2, 5, 4, inputs, 5, 4, outputs, 3, 3, pad_top=1, pad_left=1, pad_bottom=1, pad_right=1
    )
    rng = np.random.default_rng(groups)
    shape = (c.batch, c.in_h, c.in_w, groups * inputs)
    operands = random_operands(rng, "s8s8", shape, (groups, outputs, c.k))
    pitch = pitch_of(c.k, 1)
    product = Product(
        "grouped",
        INSTRUCTIONS["s8s8"],
        c,
        SMALL_TILES[0],
        plain_epilogue(c.m, groups * outputs, "int32"),
        groups * inputs,
        pitch,
        batch=groups,
        groups=True,
    )
    y = np.zeros((c.m, groups, outputs), np.int32)
    run(product, operands.x, packed(operands.weights, pitch), output=y)
    for group in range(groups):
        x = operands.x[..., group * inputs : (group + 1) * inputs].astype(np.float64)
        exact = windows(x, c) @ operands.weights[group].astype(np.float64).T
        np.testing.assert_array_equal(y[:, group], exact)


@pytest.mark.parametrize("split", [1, 3])
@pytest.mark.parametrize(("m", "n"), [(50, 40), (33, 21)])
def test_residual_bias_and_activation_follow_the_sums(m: int, n: int, split: int) -> None:
    k = 96
    rng = np.random.default_rng(0)
    operands = random_operands(rng, "f16", (m, k), (n, k))
    bias = rng.standard_normal(n).astype(np.float32)
    residual = rng.standard_normal((m, n)).astype(np.float16)
    expression = Unary("relu", Binary("add", Binary("add", Accumulator(), PerChannel(0)), Load(0)))
    epilogue = Epilogue(
        Output(Image(1, 1, m, n, "float16")),
        expression,
        (Source(Image(1, 1, m, n, "float16")),),
        1,
    )
    tile = BlockTile(32, 32, 16, 32, split=split)
    product = Product(
        "fused", INSTRUCTIONS["f16"], Contraction.matmul(m, k, n), tile, epilogue, k, k
    )
    y = np.zeros((m, n), np.float16)
    run(product, operands.x, operands.weights, bias, residual, output=y)
    sums = operands.x.astype(np.float64) @ operands.weights.astype(np.float64).T
    exact = np.maximum(sums + bias + residual, 0)
    np.testing.assert_allclose(y, exact, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_integer_outputs_are_rounded_and_clipped(dtype: str) -> None:
    m, n, k = 40, 24, 64
    rng = np.random.default_rng(3)
    operands = random_operands(rng, "u8s8", (m, k), (n, k))
    scale = rng.uniform(0.5, 2.0, n).astype(np.float32)
    output = Output(Image(1, 1, m, n, dtype), scale=200.0, zero_point=3)
    source = Source(Image(1, 1, 1, n, "uint8"), scale=2.0, zero_point=7)
    expression = Binary("add", Binary("mul", Accumulator(), PerChannel(0)), Load(0))
    product = Product(
        "quantized",
        INSTRUCTIONS["u8s8"],
        Contraction.matmul(m, k, n),
        BlockTile(32, 32, 16, 16),
        Epilogue(output, expression, (source,), 1),
        k,
        k,
    )
    added = rng.integers(0, 256, n).astype(np.uint8)
    y = np.zeros((m, n), dtype)
    run(product, operands.x, operands.weights, scale, added, output=y)
    sums = operands.x.astype(np.int64) @ operands.weights.astype(np.int64).T
    f = np.float32
    real = sums.astype(f) * scale + (added.astype(f) - f(7)) * f(2)
    info = np.iinfo(dtype)
    exact = np.clip(np.rint(real * f(1 / 200)) + 3, info.min, info.max)
    np.testing.assert_array_equal(y, exact)
