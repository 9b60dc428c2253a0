"""Winograd's minimal filtering as the energy model sees it: fewer products, and transforms.

    F(m, 3) computes m² outputs of a 3x3 window with (m + 2)² products instead of 9 m²

Input and output of the products are transformed in blocks that stay in a cache; the transformed
weights are (m + 2)² / 9 times as large as the given ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

from gcompile.energy.blocking import blocking
from gcompile.energy.job import Job
from gcompile.ir import Contraction, Precision, Tile
from gcompile.targets import Memory, Target, Unit

TRANSFORM_OPS = {2: (32, 24), 4: (192, 140)}
"""Operations per channel and output tile, of the input and of the output transform: one for each
entry of the matrices beyond the first of a row, down the columns and then along the rows."""

_FLOATS = (Precision.FP32, Precision.BF16, Precision.FP16)
_SUM_BYTES = 4
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
        element_bytes: Of transformed inputs and weights.
    """

    contraction: Contraction
    tile: Tile
    frequencies: int
    blocks: int
    product: Contraction
    element_bytes: int

    @classmethod
    def of(cls, contraction: Contraction, tile: Tile, target: Target) -> Filtering:
        """Cut as the kernel does."""
        tiles = tiles_of(contraction, tile.winograd)
        return cls(
            contraction,
            tile,
            (tile.winograd + 2) ** 2,
            math.ceil(tiles / tile.block),
            Contraction.matmul(tile.block, contraction.in_c, contraction.out_c),
            unit_of(tile, target).precision.bits // 8,
        )

    @property
    def tiles(self) -> int:
        """Tiles that are computed, overlaps included."""
        return self.blocks * self.tile.block

    @property
    def weight_bytes(self) -> float:
        """The transformed weights."""
        sizes = self.contraction
        return float(self.frequencies * sizes.in_c * sizes.out_c * self.element_bytes)

    @property
    def scratch_bytes(self) -> float:
        """What one block holds between the transforms."""
        sizes = self.contraction
        tile_bytes = self.element_bytes * sizes.in_c + _SUM_BYTES * sizes.out_c
        return float(self.frequencies * self.tile.block * tile_bytes)


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
    if job.precision not in _FLOATS or tile.winograd not in TRANSFORM_OPS:
        return False
    sizes, unit = job.contraction, target.unit_named(tile.unit)
    if unit is None or not _serves(unit, job.precision, sizes, tile.winograd):
        return False
    fits = min(sizes.out_h, sizes.out_w) >= tile.winograd
    return fits and 1 <= tile.block <= tiles_of(sizes, tile.winograd)


def _serves(unit: Unit, precision: Precision, sizes: Contraction, side: int) -> bool:
    """Say whether a unit multiplies what the transforms give.

    The weights of F(4, 3) are too large and its sums too small for the seven bits of bfloat16;
    what is stored in fp16 is transformed and multiplied in fp32.
    """
    if unit.kind != "simd" or unit.pixels > 1:
        return False
    is_paired = unit.precision is precision is Precision.BF16 and sizes.in_c % 2 == 0
    return unit.precision is Precision.FP32 or (is_paired and side == 2)


def tiles_of(contraction: Contraction, side: int) -> int:
    """Output tiles of `side` by `side` pixels in all images."""
    rows, columns = math.ceil(contraction.out_h / side), math.ceil(contraction.out_w / side)
    return contraction.batch * rows * columns


def filterings(job: Job, target: Target, threads: int) -> Iterator[Tile]:
    """Yield the tiles worth a price: block sizes that fill shares of a core's outer cache."""
    sizes = job.contraction
    if sizes is None or not may_filter(sizes):
        return
    units = {
        target.unit_for(Precision.FP32, dense=False),
        target.unit_for(job.precision, dense=False),
    }
    for unit, side in product(sorted(units, key=lambda unit: unit.name), TRANSFORM_OPS):
        if min(sizes.out_h, sizes.out_w) < side or not _serves(unit, job.precision, sizes, side):
            continue
        yield from _of_unit(sizes, unit, side, _private_cache(target).size_bytes, threads)


def _of_unit(
    sizes: Contraction, unit: Unit, side: int, cache_bytes: float, threads: int
) -> Iterator[Tile]:
    tiles = tiles_of(sizes, side)
    element_bytes = unit.precision.bits // 8
    tile_bytes = (side + 2) ** 2 * (element_bytes * sizes.in_c + _SUM_BYTES * sizes.out_c)
    for columns in _COLUMNS:
        rows = (unit.registers - unit.spare_registers - columns - 1) // columns
        if rows < 1 or columns > math.ceil(sizes.out_c / unit.lanes):
            continue
        rows = min(rows, tiles)
        for share in _CACHE_SHARES:
            fitting = max(1, int(cache_bytes * share / tile_bytes / rows)) * rows
            block = math.ceil(tiles / math.ceil(tiles / min(fitting, tiles)))
            blocks = math.ceil(tiles / block)
            yield Tile(
                unit.name, min(rows, block), columns, threads=min(threads, blocks),
                winograd=side, block=block,
            )  # fmt: skip


def unit_of(tile: Tile, target: Target) -> Unit:
    """The unit that multiplies."""
    return target.unit_named(tile.unit) or target.unit_for(Precision.FP32, dense=False)


def filtering_compute(job: Job, tile: Tile, target: Target) -> tuple[float, float]:
    """Seconds of the busiest core, and joules of all operations, of transforms and products."""
    assert job.contraction is not None
    cut, unit = Filtering.of(job.contraction, tile, target), unit_of(tile, target)
    once = blocking(cut.product, replace(tile, threads=1), unit, target)
    products = cut.blocks * cut.frequencies
    inside, outside = TRANSFORM_OPS[tile.winograd]
    changing = cut.tiles * (inside * job.contraction.in_c + outside * job.contraction.out_c)
    vector = target.unit_for(Precision.FP32, dense=False)
    rate = vector.peak_ops_per_s / target.cores * target.vector_efficiency
    cycles = products * once.cycles / (target.clock_hz * unit.efficiency)
    share = math.ceil(cut.blocks / tile.threads) / cut.blocks
    joules = products * once.issued_ops * unit.op_j + changing * vector.op_j
    return share * (cycles + changing / rate), joules


def filtering_traffic(job: Job, tile: Tile, target: Target) -> dict[str, float]:
    """Bytes that each level sends towards the cores beyond what the direct product's operands are.

    Transformed inputs and products are written and read once; the transformed weights are read by
    every block.
    """
    assert job.contraction is not None
    cut, unit = Filtering.of(job.contraction, tile, target), unit_of(tile, target)
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
