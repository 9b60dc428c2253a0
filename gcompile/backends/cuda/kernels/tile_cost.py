"""What a product costs on a GPU when it is cut into blocks in one way.

A multiprocessor works on its blocks in turns of as many as it holds at once:

    t(turn) = latency + stages · max(tensor cores, shared memory, second level, latency / ahead)
    t = max(turns · t(turn), blocks · stages · max(rates), second level, main memory) + launch
    E = issued operations · e_op + sum over levels of bytes · e_byte + launches · e_launch + P · t

A block alone keeps as many of the four tensor cores busy as it has warps. The bytes of the levels
are those the kernel moves: fragments from shared memory, rows and columns of every block from the
second level, every operand once from main memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from gcompile.backends.cuda.kernel import Traffic
from gcompile.backends.cuda.kernels.block_tile import BlockTile
from gcompile.backends.cuda.kernels.processor import Processor
from gcompile.backends.cuda.program.instruction import Instruction
from gcompile.errors import TargetError
from gcompile.ir import Contraction
from gcompile.targets import Target, Unit

_TENSOR_CORES = 4
"""Of a multiprocessor, one for each scheduler of warps."""

_WINDOW_REGISTERS, _ROW_REGISTERS, _ROUNDING_REGISTERS, _OTHER_REGISTERS = 3, 1, 8, 32
"""Registers per row that a thread copies, from windows and from matrices, those that rounding to
tf32 takes, and all others; read from compiled kernels."""

_SHARED_REGISTERS = 16
"""Of the others, those that what comes through registers leaves free; read from the same."""

_SPARSE_REGISTERS = 10
"""Others that sparse weights take besides; read from the same."""

_UNITS = {"f16": ("fp16", 1.0), "bf16": ("bf16", 1.0), "tf32": ("bf16", 0.5)}
"""The unit that runs an element type, and its share of that unit's rate; the rest is int8's."""


@dataclass(frozen=True, slots=True)
class Work:
    """The product that is cut.

    Attributes:
        contraction: One product of the batch.
        batch: How many there are.
        instruction: Gives the element types.
        out_bytes: Bytes of the output and of what is read with it, per element of the output.
        is_depth_first: The right operand lies row by row of its depth, which panels of 32 columns
            are brought from, and which groups of warps do not read.
        is_sparse: Of every four weights two are stored.
    """

    contraction: Contraction
    batch: int
    instruction: Instruction
    out_bytes: float
    is_depth_first: bool = False
    is_sparse: bool = False

    @property
    def is_window(self) -> bool:
        """Rows are windows of an image, whose addresses take more registers."""
        c = self.contraction
        return (c.kernel_h, c.kernel_w, c.stride_h, c.stride_w) != (1, 1, 1, 1) or any(c.pads)

    @property
    def weight_bytes(self) -> float:
        """Of a product's weights in memory, and of the two bits for each one that is kept."""
        count, size = self.contraction.weight_count, self.instruction.element_bytes
        return count * size / 2 + count / 8 if self.is_sparse else float(count * size)


@dataclass(frozen=True, slots=True)
class TileCost:
    """The price of one way.

    Attributes:
        time_s: Seconds, launches included.
        energy_j: Joules, static power included.
        blocks: Blocks of the grid.
        resident: Blocks that a multiprocessor holds at once.
    """

    time_s: float
    energy_j: float
    blocks: int
    resident: int


def unit_of(instruction: Instruction, target: Target) -> tuple[Unit, float]:
    """The target's unit for the instruction, and the share of its rate that the type reaches.

    Raises:
        TargetError: The target has no such tensor cores.
    """
    precision, share = _UNITS.get(instruction.left, ("int8", 1.0))
    unit = target.unit_named(f"tensor-core-{precision}")
    if unit is None:
        raise TargetError(f"{target.name} has no tensor cores for {instruction.left}.")
    return unit, share


def registers_of(work: Work, tile: BlockTile) -> int:
    """Estimate the registers of a thread."""
    copies = tile.depth_bytes / 16 / tile.threads
    rows = math.ceil(tile.rows * copies) * (
        _WINDOW_REGISTERS if work.is_window else _ROW_REGISTERS
    )
    columns = math.ceil(tile.columns * copies) * _ROW_REGISTERS
    rounding = _ROUNDING_REGISTERS if work.instruction.left == "tf32" else 0
    other = _OTHER_REGISTERS - (_SHARED_REGISTERS if tile.by_registers else 0)
    other += _SPARSE_REGISTERS if tile.sparse else 0
    return tile.registers(work.instruction) + rows + columns + rounding + other


def traffic_of(work: Work, tile: BlockTile) -> Traffic:
    """Count what the blocks of a product move; sums of a split depth not yet.

    Past the edges of the product and of an image zeros are put in shared memory, and none is read.
    """
    c, size = work.contraction, work.instruction.element_bytes
    stages = math.ceil(math.ceil(c.k * size / tile.depth_bytes) / tile.split)
    rows, columns = math.ceil(c.m / tile.rows), math.ceil(c.n / tile.columns)
    filled = rows * columns * work.batch * tile.split * stages
    outputs = c.m * c.n * work.batch * work.out_bytes
    kept = _column_bytes(tile) / tile.depth_bytes
    read = (columns * c.m * share_inside(c) + rows * c.n * kept) * c.k * size * work.batch
    return Traffic(filled * _fragment_bytes(tile) + outputs, read + outputs)


@lru_cache(maxsize=1024)
def share_inside(c: Contraction) -> float:
    """The share of the elements of all windows that lie inside the image."""
    high = _inside(c.out_h, c.kernel_h, c.stride_h, c.dilation_h, c.pad_top, c.in_h)
    wide = _inside(c.out_w, c.kernel_w, c.stride_w, c.dilation_w, c.pad_left, c.in_w)
    return high * wide


def _inside(outputs: int, kernel: int, stride: int, dilation: int, pad: int, size: int) -> float:
    """The same along one axis."""
    at = (o * stride + k * dilation - pad for o in range(outputs) for k in range(kernel))
    return sum(0 <= place < size for place in at) / (outputs * kernel)


def _fragment_bytes(tile: BlockTile) -> float:
    """What the warps of a block read of one stage, or their groups of four."""
    readers = tile.threads / (128 if tile.by_groups else 32)
    read_rows = 64 if tile.by_groups else tile.warp_rows
    rows = read_rows * tile.depth_bytes
    return (rows + tile.warp_columns * _column_bytes(tile)) * readers


def _column_bytes(tile: BlockTile) -> int:
    """What is stored of one column of weights in one stage."""
    return tile.weights_bytes + tile.metadata_bytes // tile.columns


def tile_cost(
    work: Work, tile: BlockTile, processor: Processor, target: Target
) -> TileCost | None:
    """Price one tile; None where no block fits a multiprocessor.

    Of sparse weights those are priced that are stored: half the operations, at the unit's rate for
    them, and half the bytes.
    """
    resident = processor.resident(tile.threads, registers_of(work, tile), tile.shared_bytes)
    if not resident:
        return None
    c, size = work.contraction, work.instruction.element_bytes
    unit, share = unit_of(work.instruction, target)
    depth_stages = math.ceil(c.k * size / tile.depth_bytes)
    stages = math.ceil(depth_stages / tile.split)
    rows, columns = math.ceil(c.m / tile.rows), math.ceil(c.n / tile.columns)
    blocks = rows * columns * work.batch * tile.split
    shared_level, l2, dram = target.memories

    per_clock = target.processors * target.clock_hz
    reached = unit.efficiency * (1.0 if tile.by_groups else processor.mma_share)
    peak = unit.sparse_ops_per_s / 2 if work.is_sparse else unit.peak_ops_per_s
    rate = peak * share * reached / per_clock
    stage_ops = 2.0 * tile.rows * tile.columns * tile.weights_bytes / size
    fragment_bytes = _fragment_bytes(tile)
    tensor = stage_ops / rate
    shared = (fragment_bytes + tile.stage_bytes) / processor.shared_bytes_per_clock
    copied = tile.stage_bytes / (l2.bandwidth(1, 1) / per_clock)
    alone = max(
        tensor * max(1.0, _TENSOR_CORES * 32 / tile.threads),
        shared,
        copied,
        processor.latency_clocks / (tile.stages - (2 if tile.by_groups else 1)),
    )
    sum_bytes = 4.0 if tile.split > 1 else work.out_bytes
    stored = tile.rows * tile.columns * sum_bytes / (l2.bandwidth(1, 1) / per_clock)
    of_one = math.ceil(blocks / target.processors)
    turns = math.ceil(of_one / resident)
    busy = max(
        turns * (2 * processor.latency_clocks + stages * alone + stored),
        of_one * (stages * max(tensor, shared, copied) + stored),
    )

    outputs = c.m * c.n * work.batch
    moved = traffic_of(work, tile)
    l2_bytes = moved.l2_bytes
    sums_bytes = 2.0 * 4 * outputs * tile.split if tile.split > 1 else 0.0
    image_bytes = c.batch * c.in_h * c.in_w * c.in_c * work.batch * size
    dram_bytes = image_bytes + work.weight_bytes + outputs * work.out_bytes
    launches = 2 if tile.split > 1 else 1
    adding_s = sums_bytes / l2.bandwidth(1, 1) + processor.latency_clocks / target.clock_hz
    time_s = (
        max(
            busy / target.clock_hz,
            l2_bytes / l2.bandwidth(1, 1),
            dram_bytes / dram.bandwidth(1, 1),
        )
        + (adding_s if tile.split > 1 else 0.0)
        + launches * target.launch_s
    )
    energy_j = (
        blocks * stages * stage_ops * unit.op_j / share
        + (moved.shared_bytes + blocks * stages * tile.stage_bytes) * shared_level.byte_j
        + (l2_bytes + sums_bytes) * l2.byte_j
        + dram_bytes * dram.byte_j
        + launches * target.launch_j
        + target.static_w * time_s
    )
    return TileCost(time_s, energy_j, blocks, resident)
