"""What becomes of the sums of a product: they are brought into order, finished and stored.

Where the depth is split, the sums of each share are stored as they are, and a second program adds
them, always in the same order, and finishes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from gcompile.backends.cuda.kernels.copies import FIRST_COLUMN, FIRST_ROW
from gcompile.backends.cuda.kernels.epilogue import pieces
from gcompile.backends.cuda.kernels.fragments import WARP_COLUMN, WARP_ROW
from gcompile.backends.cuda.kernels.operands import BATCH
from gcompile.backends.cuda.program.program import (
    BLOCK_X,
    BLOCK_Z,
    LANE,
    THREAD,
    WARP,
    For,
    If,
    Let,
    LoadGlobal,
    LoadShared,
    Program,
    Registers,
    Set,
    Statement,
    StoreGlobal,
    StoreShared,
    WarpBarrier,
)
from gcompile.backends.cuda.program.scalar import (
    Scalar,
    apply,
    both,
    less,
    register,
    variable,
)

if TYPE_CHECKING:
    from gcompile.backends.cuda.kernels.product import Product

_WIDEST = 8
"""Elements of the output that one thread handles together."""

_ADDING_THREADS = 128

_FEW_PASSES = 4
"""Passes of the exchange that are unrolled; more there are only for odd numbers of channels."""


def written(product: Product) -> list[Statement]:
    """Bring 16 rows of a warp's sums at a time into order through shared memory, and go on.

    Lanes hold two sums of a row, too few to store at once; after the exchange they hold up to
    eight. The memory is that of the operands, which no one needs any more.
    """
    tile, sums = product.tile, product.instruction.sums
    width = math.gcd(product.contraction.n, _WIDEST)
    vectors = tile.warp_columns // width
    i, unit = variable("i"), variable("unit")
    staging = WARP * (16 * tile.staging_pitch)
    row, column = unit // vectors, unit % vectors * width
    address = staging + row * tile.staging_pitch + column * 4
    body = [
        Let("unit", LANE + variable("pass") * 32),
        Let("row", FIRST_ROW + WARP_ROW + i * 16 + row),
        Let("column", FIRST_COLUMN + WARP_COLUMN + column),
        Registers("sum", sums, width),
        *(
            LoadShared(tuple(register("sum", s + r, sums) for r in range(w)), address + s * 4)
            for s, w in pieces(width, 4)
        ),
        *_where_it_exists(product, _store(product, width)),
    ]
    passes = 16 * vectors // 32
    exchange: list[Statement] = [
        WarpBarrier(),
        _staged_transposed(product, staging) if tile.sparse else _staged(product, staging),
        WarpBarrier(),
        For("pass", passes, tuple(body), unrolled=passes <= _FEW_PASSES),
    ]
    return [For("i", tile.warp_rows // 16, tuple(exchange), unrolled=True)]


def _staged(product: Product, staging: Scalar) -> Statement:
    """Store what lanes hold of 16 rows: two sums of a row, and of the row eight below."""
    tile, sums = product.tile, product.instruction.sums
    i, j, columns = variable("i"), variable("j"), tile.warp_columns // 8
    lane_row = staging + (LANE >> 2) * tile.staging_pitch + (LANE & 3) * 8
    stores = tuple(
        StoreShared(
            lane_row + j * 32 + half * 8 * tile.staging_pitch,
            tuple(
                register("sums", (i * columns + j) * 4 + r, sums) for r in (2 * half, 2 * half + 1)
            ),
        )
        for half in (0, 1)
    )
    return For("j", columns, stores, unrolled=True)


def _staged_transposed(product: Product, staging: Scalar) -> Statement:
    """The same of sums whose rows are columns of the product, as sparse weights give them."""
    tile, sums = product.tile, product.instruction.sums
    i, j, rows = variable("i"), variable("j"), tile.warp_rows // 8
    lane_row = staging + (LANE & 3) * (2 * tile.staging_pitch) + (LANE >> 2) * 4
    stores = tuple(
        StoreShared(
            lane_row + j * 64 + ((8 * half + r % 2) * tile.staging_pitch + r // 2 * 32),
            (register("sums", (j * rows + i * 2 + half) * 4 + r, sums),),
        )
        for half in (0, 1)
        for r in range(4)
    )
    return For("j", tile.warp_columns // 16, stores, unrolled=True)


def adding(product: Product) -> Program:
    """Add the shares of the depth, in order, and evaluate the epilogue."""
    c, sums = product.contraction, product.instruction.sums
    width = math.gcd(c.n, 4)
    count = product.batch * c.m * c.n // width
    source = replace(product.shares, written=False)
    unit, part = variable("unit"), variable("part")
    line, column = unit // (c.n // width), unit % (c.n // width) * width
    index = ((BATCH * product.tile.split + part) * c.m + variable("row")) * c.n + column
    values = [register("sum", i, sums) for i in range(width)]
    loaded = tuple(register("loaded", i, sums) for i in range(width))
    add = "add" if sums == "int32" else "fadd"
    body = [
        Let("batch", line // c.m),
        Let("row", line % c.m),
        Registers("sum", sums, width, zero=True),
        Registers("loaded", sums, width),
        For(
            "part",
            product.tile.split,
            (
                LoadGlobal(loaded, source, index),
                *(Set(s, apply(add, s, v)) for s, v in zip(values, loaded, strict=True)),
            ),
            unrolled=product.tile.split <= _WIDEST,
        ),
        *product.epilogue.statements(product.place(variable("row"), column, BATCH), values),
    ]
    return Program(
        f"{product.name}_add",
        (source, *product.epilogue.read, product.epilogue.written),
        (math.ceil(count / _ADDING_THREADS), 1, 1),
        _ADDING_THREADS,
        0,
        (
            Let("unit", BLOCK_X * _ADDING_THREADS + THREAD),
            If(less(unit, count), tuple(body)),
        ),
    )


def _where_it_exists(product: Product, body: Sequence[Statement]) -> Sequence[Statement]:
    c, tile = product.contraction, product.tile
    condition = both(
        less(variable("row"), c.m) if c.m % tile.rows else None,
        less(variable("column"), c.n) if c.n % tile.columns else None,
    )
    return body if condition is None else [If(condition, tuple(body))]


def _store(product: Product, width: int) -> list[Statement]:
    row, column = variable("row"), variable("column")
    sums = product.instruction.sums
    if product.tile.split == 1:
        values = [register("sum", i, sums) for i in range(width)]
        return product.epilogue.statements(product.place(row, column, BATCH), values)
    index = (BLOCK_Z * product.contraction.m + row) * product.contraction.n + column
    return [
        StoreGlobal(
            product.shares,
            index + start,
            tuple(register("sum", start + i, sums) for i in range(w)),
        )
        for start, w in pieces(width, 4)
    ]
