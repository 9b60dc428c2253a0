"""Choose the tile of a kernel: every one that the kernels can emit, the cheapest wins.

Cheapest is the least product of energy and time. Energy alone would never use a second core where
cores pay for their own static power; time alone would use every core for any gain.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import product
from typing import Literal

from gcompile.energy.blocking import blocking, column_count, flat_pixels, row_count
from gcompile.energy.job import Job
from gcompile.energy.kernel import is_blocked, kernel_cost
from gcompile.ir import Contraction, Precision, Tile
from gcompile.targets import Target, Unit

MAX_COLUMNS = 8
"""Vectors of N in one register block: beyond it, unrolled code outgrows the decoders' caches."""

_STREAMS = 4
"""The same where one block has all rows, so that each weight is read once: more streams of memory
side by side contend for the sets of the caches, and slow reading down."""

_TILE_BLOCKS = ((2, 2), (4, 1), (1, 4))
"""Tiles of sums, of which eight registers have room beside the operands."""

_SHORTLIST = 8


def choose_tile(job: Job, target: Target, threads: int, footprint_bytes: float) -> Tile:
    """Return the tile with the least product of energy and time.

    Args:
        job: What the kernel does.
        target: The device.
        threads: The most cores the kernel may use.
        footprint_bytes: Bytes the whole model touches between two uses of the same weight.
    """
    # Nearby sizes share an answer, so that a small change of the model does not repeat the search.
    rounded = 2.0 ** round(math.log2(max(footprint_bytes, 1.0)))
    return _choose(job, target, min(max(threads, 1), target.cores), rounded)


def is_legal(tile: Tile, contraction: Contraction, unit: Unit) -> bool:
    """Say whether a kernel can be emitted for the tile."""
    if tile.flat and not _may_be_flat(contraction):
        return False
    vectors = column_count(contraction, unit)
    if unit.kind == "matrix":
        return (tile.rows, tile.columns) in _TILE_BLOCKS and not (
            tile.flat and flat_pixels(contraction) < 16
        )
    pixels = flat_pixels(contraction) if tile.flat else contraction.out_w
    fits = 1 <= tile.rows <= pixels and 1 <= tile.columns <= vectors
    return fits and registers_needed(tile, unit) <= unit.registers


def registers_needed(tile: Tile, unit: Unit) -> int:
    """Count the registers a block keeps alive: sums, the operands of its columns, one of pixels.

    And those of operands that the compiler loads ahead: blocks without room for them keep sums in
    memory, at half the speed. With 16 registers it reads operands from memory instead.
    """
    rows = math.ceil(tile.rows / unit.pixels) * unit.pixels
    operands = unit.operand_registers * (unit.pixels * tile.columns + 1)
    ahead = 2 if tile.columns > 2 and unit.registers > 16 else unit.operand_registers - 1
    return rows * tile.columns + operands + unit.spare_registers + ahead


def shapes(contraction: Contraction, unit: Unit) -> Iterator[Tile]:
    """Yield every register block that is legal and reads few streams, for one thread."""
    flats = (False, True) if _may_be_flat(contraction) else (False,)
    if unit.kind == "matrix":
        yield _matrix_shape(contraction, unit)
        return
    for columns in range(1, min(MAX_COLUMNS, column_count(contraction, unit)) + 1):
        for rows in range(1, unit.registers // columns + 1):
            for flat in flats:
                tile = Tile(unit.name, rows, columns, flat)
                if not is_legal(tile, contraction, unit):
                    continue
                if columns <= _STREAMS or row_count(contraction, tile, unit) > 1:
                    yield tile


@lru_cache(maxsize=16384)
def _choose(job: Job, target: Target, threads: int, footprint_bytes: float) -> Tile:
    unit = target.unit_for(job.precision)
    if job.part is not None and is_blocked(unit, target):
        block = _shortlist(job.part, unit, target)[0]
        candidates = [replace(block, threads=n) for n in _thread_counts(threads)]
    elif job.blocked is None or not is_blocked(unit, target):
        is_product = job.product_ops > 0 and target.kind != "cpu"
        unit = unit if is_product else target.unit_for(Precision.FP32, dense=False)
        candidates = [Tile(unit.name, 1, 1, threads=n) for n in _thread_counts(threads)]
    else:
        shortlist = _shortlist(job.blocked, unit, target)
        candidates = list(_loops(job, shortlist, unit, threads))
    if job.attention is not None and is_blocked(unit, target):
        candidates = [
            replace(block, outer="n", threads=n)
            for block in _attention_shapes(job.attention.scores, unit)
            for n in _thread_counts(threads)
        ]

    def energy_delay(tile: Tile) -> float:
        cost = kernel_cost(job, tile, target, footprint_bytes)
        return cost.energy_j * cost.time_s

    return min(candidates, key=energy_delay)


@lru_cache(maxsize=16384)
def _shortlist(contraction: Contraction, unit: Unit, target: Target) -> list[Tile]:
    """Return the register blocks with the fewest cycles: memory decides among these."""
    cycles = {
        tile: blocking(contraction, tile, unit, target).cycles
        for tile in shapes(contraction, unit)
    }
    return sorted(cycles, key=lambda tile: cycles[tile])[:_SHORTLIST]


def _loops(job: Job, blocks: list[Tile], unit: Unit, threads: int) -> Iterator[Tile]:
    """Yield each block with each loop order and each legal way to share it between threads."""
    contraction = job.blocked
    if contraction is None:
        return
    rights = job.batch.rights if job.batch is not None else 1  # Dealt out whole, if enough.
    outers: tuple[Literal["m", "n"], ...] = ("m", "n")
    if job.weight_bytes > job.image_bytes:
        outers = ("n", "m")
    for tile, outer, count in product(blocks, outers, _thread_counts(threads)):
        rows = row_count(contraction, tile, unit)
        if unit.kind == "matrix":
            rows = math.ceil(rows / tile.rows)
        columns = math.ceil(column_count(contraction, unit) / tile.columns)
        if max(rows, rights) >= count:
            yield replace(tile, outer=outer, threads=count)
        if columns >= count > rights:
            yield replace(tile, outer=outer, split="n", threads=count)


def _attention_shapes(scores: Contraction, unit: Unit) -> list[Tile]:
    """Return the register blocks of both products of attention."""
    if unit.kind == "matrix":
        return [Tile(unit.name, *block) for block in _TILE_BLOCKS]
    return [block for block in shapes(scores, unit) if not block.flat]


def _thread_counts(threads: int) -> list[int]:
    """Return 1, 2, 4, … and the whole number."""
    return sorted({*(2**i for i in range(threads.bit_length()) if 2**i <= threads), threads})


def _may_be_flat(contraction: Contraction) -> bool:
    return contraction.batch == 1 and contraction.stride_h == contraction.stride_w == 1


def _matrix_shape(contraction: Contraction, unit: Unit) -> Tile:
    """Tile units have one good block for each height of the product."""
    flat = Tile(unit.name, 2, 2, flat=True)
    use_flat = _may_be_flat(contraction) and flat_pixels(contraction) >= 16
    use_flat = use_flat and row_count(contraction, flat, unit) < row_count(
        contraction, Tile(unit.name, 2, 2), unit
    )
    high = row_count(contraction, Tile(unit.name, 2, 2, use_flat), unit)
    rows, columns = (1, 4) if high == 1 else (4, 1) if high in (3, 4) else (2, 2)
    return Tile(unit.name, rows, columns, use_flat)
