"""How a block of threads cuts an implicit matrix product, and what that takes of a processor."""

from __future__ import annotations

from dataclasses import dataclass

from gcompile.backends.cuda.program.instruction import Instruction

CHUNK_BYTES = 16
"""What one lane gives to `ldmatrix`, and the most that one lane copies at once."""


@dataclass(frozen=True, slots=True)
class BlockTile:
    """The part of the product that one block computes, and how.

    Attributes:
        rows: Rows of the product in one block.
        columns: Columns of the product in one block.
        warp_rows: Rows of one warp.
        warp_columns: Columns of one warp.
        depth_bytes: Depth of one stage, in bytes of either operand.
        stages: Stages of shared memory; all but one are filled ahead.
        split: Blocks that share the depth of one part of the product; their sums are added by a
            second kernel.
        by_registers: Threads load a stage into registers while the one before is multiplied, as
            before sm_80.
        metadata_words: Of every four weights two are stored, and so many words of each lane say
            which, for 16 columns and a stage; 0 where all are stored.
        by_groups: Four warps multiply together (`wgmma`); a warp has 16 rows of theirs.
        group: Rows of blocks that run together, column by column, so that the second-level cache
            serves their weights.
    """

    rows: int
    columns: int
    warp_rows: int
    warp_columns: int
    depth_bytes: int = 64
    stages: int = 4
    split: int = 1
    group: int = 8
    by_groups: bool = False
    by_registers: bool = False
    metadata_words: int = 0

    def __post_init__(self) -> None:
        if self.rows % self.warp_rows or self.columns % self.warp_columns:
            raise ValueError("Whole warps cover a block.")
        if self.warp_rows % 16 or self.warp_columns % 16:
            raise ValueError("A warp has multiples of 16 rows and columns.")
        if self.by_groups and (self.warp_rows != 16 or self.rows % 64 or self.stages < 3):
            raise ValueError("Groups of four warps have 64 rows, and need three stages.")
        if self.by_registers and (self.by_groups or self.stages != 2):
            raise ValueError("What comes through registers has two stages.")
        if self.sparse and (self.by_groups or self.by_registers or self.depth_bytes != 128):
            raise ValueError("Stages of sparse weights are 128 bytes deep, and copied.")
        if self.depth_bytes not in (64, 128) or self.stages < 2 or self.split < 1:
            raise ValueError("A stage is 64 or 128 bytes deep, and there are two at least.")

    @property
    def warps(self) -> tuple[int, int]:
        """Warps along the rows and columns."""
        return self.rows // self.warp_rows, self.columns // self.warp_columns

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return 32 * self.warps[0] * self.warps[1]

    @property
    def stage_bytes(self) -> int:
        """Shared memory of one stage: both operands, and which weights were kept."""
        operands = self.rows * self.depth_bytes + self.columns * self.weights_bytes
        return operands + self.metadata_bytes

    @property
    def sparse(self) -> bool:
        """Whether two of every four weights are stored."""
        return self.metadata_words > 0

    @property
    def metadata_bytes(self) -> int:
        """What says in one stage which weights were kept."""
        return self.columns // 16 * 32 * 4 * self.metadata_words

    @property
    def weights_bytes(self) -> int:
        """Depth of one stage of the right operand, as it is stored."""
        return self.depth_bytes // 2 if self.sparse else self.depth_bytes

    @property
    def staging_pitch(self) -> int:
        """Bytes between two rows of sums on their way out.

        Eight banks more than the row, so that the four rows that store together use all banks; or
        four, where every second row of eight columns is stored together.
        """
        return 4 * self.warp_columns + (16 if self.sparse else 32)

    @property
    def shared_bytes(self) -> int:
        """Shared memory of a block; the sums on their way out use it after the operands."""
        staging = 16 * self.staging_pitch * (self.threads // 32)
        return max(self.stages * self.stage_bytes, staging)

    def fragments(self, instruction: Instruction) -> tuple[int, int]:
        """Instructions along the rows and columns of a warp."""
        return self.warp_rows // instruction.rows, self.warp_columns // instruction.columns

    def registers(self, instruction: Instruction) -> int:
        """Registers of a thread that hold sums, and two steps of operands unless by groups.

        Without copies past the registers, they hold the thread's part of a stage besides.
        """
        rows, columns = self.fragments(instruction)
        if self.by_groups:
            return rows * columns * len(instruction.sum_parts)
        operands = rows * len(instruction.left_parts) + columns * len(instruction.right_parts)
        if self.sparse:  # Eight rows by 64 bytes, 16 columns by 32, and words of metadata.
            operands = 4 * (self.warp_rows // 8 + self.warp_columns // 16)
            operands += self.warp_columns // 16 * self.metadata_words
        passing = self.stage_bytes // (4 * self.threads) if self.by_registers else 0
        return rows * columns * len(instruction.sum_parts) + 2 * operands + passing
