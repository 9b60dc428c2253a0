"""The copies of what says which weights were kept, for products with sparse weights."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gcompile.backends.cuda.kernels.block_tile import CHUNK_BYTES, BlockTile
from gcompile.backends.cuda.kernels.transfer import WORD_BYTES
from gcompile.backends.cuda.program.program import (
    THREAD,
    Buffer,
    CopyAsync,
    For,
    If,
    Let,
    Statement,
)
from gcompile.backends.cuda.program.scalar import Scalar, less, variable


@dataclass(frozen=True, slots=True)
class MetadataCopies:
    """Words of a stage of a block, which lie side by side.

    Attributes:
        buffer: Words (stages, blocks along the columns, words of a block and stage).
        columns: Blocks along the columns.
    """

    buffer: Buffer
    columns: int

    def ask(
        self, tile: BlockTile, stage: Scalar, first_column: Scalar, at: Scalar
    ) -> list[Statement]:
        """Start the copies of one stage.

        Args:
            tile: How the product is cut.
            stage: Of the whole depth.
            first_column: Of the block.
            at: Where they go in shared memory.
        """
        units = tile.metadata_bytes // CHUNK_BYTES
        unit = variable("unit")
        block = stage * self.columns + first_column // tile.columns
        index = block * (tile.metadata_bytes // WORD_BYTES) + unit * (CHUNK_BYTES // WORD_BYTES)
        copy: Statement = CopyAsync(at + unit * CHUNK_BYTES, self.buffer, index, CHUNK_BYTES)
        if units % tile.threads:
            copy = If(less(unit, units), (copy,))
        body = (Let("unit", THREAD + variable("i") * tile.threads), copy)
        return [For("i", math.ceil(units / tile.threads), body, unrolled=True)]
