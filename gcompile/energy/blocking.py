"""How a tile cuts a contraction into register blocks, and how many cycles a block takes.

A step of a block multiplies one slice of depth: `rows · columns` products, `rows + columns` loads.

    cycles of a step = max(products / products per cycle, loads / loads per cycle, latency)

Every accumulator is updated once per step, so no step is shorter than the latency; small blocks on
vector units have several sets of accumulators, which take turns. Vector units count pixels and
vectors; tile units count tile registers of up to 16 rows by 16 columns. Units that multiply
several pixels at once repeat one where a block has none left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gcompile.ir import Contraction, Tile
from gcompile.targets import Target, Unit

TILE_ROWS = 16
_TILE_ROW_BYTES = 64

_FEWEST_SUMS = 8
"""Accumulators that hide the latency of an addition on every processor of the last decade."""


@dataclass(frozen=True, slots=True)
class Blocking:
    """The register blocks of a whole contraction.

    Attributes:
        row_blocks: Blocks along M.
        column_blocks: Blocks along N.
        cycles: Cycles of one core that runs all of it at full efficiency.
        issued_ops: Operations the unit really does: padding, halos and overlaps included.
        loaded_bytes: Bytes that register loads read from the first-level cache.
        weight_bytes: The weights, padded as the kernel stores them.
        busy_share: The share of the cycles that the busiest thread has.
        panel_columns: Columns of the product in one whole block.
    """

    row_blocks: int
    column_blocks: int
    cycles: float
    issued_ops: float
    loaded_bytes: float
    weight_bytes: float
    busy_share: float
    panel_columns: int = 0


def blocking(contraction: Contraction, tile: Tile, unit: Unit, target: Target) -> Blocking:
    """Cut the contraction as the kernel for `unit` does.

    Args:
        contraction: A product with one group.
        tile: A legal tile of that unit.
        unit: The execution unit; its precision is the one that is stored.
        target: Gives the clock and the number of cores that the unit's peak counts.
    """
    is_matrix = unit.kind == "matrix"
    rows, vectors = row_count(contraction, tile, unit), column_count(contraction, unit)
    steps = step_count(contraction, unit)
    products_per_cycle = unit.peak_ops_per_s / (target.cores * target.clock_hz) / _ops(unit)
    height = math.ceil(tile.rows / unit.pixels) * unit.pixels
    row_parts = _parts(rows, tile.rows) if is_matrix else [(height, rows)]
    column_parts = _parts(vectors, tile.columns)
    cycles = sum(
        row_times * column_times * _block_cycles(r, c, steps, unit, products_per_cycle)
        for r, row_times in row_parts
        for c, column_times in column_parts
    )
    issued_rows = sum(r * times for r, times in row_parts)
    row_blocks = sum(times for _, times in row_parts)
    column_blocks = sum(times for _, times in column_parts)
    weight_bytes = float(vectors * steps * _weight_register_bytes(unit))
    broadcast_bytes = TILE_ROWS * _TILE_ROW_BYTES if is_matrix else 4 * unit.pixels
    return Blocking(
        row_blocks=row_blocks,
        column_blocks=column_blocks,
        cycles=cycles,
        issued_ops=float(issued_rows * vectors * steps * _ops(unit)),
        loaded_bytes=row_blocks * weight_bytes
        + float(column_blocks * issued_rows * steps * broadcast_bytes),
        weight_bytes=weight_bytes,
        busy_share=_busy_share(tile, row_blocks, vectors),
        panel_columns=tile.columns * (TILE_ROWS if is_matrix else unit.lanes),
    )


def row_count(contraction: Contraction, tile: Tile, unit: Unit) -> int:
    """Count what the tile's rows cut: blocks of pixels, or tile registers along M."""
    height = TILE_ROWS if unit.kind == "matrix" else tile.rows
    if tile.flat:
        return math.ceil(flat_pixels(contraction) / height)
    if unit.kind == "matrix":
        height = max(d for d in range(1, TILE_ROWS + 1) if contraction.out_w % d == 0)
    return contraction.batch * contraction.out_h * math.ceil(contraction.out_w / height)


def column_count(contraction: Contraction, unit: Unit) -> int:
    """Count the vectors, or tile registers, along N."""
    return math.ceil(contraction.n / (TILE_ROWS if unit.kind == "matrix" else unit.lanes))


def step_count(contraction: Contraction, unit: Unit) -> int:
    """Count the instructions that one accumulator needs."""
    emitted = contraction.widened(unit.depth)
    joined = emitted.kernel_w if emitted.dilation_w == 1 else 1
    padded = emitted.in_c if emitted.in_c <= 4 else math.ceil(emitted.in_c / 4) * 4
    run = math.ceil(joined * padded / unit.depth)
    rows = emitted.kernel_h * emitted.kernel_w // joined
    if unit.kind != "matrix":
        return rows * run
    widest = max(d for d in range(4, _TILE_ROW_BYTES + 1, 4) if run * 4 % d == 0)
    return rows * (run * 4 // widest)


def flat_pixels(contraction: Contraction) -> int:
    """Count the pixels of one image taken as a line of padded rows."""
    padded = contraction.in_w + contraction.pad_left + contraction.pad_right
    return (contraction.out_h - 1) * padded + contraction.out_w


def _parts(count: int, block: int) -> list[tuple[int, int]]:
    """Cut `count` into whole blocks and a rest: (size, times) of each."""
    parts = [(block, count // block), (count % block, 1)]
    return [(size, times) for size, times in parts if size and times]


def _block_cycles(
    rows: int, columns: int, steps: int, unit: Unit, products_per_cycle: float
) -> float:
    """Count the cycles of one register block, whole depth, from first load to last store."""
    loads = (rows + unit.pixels * columns) / unit.loads_per_cycle
    operands = unit.operand_registers * (unit.pixels * columns + 1) + unit.spare_registers
    room = 0 if unit.kind == "matrix" else unit.registers - operands
    sets = accumulator_sets(rows * columns, room)
    step = max(rows * columns / products_per_cycle, loads, unit.latency_cycles / sets)
    # Addresses and loop control take issue slots: this also breaks ties towards small blocks.
    step += (rows + 2 * columns) / 50
    store_cycles = TILE_ROWS if unit.kind == "matrix" else 1 + 1 / unit.loads_per_cycle
    return steps * step + rows * columns * store_cycles


def accumulator_sets(sums: int, room: int) -> int:
    """Count the sets of accumulators that steps of depth take in turn on a vector unit.

    Eight sums at least are kept going at once, as that hides the latency of an addition, where
    so many registers have room.
    """
    sets = 1
    while sets * sums < _FEWEST_SUMS and 2 * sets * sums <= room:
        sets *= 2
    return sets


def _ops(unit: Unit) -> int:
    """Count the operations of one product instruction."""
    if unit.kind == "matrix":
        return 2 * TILE_ROWS * TILE_ROWS * (_TILE_ROW_BYTES * 8 // unit.precision.bits)
    return 2 * unit.lanes * unit.depth


def _weight_register_bytes(unit: Unit) -> int:
    if unit.kind == "matrix":
        return TILE_ROWS * _TILE_ROW_BYTES
    return unit.lanes * unit.depth * unit.precision.bits // 8


def _busy_share(tile: Tile, row_blocks: int, vectors: int) -> float:
    """The kernel deals out whole blocks: the busiest thread sets the time."""
    if tile.threads == 1:
        return 1.0
    if tile.split == "m":
        return math.ceil(row_blocks / tile.threads) / row_blocks
    share = math.ceil(math.ceil(vectors / tile.threads) / tile.columns) * tile.columns
    return min(1.0, share / vectors)
