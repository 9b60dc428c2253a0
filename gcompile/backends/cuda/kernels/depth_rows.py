"""A right operand whose columns lie side by side in memory: (depth, columns), row by row.

It comes into shared memory as it lies; `ldmatrix` transposes its fragments, which it can for
elements of two bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from gcompile.backends.cuda.kernels.block_tile import CHUNK_BYTES, BlockTile
from gcompile.backends.cuda.kernels.operands import matrix_start, unit_bytes
from gcompile.backends.cuda.kernels.swizzle import panel_address
from gcompile.backends.cuda.kernels.transfer import Transfer, Unit
from gcompile.backends.cuda.program.program import (
    THREAD,
    Buffer,
    For,
    If,
    Let,
    Statement,
)
from gcompile.backends.cuda.program.scalar import Scalar, both, less, variable

ELEMENT_BYTES = 2


@dataclass(frozen=True, slots=True)
class DepthRows:
    """The rows of matrices (depth, columns).

    Attributes:
        columns: How many take part.
        depth: Rows that there are.
        pitch: Elements from one row to the next.
        batch_pitch: Elements from one run of heads to the next.
        heads: Matrices that lie in runs of so many, `head_pitch` elements apart.
    """

    buffer: Buffer
    columns: int
    depth: int
    pitch: int
    batch_pitch: int = 0
    heads: int = 1
    head_pitch: int = 0

    @property
    def unit_bytes(self) -> int:
        """Bytes of one copy; it must not reach from the columns into what is not part of them."""
        runs = self.columns, self.pitch, self.batch_pitch, self.head_pitch
        return unit_bytes(self.buffer, *runs)

    def passes(self, tile: BlockTile) -> int:
        """Units of a stage that one thread brings."""
        rows, units = tile.depth_bytes // ELEMENT_BYTES, tile.columns * ELEMENT_BYTES
        return -(-rows * (units // self.unit_bytes) // tile.threads)

    def transfer(
        self,
        transfer: Transfer,
        tile: BlockTile,
        first_column: Scalar,
        depth: Scalar,
        at: Scalar,
    ) -> list[Statement]:
        """Bring one stage.

        Args:
            transfer: What is done with each unit.
            tile: How the product is cut; its columns are a multiple of 32.
            first_column: Of the block.
            depth: Of the stage's first row.
            at: Where the operand's part of the stage begins in shared memory.
        """
        size = self.unit_bytes
        rows, units = tile.depth_bytes // ELEMENT_BYTES, tile.columns * ELEMENT_BYTES // size
        unit = variable("unit")
        row, byte = unit // units, unit % units * size
        column = first_column + unit % units * (size // ELEMENT_BYTES)
        address = at + byte % CHUNK_BYTES if size < CHUNK_BYTES else at
        address = address + panel_address(
            row, byte // CHUNK_BYTES, rows, tile.columns * ELEMENT_BYTES
        )
        start = matrix_start(self.heads, self.batch_pitch, self.head_pitch)
        exists = both(
            less(depth + row, self.depth) if self.depth % (rows * tile.split) else None,
            less(column, self.columns) if self.columns % tile.columns else None,
        )
        index = start + (depth + row) * self.pitch + column
        copy = transfer(Unit("b", address, self.buffer, index, size, exists))
        if rows * units % tile.threads:
            copy = (If(less(unit, rows * units), copy),)
        body = (Let("unit", THREAD + variable("i") * tile.threads), *copy)
        return [For("i", self.passes(tile), body, unrolled=True)]
