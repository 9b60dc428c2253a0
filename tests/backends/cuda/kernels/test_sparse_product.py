"""Products whose weights are stored two of four, interpreted, against float64 and integers."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcompile.backends.cuda.kernels.block_tile import BlockTile
from gcompile.backends.cuda.kernels.pack_sparse import (
    is_sparse,
    pack_sparse,
    sparse_pitch,
    unpack_sparse,
)
from gcompile.backends.cuda.kernels.sparse_product import SparseProduct
from gcompile.backends.cuda.kernels.tile_cost import Work, registers_of
from gcompile.backends.cuda.program.instruction import INSTRUCTIONS
from gcompile.ir import Contraction
from tests.backends.cuda.disassembly import compiled, instructions
from tests.backends.cuda.kernels.products import (
    Array,
    plain_epilogue,
    random_operands,
    run,
    windows,
)

_NAMES = ("bf16", "f16", "s8s8", "u8s8")

_TILES = (
    BlockTile(32, 32, 16, 16, 128, 3),
    BlockTile(64, 32, 32, 32, 128, 2, split=2),
    BlockTile(16, 64, 16, 32, 128, 3),
    BlockTile(48, 48, 16, 48, 128, 2, split=3),
)


def _pruned(rng: np.random.Generator, weights: Array) -> Array:
    """Keep two of every four elements, or fewer."""
    groups = weights.reshape(len(weights), -1, 4).copy()
    order = np.argsort(rng.random(groups.shape), axis=2)
    np.put_along_axis(groups, order[..., :2], 0, 2)
    groups[rng.random(groups.shape) < 0.1] = 0
    return groups.reshape(weights.shape)


def _product(name: str, c: Contraction, tile: BlockTile) -> SparseProduct:
    instruction = INSTRUCTIONS[name]
    dtype = "int32" if instruction.sums == "int32" else "float32"
    tile = replace(tile, metadata_words=instruction.metadata_words)
    pitch = sparse_pitch(c.k, instruction.element_bytes)
    epilogue = plain_epilogue(c.m, c.n, dtype)
    return SparseProduct("sparse", instruction, c, tile, epilogue, c.in_c, pitch)


def _check(name: str, c: Contraction, tile: BlockTile, seed: int) -> None:
    rng = np.random.default_rng(seed)
    operands = random_operands(rng, name, (c.batch, c.in_h, c.in_w, c.in_c), (c.n, c.k))
    weights = _pruned(rng, operands.weights)
    product = _product(name, c, tile)
    stored, metadata = pack_sparse(weights, product.stages, product.runs)
    dtype = np.int32 if product.instruction.sums == "int32" else np.float32
    y = np.zeros((c.m, c.n), dtype)
    runs = run(product, operands.x, stored, metadata, output=y)
    assert runs[0].conflicts["ldmatrix"] == 0
    a, b = windows(operands.x.astype(np.float64), c), weights.astype(np.float64).T
    if dtype == np.int32:
        np.testing.assert_array_equal(y, a @ b)
    else:
        assert np.all(np.abs(y - a @ b) <= 1e-6 * (np.abs(a) @ np.abs(b)) + 1e-30)


@settings(max_examples=20, deadline=None)
@given(
    name=st.sampled_from(_NAMES),
    m=st.integers(1, 80),
    n=st.integers(1, 80),
    units=st.integers(1, 40),
    tile=st.sampled_from(_TILES),
)
def test_matrices_of_any_size(name: str, m: int, n: int, units: int, tile: BlockTile) -> None:
    depth = units * 16 // INSTRUCTIONS[name].element_bytes
    _check(name, Contraction.matmul(m, depth, n), tile, seed=m)


@settings(max_examples=10, deadline=None)
@given(
    name=st.sampled_from(_NAMES),
    size=st.integers(3, 9),
    stride=st.integers(1, 2),
    outputs=st.integers(1, 40),
    tile=st.sampled_from(_TILES),
)
def test_convolutions(name: str, size: int, stride: int, outputs: int, tile: BlockTile) -> None:
    out = (size - 1) // stride + 1
    c = Contraction(
        2, size, size, 32, out, out, outputs, 3, 3, stride, stride, 1, 1, 1, 1, 1, 1
    )  # fmt: skip
    _check(name, c, tile, seed=size)


@settings(max_examples=20, deadline=None)
@given(
    dtype=st.sampled_from((np.int8, np.float16)),
    columns=st.integers(1, 40),
    groups=st.integers(1, 60),
    spare=st.integers(0, 2),
)
def test_packed_weights_are_read_back(
    dtype: type[np.generic], columns: int, groups: int, spare: int
) -> None:
    rng = np.random.default_rng(groups)
    dense = rng.integers(-9, 9, (columns, 4 * groups)).astype(dtype)
    weights = _pruned(rng, dense)
    assert is_sparse(weights)
    assert is_sparse(dense) == bool(np.all((dense.reshape(columns, -1, 4) != 0).sum(2) <= 2))
    stages = math.ceil(weights[0].nbytes / 128) + spare
    runs = math.ceil(columns / 16) + spare
    stored, metadata = pack_sparse(weights, stages, runs)
    assert metadata.nbytes * 8 == stages * runs * 16 * 128 // weights.itemsize
    np.testing.assert_array_equal(unpack_sparse(stored, metadata, 4 * groups), weights)


@pytest.mark.parametrize("arch", ["80", "90"])
@pytest.mark.parametrize("name", _NAMES)
def test_half_the_tensor_core_instructions_are_left(name: str, arch: str, tmp_path: Path) -> None:
    c = Contraction(
        1, 28, 28, 128, 28, 28, 128, 3, 3, pad_top=1, pad_left=1, pad_bottom=1, pad_right=1
    )
    tile = BlockTile(64, 128, 32, 64, 128, 3)
    product = _product(name, c, tile)
    code = compiled(product.programs()[0], arch)
    assert code.spilled_bytes == 0
    work = Work(c, 1, product.instruction, 4.0)
    assert code.registers <= registers_of(work, product.tile) + 8
    unit = "IMMA" if product.instruction.sums == "int32" else "HMMA"
    found = instructions(code, tmp_path)
    dense = math.prod(tile.fragments(product.instruction)) * (128 // 32)
    assert found[unit] == dense // 2
    assert found["LDGSTS"] > 0


def test_metadata_that_name_an_element_twice_are_an_error() -> None:
    product = _product("s8s8", Contraction.matmul(16, 64, 16), _TILES[0])
    operands = [np.zeros(b.elements, b.storage) for b in product.operands]
    with pytest.raises(ArithmeticError, match="rising order"):
        run(product, *operands, output=np.zeros((16, 16), np.int32))


def test_what_no_kernel_does_is_refused() -> None:
    c = Contraction.matmul(16, 64, 16)
    with pytest.raises(ValueError, match="128 bytes deep"):
        BlockTile(32, 32, 16, 16, 64, 3, metadata_words=1)
    product = _product("f16", c, BlockTile(32, 32, 16, 16, 128, 3))
    with pytest.raises(ValueError, match="sparse tiles"):
        replace(product, tile=BlockTile(32, 32, 16, 16, 128, 3)).programs()
