"""The copies of both operands of a block from global to shared memory, stage by stage."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gcompile.backends.cuda.kernels.block_tile import CHUNK_BYTES, BlockTile
from gcompile.backends.cuda.kernels.depth_rows import DepthRows
from gcompile.backends.cuda.kernels.metadata_copies import MetadataCopies
from gcompile.backends.cuda.kernels.operands import OperandRows
from gcompile.backends.cuda.kernels.swizzle import shared_address
from gcompile.backends.cuda.kernels.transfer import WORD_BYTES, Transfer, Unit, ask, fetch, put
from gcompile.backends.cuda.program.program import THREAD, For, If, Let, Registers, Statement
from gcompile.backends.cuda.program.scalar import Scalar, constant, less, variable

FIRST_ROW, FIRST_COLUMN = variable("first_row"), variable("first_column")
FIRST_DEPTH = variable("first_depth")
"""Where the block begins; `first_depth` in elements."""

_REPEAT = 8
"""Rows after which the places of chunks repeat."""


@dataclass(frozen=True)
class Copies:
    """What a block copies.

    In a stage, the rows of the left operand come first, the columns of the right one after them.

    Attributes:
        element_bytes: Bytes of one element of either operand.
        left: Rows of the product.
        right: Columns of the product, each with its depth side by side; or rows of its depth.
        metadata: What says which of the columns' elements are stored, unless all are.
    """

    element_bytes: int
    tile: BlockTile
    left: OperandRows
    right: OperandRows | DepthRows
    metadata: MetadataCopies | None = None

    @property
    def stages(self) -> int:
        """Stages of depth that one block walks."""
        depth_bytes = self.left.depth * self.element_bytes
        return math.ceil(math.ceil(depth_bytes / self.tile.depth_bytes) / self.tile.split)

    @property
    def stage_depth(self) -> int:
        """Elements of depth in one stage."""
        return self.tile.depth_bytes // self.element_bytes

    def prepare(self) -> list[Statement]:
        """Find once which rows and which part of the depth each thread copies."""
        result: list[Statement] = []
        for name, operand, first, rows, row_bytes in self._sides():
            units = row_bytes // operand.unit_bytes
            result.append(Let(f"{name}_row", THREAD // units))
            result.append(Let(f"{name}_unit", THREAD % units * operand.unit_bytes))
            mine = [
                first + variable(f"{name}_row") + i for i in self._passes(operand, rows, row_bytes)
            ]
            result += operand.prepare(name, mine, operand.rows % rows != 0)
        return result

    def ask(self, step: Scalar, stage: Scalar) -> list[Statement]:
        """Start the copies of a step of the depth into a stage."""
        return self._transfer(ask, step, stage)

    def words(self) -> list[Statement]:
        """Declare the registers that a stage passes through."""
        result: list[Statement] = []
        for name, operand, _, rows, row_bytes in self._sides():
            count = len(self._passes(operand, rows, row_bytes)) * operand.unit_bytes // WORD_BYTES
            result.append(Registers(f"{name}_words", "uint32", count))
        if isinstance(self.right, DepthRows):
            count = self.right.passes(self.tile) * self.right.unit_bytes // WORD_BYTES
            result.append(Registers("b_words", "uint32", count))
        return result

    def fetch(self, step: Scalar) -> list[Statement]:
        """Load a step of the depth into the registers."""
        return self._transfer(fetch, step, constant(0))

    def put(self, stage: Scalar) -> list[Statement]:
        """Store the registers into a stage."""
        return self._transfer(put, constant(0), stage)

    def _transfer(self, transfer: Transfer, step: Scalar, stage: Scalar) -> list[Statement]:
        result: list[Statement] = []
        depth = FIRST_DEPTH + step * self.stage_depth
        at = stage * self.tile.stage_bytes
        for name, operand, _, rows, row_bytes in self._sides():
            if transfer is not put:
                unit = variable(f"{name}_unit") // operand.buffer.element_bytes
                kept = self.tile.depth_bytes // row_bytes
                here = FIRST_DEPTH // kept + step * (self.stage_depth // kept)
                result += operand.step(name, (depth if kept == 1 else here) + unit)
            result += self._copy(transfer, name, operand, rows, row_bytes, at)
            at = at + rows * row_bytes
        if isinstance(self.right, DepthRows):
            result += self.right.transfer(transfer, self.tile, FIRST_COLUMN, depth, at)
        if self.metadata is not None:
            walked = variable("share") * self.stages + step
            result += self.metadata.ask(self.tile, walked, FIRST_COLUMN, at)
        return result

    def _sides(self) -> list[tuple[str, OperandRows, Scalar, int, int]]:
        """The operands whose depth lies side by side: their rows, and the bytes of each."""
        tile = self.tile
        left = ("a", self.left, FIRST_ROW, tile.rows, tile.depth_bytes)
        if isinstance(self.right, DepthRows):
            return [left]
        return [left, ("b", self.right, FIRST_COLUMN, tile.columns, tile.weights_bytes)]

    def _copy(
        self,
        transfer: Transfer,
        name: str,
        operand: OperandRows,
        rows: int,
        row_bytes: int,
        at: Scalar,
    ) -> list[Statement]:
        unit = variable(f"{name}_unit")
        walked = row_bytes // self.element_bytes * self.tile.split
        passes = self._passes(operand, rows, row_bytes)
        i = variable("i")
        slack, ragged = operand.rows % rows != 0, operand.depth % walked != 0
        index, condition = operand.place(name, i, slack, ragged)
        row = variable(f"{name}_row") + i * passes.step
        address = shared_address(row, unit // CHUNK_BYTES, row_bytes)
        if passes.step % _REPEAT == 0:  # All of the thread's rows keep their chunks in one place.
            first = shared_address(variable(f"{name}_row"), unit // CHUNK_BYTES, row_bytes)
            address = first + i * (passes.step * row_bytes)
        address = address + unit % CHUNK_BYTES if operand.unit_bytes < CHUNK_BYTES else address
        copy = transfer(
            Unit(name, address + at, operand.buffer, index, operand.unit_bytes, condition)
        )
        if rows % passes.step:
            copy = (If(less(row, rows), copy),)
        return [For("i", len(passes), copy, unrolled=True)]

    def _passes(self, operand: OperandRows, rows: int, row_bytes: int) -> range:
        """First rows of the passes in which the threads of a block cover `rows` rows."""
        units = row_bytes // operand.unit_bytes
        return range(0, rows, max(1, self.tile.threads // units))
