"""The rows of left operands, where units can read them.

Units read rows where they lie. Rows whose depth is no whole number of groups are copied to where
zeros can follow them, and bytes with a sign to where they can be raised by 128.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm.tirx import Buffer, Expr
from tvm.tirx.script import builder as T

from gcompile.backends.tvm.kernels.amx_tiles import depth_tile_bytes, pixels_per_tile
from gcompile.backends.tvm.kernels.function import scratch
from gcompile.backends.tvm.kernels.lanes import Lanes, for_each_vector
from gcompile.backends.tvm.kernels.matrices import Matrices, Matrix
from gcompile.backends.tvm.kernels.pixels import Pixels
from gcompile.backends.tvm.kernels.spec import Image
from gcompile.backends.tvm.kernels.units import Unit
from gcompile.ir.contraction import Contraction
from gcompile.ir.tile import Tile


def padded_depth(unit: Unit, depth: int) -> int:
    """The depth that is computed: whole groups, and where tiles would be narrow, whole tiles."""
    padded = -(-depth // unit.group) * unit.group
    size = padded * 4 // unit.group
    if unit.is_tiled and size > 64 and depth_tile_bytes(size) < 32:
        return -(-size // 64) * 64 * unit.group // 4
    return padded


def whole_steps(unit: Unit, depth: int) -> int:
    """The depth that is computed where products of several depths share tile registers.

    Whole groups, on tile units whole tiles.
    """
    step = unit.depth_step
    return -(-depth // step) * step


@dataclass(frozen=True, slots=True)
class LeftRows:
    """Left operands of one shape, read one after the other.

    Attributes:
        line: What the unit reads: the operands' tensor, or the copy of one of them.
        depth: Elements of a row that are read.
        copied: `line` is a copy.
    """

    matrices: Matrices
    unit: Unit
    line: Buffer
    depth: int
    copied: bool

    @classmethod
    def of(
        cls, matrices: Matrices, unit: Unit, tensor: Buffer, depth: int | None = None
    ) -> LeftRows:
        """Take memory for a copy where one is needed, of rows with `depth` elements if given."""
        depth = depth or padded_depth(unit, matrices.columns)
        if depth == matrices.columns and matrices.image.dtype != "int8":
            return cls(matrices, unit, tensor, depth, False)
        dtype = "uint16" if unit.x_dtype == "bfloat16" else unit.x_dtype
        return cls(matrices, unit, scratch(matrices.rows * depth, dtype), depth, True)

    @property
    def pitch(self) -> int:
        """Elements from one row to the next, as the unit reads them."""
        return self.depth if self.copied else self.matrices.strides[2]

    def pixels(self, tile: Tile) -> Pixels:
        """The rows of one operand, in the blocks of a tile."""
        m, dtype = self.matrices.rows, self.unit.x_dtype
        rows = pixels_per_tile(m, tile.flat) if self.unit.is_tiled else tile.rows
        contraction = Contraction.matmul(m, self.pitch, 1)
        image = Image(1, 1, m, self.pitch, dtype)
        return Pixels(contraction, image, min(rows, m), tile.flat)

    def place(self, matrix: Matrix) -> Expr:
        """Index in `line` of an operand's first element; copies it first where that is needed."""
        if not self.copied:
            return matrix.start
        width = self.unit.lanes * self.unit.group
        with T.serial(matrix.rows) as row:

            def copy(offset: Expr, lanes: Lanes) -> None:
                stored = matrix.vector(row, offset, lanes)
                if matrix.buffer.dtype == "int8":
                    stored = lanes.reinterpret("uint8", stored) ^ lanes.splat(128, "uint8")
                T.buffer_store(self.line, stored, [lanes.index(row * self.depth + offset)])

            def clear(offset: Expr, lanes: Lanes) -> None:
                index = lanes.index(row * self.depth + matrix.columns + offset)
                T.buffer_store(self.line, lanes.splat(0, self.line.dtype), [index])

            for_each_vector(matrix.columns, width, copy)
            for_each_vector(self.depth - matrix.columns, width, clear)
        return 0
