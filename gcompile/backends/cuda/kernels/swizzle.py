"""Where a stage of an operand lies in shared memory so that no bank is asked twice.

Rows of 64 or 128 bytes lie one after another. Their chunks of 16 bytes are exchanged among
themselves by the number of the row,

    place(row, chunk) = chunk xor (row / rows per 128 bytes) mod chunks,

so that the same chunk of eight consecutive rows, which is what `ldmatrix` reads at once, lies in
eight different places of the 128 bytes that the banks serve, and a copy of whole rows does too.
"""

from __future__ import annotations

from gcompile.backends.cuda.kernels.block_tile import CHUNK_BYTES
from gcompile.backends.cuda.program.scalar import Scalar, apply

_BANKS_BYTES = 128


def shared_address(row: Scalar, chunk: Scalar | int, row_bytes: int) -> Scalar:
    """The byte address of a chunk within its stage.

    Args:
        row: Row of the operand within the block.
        chunk: Number of the 16 bytes within the row.
        row_bytes: Depth of a stage: 64 or 128.
    """
    chunks = row_bytes // CHUNK_BYTES
    turn = (row // (_BANKS_BYTES // row_bytes)) % chunks
    place = turn ^ chunk if isinstance(chunk, int) else apply("xor", chunk, turn)
    return row * row_bytes + place * CHUNK_BYTES


def panel_bytes(row_bytes: int) -> int:
    """Width of the panels that rows longer than a stage is deep are cut into.

    Raises:
        ValueError: Rows are no multiple of 64 bytes.
    """
    if row_bytes % 64:
        raise ValueError("Rows in shared memory are multiples of 64 bytes.")
    return 128 if row_bytes % 128 == 0 else 64


def panel_address(row: Scalar, chunk: Scalar, rows: int, row_bytes: int) -> Scalar:
    """The byte address of a chunk of a long row: panels lie one after another, each swizzled.

    Args:
        row: Row of the operand within the block.
        chunk: Number of the 16 bytes within the row.
        rows: Rows of a panel.
        row_bytes: Of the whole row.
    """
    width = panel_bytes(row_bytes)
    chunks = width // CHUNK_BYTES
    within = shared_address(row, chunk % chunks, width)
    return within if width == row_bytes else within + chunk // chunks * (rows * width)
