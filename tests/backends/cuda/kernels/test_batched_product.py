"""Products of two computed operands, interpreted, against float64; and their machine code."""

from __future__ import annotations

import math
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcompile.backends.cuda.kernels.batched_product import BatchedProduct, Pitches
from gcompile.backends.cuda.kernels.block_tile import BlockTile
from gcompile.backends.cuda.kernels.epilogue import Epilogue
from gcompile.backends.cuda.lowering.numeric_form import numeric_forms
from gcompile.backends.cuda.program.instruction import INSTRUCTIONS
from gcompile.backends.tvm.kernels.spec import Accumulator, Image, Output
from gcompile.ir import Contraction
from tests.backends.cuda.disassembly import compiled, instructions
from tests.backends.cuda.kernels.products import Array, run

_TYPES = {"f16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}
_TILES = (
    BlockTile(32, 32, 16, 16, stages=3),
    BlockTile(64, 32, 32, 32, 128, stages=2),
    BlockTile(16, 64, 16, 32, stages=4),
    BlockTile(32, 128, 32, 64, stages=3, split=2),
    BlockTile(32, 96, 16, 48, stages=3),
)


def _product(
    name: str,
    sizes: tuple[int, int, int],
    pairs: tuple[int, int],
    tile: BlockTile,
    *,
    is_transposed: bool,
    is_beside: bool,
) -> BatchedProduct:
    """Heads of the left operand lie side by side, those of the right one by one or all in one."""
    (m, n, k), (batch, heads) = sizes, pairs
    right_rows, length = (n, k) if is_transposed else (k, n)
    shape = (batch, 1, m, heads * n) if is_beside else (batch, heads, m, n)
    return BatchedProduct(
        "products",
        INSTRUCTIONS[name],
        Contraction.matmul(m, k, n),
        tile,
        Epilogue(Output(Image(*shape, "float32")), Accumulator()),
        0,
        0,
        batch=batch * heads,
        heads=heads,
        left=Pitches(m * heads * k, k, heads * k),
        right=Pitches(right_rows * length, 0, length),
        is_transposed=is_transposed,
        are_side_by_side=is_beside,
    )


def _operands(product: BatchedProduct, seed: int) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(seed)
    x, weights = (
        rng.standard_normal(size).astype(_TYPES[product.instruction.left])
        for size in (product.copies.left.buffer.elements, product.copies.right.buffer.elements)
    )
    left, right = product.matrices(x.astype(np.float64), weights.astype(np.float64))
    exact = left @ right
    return x, weights, exact.swapaxes(1, 2) if product.are_side_by_side else exact


@settings(max_examples=12, deadline=None)
@given(
    name=st.sampled_from(("f16", "bf16")),
    m=st.integers(1, 70),
    n=st.integers(2, 70),
    k=st.integers(1, 50),
    pairs=st.sampled_from(((1, 1), (2, 3), (1, 2))),
    tile=st.sampled_from(_TILES),
    is_transposed=st.booleans(),
    is_beside=st.booleans(),
)
def test_every_pair_is_multiplied(
    name: str,
    m: int,
    n: int,
    k: int,
    pairs: tuple[int, int],
    tile: BlockTile,
    is_transposed: bool,
    is_beside: bool,
) -> None:
    sizes = (m, 2 * (n // 2), 2 * k)
    product = _product(name, sizes, pairs, tile, is_transposed=is_transposed, is_beside=is_beside)
    x, weights, exact = _operands(product, m)
    y = np.zeros(exact.size, np.float32)
    runs = run(product, x, weights, output=y)
    assert runs[0].conflicts["ldmatrix"] == 0
    np.testing.assert_allclose(y.reshape(exact.shape), exact, atol=2e-4 * math.sqrt(2 * k) + 1e-5)


@pytest.mark.parametrize("is_transposed", [False, True])
@pytest.mark.parametrize("split", [1, 2])
def test_the_form_in_whole_arrays_is_the_same(is_transposed: bool, split: int) -> None:
    tile = BlockTile(32, 32, 16, 16, stages=3, split=split)
    product = _product(
        "bf16", (33, 40, 96), (2, 3), tile, is_transposed=is_transposed, is_beside=True
    )
    x, weights, exact = _operands(product, 0)
    y, shares = np.zeros(exact.size, np.float32), np.zeros(product.shares.elements, np.float32)
    first, *rest = numeric_forms(product)
    first([x, weights, shares if rest else y])
    for add in rest:
        add([shares, y])
    np.testing.assert_allclose(y.reshape(exact.shape), exact, atol=1e-3)


@pytest.mark.parametrize("arch", ["80", "90"])
def test_rows_of_depth_are_transposed_by_ldmatrix(arch: str, tmp_path: Path) -> None:
    tile = BlockTile(128, 128, 64, 64, stages=3)
    product = _product("bf16", (512, 512, 512), (2, 4), tile, is_transposed=False, is_beside=False)
    code = compiled(product.programs()[0], arch)
    assert code.spilled_bytes == 0
    found = instructions(code, tmp_path)
    assert found["HMMA"] == 4 * 8 * 2
    assert found["LDGSTS"] > 0


def test_odd_rows_are_refused() -> None:
    tile = _TILES[0]
    product = _product("bf16", (8, 9, 16), (1, 1), tile, is_transposed=False, is_beside=False)
    with pytest.raises(ValueError, match="multiples of four bytes"):
        product.programs()
