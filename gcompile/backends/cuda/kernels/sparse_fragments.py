"""Fragments of weights of which two in four are stored, and of rows to multiply by them.

`mma.sp` wants the sparse operand on the left: a warp multiplies 16 columns of the product, the
weights, by eight of its rows, so that sums lie transposed. What says which weights were kept lies
behind them in each stage, as lanes read it.
"""

from __future__ import annotations

from dataclasses import dataclass

from gcompile.backends.cuda.kernels.block_tile import CHUNK_BYTES
from gcompile.backends.cuda.kernels.copies import Copies
from gcompile.backends.cuda.kernels.fragments import WARP_COLUMN, WARP_ROW, lane_place
from gcompile.backends.cuda.kernels.swizzle import shared_address
from gcompile.backends.cuda.program.instruction import Instruction, SparseInstruction
from gcompile.backends.cuda.program.matrix_statements import LoadMatrix, MultiplySparse
from gcompile.backends.cuda.program.program import (
    LANE,
    For,
    Let,
    LoadShared,
    Registers,
    Set,
    Statement,
)
from gcompile.backends.cuda.program.scalar import (
    Scalar,
    register,
    variable,
)


@dataclass(frozen=True)
class SparseFragments:
    """What a warp multiplies. Two steps of 64 bytes of depth, 32 of weights, have registers."""

    instruction: Instruction
    copies: Copies

    @property
    def sparse(self) -> SparseInstruction:
        """What multiplies."""
        return SparseInstruction(self.instruction)

    @property
    def steps(self) -> int:
        """Steps of a stage."""
        return self.copies.tile.depth_bytes // self.sparse.depth_bytes

    @property
    def _counts(self) -> tuple[int, int]:
        """Fragments of a warp: of weights, and of rows."""
        tile = self.copies.tile
        return tile.warp_columns // self.sparse.rows, tile.warp_rows // self.sparse.columns

    @property
    def _words(self) -> int:
        return self.copies.tile.metadata_words

    def registers(self) -> list[Statement]:
        """Declare those of the sums, which begin at zero, and of the fragments."""
        weights, rows = self._counts
        return [
            Registers("sums", self.instruction.sums, 4 * weights * rows, zero=True),
            Registers("left", "uint32", 2 * 4 * weights),
            Registers("right", "uint32", 2 * 4 * rows),
            Registers("kept", "uint32", self._words * weights),
            Registers("next_kept", "uint32", self._words * weights),
        ]

    def prepare(self) -> list[Statement]:
        """Find once where each lane reads within a stage."""
        tile = self.copies.tile
        weight_row, weight_chunk = lane_place(self.instruction.left_parts)
        at_weights = WARP_COLUMN * tile.weights_bytes + tile.rows * tile.depth_bytes
        at_kept = tile.stage_bytes - tile.metadata_bytes
        result: list[Statement] = [
            Let("a_lane_row", weight_row),
            Let("b_lane_row", LANE & 7),
            Let("lane_kept", (WARP_COLUMN // 16 * 32 + LANE) * (4 * self._words) + at_kept),
        ]
        for part in range(self.steps):
            for name, chunk, row_bytes, first in (
                ("a", weight_chunk + part * (32 // CHUNK_BYTES), tile.weights_bytes, at_weights),
                (
                    "b",
                    (LANE >> 3) + part * (64 // CHUNK_BYTES),
                    tile.depth_bytes,
                    WARP_ROW * tile.depth_bytes,
                ),
            ):
                address = shared_address(variable(f"{name}_lane_row"), chunk, row_bytes)
                result.append(Let(f"{name}_fragment{part}", address + first))
        return result

    def advance(self) -> list[Statement]:
        """Take what was loaded of the stage that begins."""
        i = variable("i")
        take = Set(register("kept", i, "uint32"), register("next_kept", i, "uint32"))
        return [For("i", self._words * self._counts[0], (take,), unrolled=True)]

    def load(self, part: int, stage_bytes: Scalar) -> list[Statement]:
        """Load the fragments of one step into the half of the registers that it uses."""
        half, tile, i = part % 2, self.copies.tile, variable("i")
        weights, rows = self._counts
        result: list[Statement] = []
        for name, side, count, pitch in (
            ("a", "left", weights, 16 * tile.weights_bytes),
            ("b", "right", rows, 8 * tile.depth_bytes),
        ):
            targets = tuple(
                register(side, i * 4 + (half * 4 * count + r), "uint32") for r in range(4)
            )
            address = variable(f"{name}_fragment{part}") + i * pitch + stage_bytes
            result.append(For("i", count, (LoadMatrix(targets, address),), unrolled=True))
        return [*result, self._load_kept(stage_bytes)] if part == 0 else result

    def _load_kept(self, stage_bytes: Scalar) -> Statement:
        i, words = variable("i"), self._words
        targets = tuple(register("next_kept", i * words + w, "uint32") for w in range(words))
        address = variable("lane_kept") + i * (32 * 4 * words) + stage_bytes
        load = LoadShared(targets, address)
        return For("i", self._counts[0], (load,), unrolled=True)

    def multiply(self, part: int) -> list[Statement]:
        """Add the products of one step."""
        half, i, j = part % 2, variable("i"), variable("j")
        weights, rows = self._counts
        selectors = self.sparse.selectors
        word = i * self._words + part // selectors
        product = MultiplySparse(
            self.sparse,
            tuple(
                register("sums", (i * rows + j) * 4 + r, self.instruction.sums) for r in range(4)
            ),
            tuple(register("left", i * 4 + (half * 4 * weights + r), "uint32") for r in range(4)),
            tuple(register("right", j * 4 + (half * 4 * rows + r), "uint32") for r in range(4)),
            register("kept", word, "uint32"),
            part % selectors,
        )
        inner = For("j", rows, (product,), unrolled=True)
        return [For("i", weights, (inner,), unrolled=True)]
