"""Winograd's minimal filtering as the energy model sees it: fewer products, and transforms.

    F(m, 3) computes m² outputs of a 3x3 window with (m + 2)² products instead of 9 m²

Input and output of the products are transformed in blocks that stay in a cache; the transformed
weights are (m + 2)² / 9 times as large as the given ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from gcompile.energy.blocking import blocking
from gcompile.energy.job import Job
from gcompile.ir import Contraction, Precision, Tile
from gcompile.targets import Memory, Target

TRANSFORM_OPS = {2: (32, 24), 4: (192, 140)}
"""Operations per channel and output tile, of the input and of the output transform: one for each
entry of the matrices beyond the first of a row, down the columns and then along the rows."""

_FLOAT_BYTES = 4
_FEW_CHANNELS = 4
_COLUMNS = (1, 2, 3, 4, 6, 8)
_CACHE_SHARES = (0.125, 0.25, 0.5)


@dataclass(frozen=True)
class Filtering:
    """One convolution cut into blocks of output tiles.

    Attributes:
        frequencies: Products of one tile.
        blocks: Blocks of tiles, the last of which overlaps its neighbour.
        product: The matrix product of one frequency of one block.
    """

    contraction: Contraction
    tile: Tile
    frequencies: int
    blocks: int
    product: Contraction

    @classmethod
    def of(cls, contraction: Contraction, tile: Tile) -> Filtering:
        """Cut as the kernel does."""
        tiles = tiles_of(contraction, tile.winograd)
        return cls(
            contraction,
            tile,
            (tile.winograd + 2) ** 2,
            math.ceil(tiles / tile.block),
            Contraction.matmul(tile.block, contraction.in_c, contraction.out_c),
        )

    @property
    def tiles(self) -> int:
        """Tiles that are computed, overlaps included."""
        return self.blocks * self.tile.block

    @property
    def weight_bytes(self) -> float:
        """The transformed weights."""
        sizes = self.contraction
        return float(self.frequencies * sizes.in_c * sizes.out_c * _FLOAT_BYTES)

    @property
    def scratch_bytes(self) -> float:
        """What one block holds between the transforms."""
        sizes = self.contraction
        channels = sizes.in_c + sizes.out_c
        return float(self.frequencies * self.tile.block * channels * _FLOAT_BYTES)


def may_filter(contraction: Contraction | None) -> bool:
    """Say whether the algorithm serves a product: a dense 3x3 window of stride 1.

    Images of a few channels are stored in an order of their own, and have little to save.
    """
    if contraction is None or contraction.in_c <= _FEW_CHANNELS:
        return False
    sizes = (contraction.kernel_h, contraction.kernel_w, contraction.stride_h,
             contraction.stride_w, contraction.dilation_h, contraction.dilation_w,
             contraction.groups)  # fmt: skip
    return sizes == (3, 3, 1, 1, 1, 1, 1) and min(contraction.out_h, contraction.out_w) >= 2


def is_legal_filtering(tile: Tile, job: Job, target: Target) -> bool:
    """Say whether the kernel can be emitted with this tile."""
    if job.contraction is None or not may_filter(job.contraction):
        return False
    if job.precision not in (Precision.FP32, Precision.BF16) or tile.winograd not in TRANSFORM_OPS:
        return False
    sizes = job.contraction
    fits = min(sizes.out_h, sizes.out_w) >= tile.winograd
    unit = target.unit_named(tile.unit)
    is_fp32 = unit is not None and unit.precision is Precision.FP32
    return fits and is_fp32 and 1 <= tile.block <= tiles_of(sizes, tile.winograd)


def tiles_of(contraction: Contraction, side: int) -> int:
    """Output tiles of `side` by `side` pixels in all images."""
    rows, columns = math.ceil(contraction.out_h / side), math.ceil(contraction.out_w / side)
    return contraction.batch * rows * columns


def filterings(job: Job, target: Target, threads: int) -> Iterator[Tile]:
    """Yield the tiles worth a price: block sizes that fill shares of a core's outer cache."""
    sizes = job.contraction
    unit = target.unit_for(Precision.FP32, dense=False)
    if sizes is None or not may_filter(sizes) or unit.kind != "simd":
        return
    cache = _private_cache(target).size_bytes
    for side in TRANSFORM_OPS:
        if min(sizes.out_h, sizes.out_w) < side:
            continue
        tiles = tiles_of(sizes, side)
        tile_bytes = (side + 2) ** 2 * (sizes.in_c + sizes.out_c) * _FLOAT_BYTES
        for columns in _COLUMNS:
            rows = (unit.registers - unit.spare_registers - columns - 1) // columns
            if rows < 1 or columns > math.ceil(sizes.out_c / unit.lanes):
                continue
            rows = min(rows, tiles)
            for share in _CACHE_SHARES:
                fitting = max(1, int(cache * share / tile_bytes / rows)) * rows
                block = math.ceil(tiles / math.ceil(tiles / min(fitting, tiles)))
                blocks = math.ceil(tiles / block)
                yield Tile(
                    unit.name, min(rows, block), columns, threads=min(threads, blocks),
                    winograd=side, block=block,
                )  # fmt: skip


def filtering_compute(job: Job, tile: Tile, target: Target) -> tuple[float, float]:
    """Seconds of the busiest core, and joules of all operations, of transforms and products."""
    assert job.contraction is not None
    cut = Filtering.of(job.contraction, tile)
    unit = target.unit_named(tile.unit) or target.unit_for(Precision.FP32, dense=False)
    once = blocking(cut.product, replace(tile, threads=1), unit, target)
    products = cut.blocks * cut.frequencies
    inside, outside = TRANSFORM_OPS[tile.winograd]
    changing = cut.tiles * (inside * job.contraction.in_c + outside * job.contraction.out_c)
    rate = unit.peak_ops_per_s / target.cores * target.vector_efficiency
    cycles = products * once.cycles / (target.clock_hz * unit.efficiency)
    share = math.ceil(cut.blocks / tile.threads) / cut.blocks
    joules = (products * once.issued_ops + changing) * unit.op_j
    return share * (cycles + changing / rate), joules


def filtering_traffic(job: Job, tile: Tile, target: Target) -> dict[str, float]:
    """Bytes that each level sends towards the cores beyond what the direct product's operands are.

    Transformed inputs and products are written and read once; the transformed weights are read by
    every block.
    """
    assert job.contraction is not None
    cut = Filtering.of(job.contraction, tile)
    unit = target.unit_named(tile.unit) or target.unit_for(Precision.FP32, dense=False)
    once = blocking(cut.product, replace(tile, threads=1), unit, target)
    between = 2 * cut.blocks * cut.scratch_bytes
    sent = {target.memories[0].name: cut.blocks * cut.frequencies * once.loaded_bytes + between}
    for inner, outer in zip(target.memories, target.memories[1:], strict=False):
        again = 1 if cut.weight_bytes + cut.scratch_bytes <= inner.size_bytes else cut.blocks
        stays = cut.scratch_bytes <= inner.size_bytes
        sent[outer.name] = cut.weight_bytes * (again - 1) + (0.0 if stays else between)
    return sent


def _private_cache(target: Target) -> Memory:
    """The outermost cache that a core does not share."""
    caches = [memory for memory in target.memories[:-1] if memory.per_core]
    return caches[-1] if caches else target.memories[0]
