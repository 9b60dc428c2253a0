"""Choose how a product is cut into blocks: every way the kernels know is priced, one is taken.

The least product of energy and time wins, as on other targets, among those that give nearly every
multiprocessor a block. What an idle one costs is more than a model of steady work sees: its caches
and its share of the bandwidth are idle too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

from gcompile.backends.cuda.kernels.block_tile import BlockTile
from gcompile.backends.cuda.kernels.pack_sparse import STAGE_BYTES
from gcompile.backends.cuda.kernels.processor import processor_of
from gcompile.backends.cuda.kernels.tile_cost import TileCost, Work, tile_cost, unit_of
from gcompile.backends.cuda.program.instruction import ASYNC_ARCH
from gcompile.errors import TargetError
from gcompile.targets import Target

_SIDES = (16, 32, 64, 128, 256)
_WARP_SIDES = (16, 32, 64)
_WARPS = (1, 2, 4, 8)
_STAGES = (3, 4, 6)
_SPLITS = (1, 2, 3, 4, 6, 8, 12, 16, 24)

_DEEP = 4
"""Stages beyond which more of them hide nothing that the model does not see."""

_GROUPS_ARCH = 90
"""The architecture with `wgmma`. It reads tf32 unrounded, which would cost accuracy."""

_PANEL_COLUMNS = 32
"""Columns of 64 bytes, the narrowest panel."""

_LEAST_STAGES = 4
"""Stages of depth that a block should walk at least, or filling them is most of its work."""

_IDLE = 0.2
"""Share of the multiprocessors that may be without a block."""

_WORTH = 2.0
"""How many times the least product of energy and time a full chip may cost."""

_FULL = 4
"""Blocks for each multiprocessor beyond which splitting the depth gains nothing."""


def choose_tile(work: Work, target: Target, arch: int) -> BlockTile:
    """Return the best tile.

    Args:
        work: The product.
        target: A GPU with tensor cores for its element types.
        arch: Its architecture: 80 for sm_80.

    Raises:
        TargetError: The architecture lacks the instruction, or is not known.
    """
    return priced_tile(work, target, arch)[1]


@lru_cache(maxsize=4096)
def priced_tile(work: Work, target: Target, arch: int) -> tuple[TileCost, BlockTile]:
    """Return the best tile and its price.

    Raises:
        TargetError: As `choose_tile`, or the target has no unit for sparse weights.
    """
    if arch < work.instruction.architecture:
        raise TargetError(
            f"{work.instruction.name} needs sm_{work.instruction.architecture}, not sm_{arch}."
        )
    if work.is_sparse and not unit_of(work.instruction, target)[0].sparse_ops_per_s:
        raise TargetError(f"{target.name} has no unit for sparse weights.")
    processor = processor_of(arch)
    priced = (
        (tile_cost(work, tile, processor, target), tile) for tile in _tiles(work, target, arch)
    )
    fitting = [(cost, tile) for cost, tile in priced if cost is not None]
    best = min(fitting, key=_rank)
    enough = (1 - _IDLE) * target.processors
    filling = [
        p for p in fitting if p[0].blocks >= enough and _rank(p)[0] < _WORTH * _rank(best)[0]
    ]
    return min(filling, key=_rank) if filling else best


def _rank(priced: tuple[TileCost, BlockTile]) -> tuple[float, int, int]:
    """Energy times time; where that is equal, stages hide latency, and so do other blocks."""
    cost, tile = priced
    return cost.energy_j * cost.time_s, -min(tile.stages, _DEEP), -cost.resident


def _tiles(work: Work, target: Target, arch: int) -> Iterator[BlockTile]:
    c = work.contraction
    depth_bytes = c.k * work.instruction.element_bytes
    by_groups = arch == _GROUPS_ARCH and work.instruction.left != "tf32"
    by_groups = by_groups and not work.is_depth_first
    by_groups = by_groups and not work.is_sparse
    shapes = _shapes() if arch >= ASYNC_ARCH else _register_shapes()
    if work.is_sparse:
        shapes = _sparse_shapes(work.instruction.metadata_words)
    for shape in (*shapes, *(_group_shapes() if by_groups else ())):
        if shape.rows >= 2 * max(c.m, 16) or shape.columns >= 2 * max(c.n, 16):
            continue
        if work.is_depth_first and shape.columns % _PANEL_COLUMNS:
            continue
        blocks = math.ceil(c.m / shape.rows) * math.ceil(c.n / shape.columns) * work.batch
        walked = math.ceil(depth_bytes / shape.depth_bytes)
        for split in _SPLITS:
            enough = walked // split >= _LEAST_STAGES
            if split == 1 or (enough and blocks * split <= _FULL * target.processors):
                yield replace(shape, split=split)


@lru_cache(maxsize=1)
def _shapes() -> tuple[BlockTile, ...]:
    """Every block of up to eight warps whose warps are of legal size, with every depth."""
    result = []
    for rows in _SIDES:
        for columns in _SIDES:
            for warp_rows in _WARP_SIDES:
                for warp_columns in _WARP_SIDES:
                    if rows % warp_rows or columns % warp_columns:
                        continue
                    if rows // warp_rows * (columns // warp_columns) not in _WARPS:
                        continue
                    result += [
                        BlockTile(rows, columns, warp_rows, warp_columns, depth, stages)
                        for depth in (64, 128)
                        for stages in _STAGES
                    ]
    return tuple(result)


@lru_cache(maxsize=1)
def _register_shapes() -> tuple[BlockTile, ...]:
    """The same without asynchronous copies, which leave two stages."""
    shapes = (replace(shape, stages=2, by_registers=True) for shape in _shapes())
    return tuple(dict.fromkeys(shapes))


@lru_cache(maxsize=2)
def _sparse_shapes(words: int) -> tuple[BlockTile, ...]:
    """The same for weights of which two in four are stored, in stages deep enough for them."""
    deep = (shape for shape in _shapes() if shape.depth_bytes == STAGE_BYTES)
    return tuple(replace(shape, metadata_words=words) for shape in deep)


@lru_cache(maxsize=1)
def _group_shapes() -> tuple[BlockTile, ...]:
    """Blocks of one or two groups of four warps, each of which has 64 rows and all columns."""
    return tuple(
        BlockTile(rows, columns, 16, columns, 128, stages, by_groups=True)
        for rows in (64, 128)
        for columns in (64, 128, 192, 256)
        for stages in (*_STAGES, 5)
    )
