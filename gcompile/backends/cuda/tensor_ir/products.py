"""Sums of products of two tensors: which loops belong to which, and how they are cut into tiles.

    y[batch, row, column] = sum over depth of left[batch, row, depth] · right[batch, column, depth]

Convolutions, matrix products and what they are made of all have this form: a loop over the result
belongs to the rows where only the left factor depends on it, to the columns where only the right
one does, and to the batch otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from gcompile.backends.cuda.tensor_ir.nests import Loop, Nest, count, loads_of, variables_of

DEPTH = 16
"""Terms of the sums that a block brings into shared memory at once."""

_OWN = 4
"""Rows and columns of the result whose sums one thread keeps in registers; half in small tiles."""

_LARGE = 1024
"""Sums of a tile that gives two warps work even when each thread has many."""

_TILES = ((64, 64), (64, 32), (32, 64), (32, 32), (16, 32), (32, 16), (16, 16))
_FEWEST_LINES = 8
_ENOUGH_BLOCKS = 128
"""Blocks that give most processors of a large device one."""

_MOST_BATCHES = 65535


@dataclass(frozen=True)
class Side:
    """One factor.

    Attributes:
        name: What its part in shared memory is called.
        value: The factor.
        loops: Loops over the result that only it depends on.
        walks_depth: Neighbouring terms of its sums are neighbours in memory.
    """

    name: str
    value: Any
    loops: tuple[Loop, ...]
    walks_depth: bool


@dataclass(frozen=True)
class NestProduct:
    """A reduction that is a product."""

    nest: Nest
    left: Side
    right: Side
    batch: tuple[Loop, ...]

    @property
    def rows(self) -> int:
        """Of one product of the batch."""
        return count(self.left.loops)

    @property
    def columns(self) -> int:
        """Of one product of the batch."""
        return count(self.right.loops)

    @property
    def depth(self) -> int:
        """Terms of each sum."""
        return count(self.nest.reduced)


@dataclass(frozen=True)
class ProductTile:
    """The part of a product that one block computes.

    Attributes:
        rows: Rows of the result.
        columns: Columns of the result.
    """

    rows: int
    columns: int

    @property
    def own_rows(self) -> int:
        """Rows of one thread."""
        return _OWN if self.rows * self.columns >= _LARGE else _OWN // 2

    @property
    def own_columns(self) -> int:
        """Columns of one thread."""
        return self.own_rows

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.rows * self.columns // (self.own_rows * self.own_columns)

    def grid(self, product: NestProduct) -> tuple[int, int, int]:
        """Blocks along rows, columns and the batch."""
        rows, columns = -(-product.rows // self.rows), -(-product.columns // self.columns)
        return rows, columns, count(product.batch)

    def row(self) -> str:
        """The row of a thread's sum number (i, j); neighbouring threads have neighbouring rows."""
        side = self.rows // self.own_rows
        return f"blockIdx.x * {self.rows} + threadIdx.x % {side} + {side} * i"

    def column(self) -> str:
        """The column of a thread's sum number (i, j)."""
        side, other = self.columns // self.own_columns, self.rows // self.own_rows
        return f"blockIdx.y * {self.columns} + threadIdx.x / {other} + {side} * j"

    def multiply(self, dtype: str) -> list[str]:
        """Add the terms in shared memory to a thread's sums."""
        sides = self.rows // self.own_rows, self.columns // self.own_columns
        return [
            f"for (int depth = 0; depth < {DEPTH}; ++depth) {{",
            f"for (int i = 0; i < {self.own_rows}; ++i) {{",
            f"const {dtype} value = left[depth][threadIdx.x % {sides[0]} + {sides[0]} * i];",
            f"for (int j = 0; j < {self.own_columns}; ++j)",
            f"OWN(sums)[i * {self.own_columns} + j] += "
            f"value * right[depth][threadIdx.x / {sides[0]} + {sides[1]} * j];",
            "}",
            "}",
        ]


def product_of(nest: Nest) -> NestProduct | None:
    """Read a reduction as a product; None where it is none."""
    factors = _factors(nest)
    if factors is None or not nest.reduced:
        return None
    used = [_loops_used(factor, nest) for factor in factors]
    both = [loop for loop in nest.spatial if (loop in used[0]) == (loop in used[1])]
    own = [
        tuple(loop for loop in nest.spatial if loop in found and loop not in both)
        for found in used
    ]
    sides = [
        Side(name, factor, loops, _walks_depth(factor, loops, nest))
        for name, factor, loops in zip(("left", "right"), factors, own, strict=True)
    ]
    if _fastest(nest) in own[1]:
        # The rows are written side by side, so the loop that walks memory belongs to them.
        sides = [
            Side("left", factors[1], own[1], sides[1].walks_depth),
            Side("right", factors[0], own[0], sides[0].walks_depth),
        ]
    return NestProduct(nest, sides[0], sides[1], tuple(both))


def tile_for(product: NestProduct) -> ProductTile | None:
    """The largest tile that gives enough blocks, or the smallest; None where tiles do not pay."""
    if min(product.rows, product.columns) < _FEWEST_LINES or product.depth < DEPTH // 2:
        return None
    if count(product.batch) > _MOST_BATCHES:
        return None
    tiles = [
        ProductTile(rows, columns)
        for rows, columns in _TILES
        if rows < 2 * product.rows and columns < 2 * product.columns
    ] or [ProductTile(16, 16)]
    tiles = [tile for tile in tiles if tile.grid(product)[1] <= _MOST_BATCHES]
    for tile in tiles:
        if math.prod(tile.grid(product)) >= _ENOUGH_BLOCKS:
            return tile
    return tiles[-1] if tiles else None


def _factors(nest: Nest) -> tuple[Any, Any] | None:
    """The two factors of the terms of a sum that starts at zero."""
    store, init = nest.body, nest.init
    if not isinstance(store, tirx.BufferStore) or not isinstance(init, tirx.BufferStore):
        return None
    if not isinstance(store.value, tirx.Add) or not isinstance(init.value, tirx.FloatImm):
        return None
    if float(init.value.value) != 0.0 or str(store.buffer.dtype) != "float32":
        return None
    for total, term in ((store.value.a, store.value.b), (store.value.b, store.value.a)):
        is_total = hasattr(total, "source") and total.source.same_as(store.buffer)
        if is_total and isinstance(term, tirx.Mul):
            return term.a, term.b
    return None


def _loops_used(expression: Any, nest: Nest) -> list[Loop]:
    found = _loop_variables(expression, nest)
    return [loop for loop in nest.spatial if any(v.same_as(loop.variable) for v in found)]


def _loop_variables(expression: Any, nest: Nest) -> list[Any]:
    """The loop variables that an expression over the block's own variables depends on."""
    own = variables_of(expression)
    return [
        used
        for variable, value in nest.bindings
        if any(found.same_as(variable) for found in own)
        for used in variables_of(value)
    ]


def _walks_depth(factor: Any, loops: Sequence[Loop], nest: Nest) -> bool:
    """Whether the last index of a factor's tensor moves with the innermost reduced loop alone."""
    used = [
        variable
        for load in loads_of(factor)
        if load.indices
        for variable in _loop_variables(load.indices[-1], nest)
    ]
    last = nest.reduced[-1].variable
    is_shared = any(v.same_as(loop.variable) for v in used for loop in loops)
    return not is_shared and any(v.same_as(last) for v in used)


def _fastest(nest: Nest) -> Loop | None:
    """The loop along which the result's elements are neighbours in memory."""
    indices: Sequence[Any] = nest.body.indices
    if not indices:
        return None
    used = _loop_variables(indices[-1], nest)
    return next(
        (loop for loop in nest.spatial if any(v.same_as(loop.variable) for v in used)), None
    )
