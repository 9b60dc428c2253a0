"""The sums of the warps of a stored product: added in order, finished and written."""

from __future__ import annotations

import math

from gcompile.backends.cuda.kernels.epilogue import Epilogue, Place
from gcompile.backends.cuda.kernels.pack_stored import COLUMNS
from gcompile.backends.cuda.program.program import (
    LANE,
    THREAD,
    WARP,
    For,
    If,
    Let,
    LoadShared,
    Registers,
    Set,
    Statement,
    StoreShared,
)
from gcompile.backends.cuda.program.scalar import (
    Scalar,
    apply,
    both,
    less,
    register,
    variable,
)

PITCH = 20
"""Sums of one row of x in shared memory: 16, and four more so that lanes use all banks."""


def shared(rows: int) -> list[Statement]:
    """Each warp writes its sums: (warp, row of x, column).

    Args:
        rows: Runs of eight rows of x.
    """
    i = variable("i")
    row = i // 4 * 8 + (LANE & 3) * 2 + i % 2
    column = (LANE >> 2) + i // 2 % 2 * 8
    address = ((WARP * (8 * rows) + row) * PITCH + column) * 4
    store = StoreShared(address, (register("sums", i, "float32"),))
    return [For("i", 4 * rows, (store,), unrolled=True)]


def added(rows: int, warps: int, exists: Scalar | None, epilogue: Epilogue) -> list[Statement]:
    """Add the warps' sums in order, evaluate and store.

    Args:
        rows: Runs of eight rows of x.
        warps: Of a block.
        exists: Whether there is the element at `row` and `column`; None where all are.
        epilogue: What follows.
    """
    threads, count = 32 * warps, 8 * rows * COLUMNS
    unit, total = variable("unit"), register("total", 0, "float32")
    part = register("part", 0, "float32")
    row, column = variable("row"), variable("column")
    index = variable("source_warp") * (8 * rows) + unit // COLUMNS
    load = LoadShared((part,), (index * PITCH + unit % COLUMNS) * 4)
    exists = both(less(unit, count) if count % threads else None, exists)
    body: tuple[Statement, ...] = (
        Registers("total", "float32", 1, zero=True),
        Registers("part", "float32", 1),
        For(
            "source_warp",
            warps,
            (load, Set(total, apply("fadd", total, part))),
            unrolled=True,
        ),
        *epilogue.statements(Place(row, column), [total]),
    )
    return [
        For(
            "turn",
            math.ceil(count / threads),
            (
                Let("unit", variable("turn") * threads + THREAD),
                Let("row", variable("first_row") + unit // COLUMNS),
                Let("column", variable("first_column") + unit % COLUMNS),
                *(body if exists is None else (If(exists, body),)),
            ),
        )
    ]
