"""Attention as one kernel that never writes its scores.

    O = softmax(scale · Q Kᵀ + masks) V

A block of queries passes by the keys, one block of them after the other. What it keeps of all
keys before is the highest score m of each query, the sum l of the exponentials, and the values a
weighted by them; a block of keys with scores s changes them so (Milakov and Gimelshein, Online
normalizer calculation for softmax, 2018; Dao et al., FlashAttention, 2022):

    m' = max(m, max s)
    l' = l · e^(m - m') + Σ e^(s - m')
    a' = a · e^(m - m') + e^(s - m') V

and O = a / l in the end. Scores and exponentials of one block stay in the first-level cache.
Statistics are float32 whatever is multiplied.

Weights that the graph rounds to bytes are e^(s - m) / l of the last m and l, so that the block of
keys has all of them: its scores are found, made weights, rounded and multiplied row by row. Both
products are exact then, and the result is that of the graph.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

from tvm.tirx import Buffer, Expr, PrimFunc
from tvm.tirx.script import builder as T

from gcompile.backends.tvm.kernels.amx import refuses_tile
from gcompile.backends.tvm.kernels.amx_tiles import Issue, issue_instruction
from gcompile.backends.tvm.kernels.attention_operands import PackedHead
from gcompile.backends.tvm.kernels.attention_rows import BlockRows, Mask, Place
from gcompile.backends.tvm.kernels.function import (
    Argument,
    Code,
    Tensors,
    kernel_code,
    loop,
    share,
    tasks,
    view,
)
from gcompile.backends.tvm.kernels.left_rows import LeftRows, whole_steps
from gcompile.backends.tvm.kernels.matrices import Matrices, Matrix
from gcompile.backends.tvm.kernels.multiply import Multiply, multiplying_in_turn, unit_functions
from gcompile.backends.tvm.kernels.parts import Depth, Multiplication, Part
from gcompile.backends.tvm.kernels.spec import Accumulator, Image, Kernel, Output
from gcompile.backends.tvm.kernels.units import Unit, unit_named
from gcompile.errors import CompileError
from gcompile.ir.tile import Tile

_NONE = Matrices(Image(1, 1, 1, 1), 1, 1)


@dataclass(frozen=True, slots=True)
class AttentionKernel(Kernel):
    """Attention of every head of every sequence. The expression is the bare `Accumulator`.

    The function's arguments are the images of queries, keys and values, the sources, which are
    the masks, and the output. All operands are of the unit's input type, or bytes.

    Attributes:
        queries: (queries, depth) matrices.
        keys: (keys, depth) matrices; fewer heads than those of the queries are each used by
            several in a row.
        values: (keys, columns) matrices, as many heads as `keys`.
        written: Where the (queries, columns) results lie in the output.
        scale: What scores, sums of products of what is stored, are multiplied by.
        zero_points: What stands for zero in bytes of queries, keys and values.
        weights: How weights are rounded to bytes, of which zero stands for zero; None where the
            unit multiplies floats.
        value_scale: What the sums of products of bytes of weights and values are multiplied by.
        masks: How each source changes the scaled scores, in order.
        causal: Keys that come after a query are hidden from it, where the last query is beside
            the last key. Then there are no masks.
        zero_if_hidden: Queries that see no key give zeros in place of NaN.
        tile: The unit, the register block of both products, and the threads.
        block: Queries of a block, a multiple of what `block_steps` says if more than these; and
            keys, a multiple of that.
    """

    queries: Matrices = _NONE
    keys: Matrices = _NONE
    values: Matrices = _NONE
    written: Matrices = _NONE
    scale: float = 1.0
    zero_points: tuple[int, int, int] = (0, 0, 0)
    weights: Output | None = None
    value_scale: float = 1.0
    masks: tuple[Mask, ...] = ()
    causal: bool = False
    zero_if_hidden: bool = False
    tile: Tile = Tile("generic", 1, 1)
    block: tuple[int, int] = (16, 16)

    @property
    def key_blocks(self) -> int:
        """Blocks of keys."""
        return -(-self.keys.rows // self.block[1])

    @property
    def query_blocks(self) -> int:
        """Blocks of the queries of one head."""
        return -(-self.queries.rows // self.block[0])


def block_steps(tile: Tile, unit: Unit) -> tuple[int, int]:
    """Queries and keys that blocks are cut in: register blocks and vectors, or tiles."""
    return (16, unit.depth_step) if unit.is_tiled else (tile.rows, unit.lanes)


def emit(kernel: AttentionKernel, name: str, issue: Issue = issue_instruction) -> PrimFunc:
    """Make a function of the kernel; see `code`."""
    return code(kernel, issue).function(name)


def code(kernel: AttentionKernel, issue: Issue = issue_instruction) -> Code:
    """Emit attention.

    Raises:
        CompileError: The unit cannot carry it, or the operands do not match.
        UnknownNameError: There is no such unit.
    """
    unit = unit_named(kernel.tile.unit)
    _check(kernel, unit)
    operands = (kernel.queries, kernel.keys, kernel.values)
    leading = [
        Argument.of_image(name, matrices.image)
        for name, matrices in zip(("queries", "keys", "values"), operands, strict=True)
    ]

    def body(buffers: list[Buffer], tensors: Tensors) -> None:
        lines = [
            view(buffer, (matrices.image.size,))
            for buffer, matrices in zip(buffers, operands, strict=True)
        ]
        with unit_functions(unit):
            tasks(kernel.tile.threads, _Attention(kernel, unit, lines, tensors, issue).task)

    return kernel_code(kernel, leading, body)


def _check(kernel: AttentionKernel, unit: Unit) -> None:
    queries, keys, values = kernel.queries, kernel.keys, kernel.values
    if queries.columns != keys.columns or keys.rows != values.rows:
        raise CompileError("Keys must be as long as queries, and as many as values.")
    if queries.heads % keys.heads or keys.heads != values.heads:
        raise CompileError(f"{queries.heads} heads cannot share {keys.heads} heads of keys.")
    if unit.pixels > 1:
        raise CompileError(f"Attention has no kernel for unit {unit.name!r}.")
    is_bytes = unit.accumulator_dtype == "int32"
    if is_bytes != (kernel.weights is not None) or (is_bytes and kernel.key_blocks > 1):
        raise CompileError("Bytes need rounded weights and all keys in one block, floats neither.")
    reason = refuses_tile(kernel.tile) if unit.is_tiled else None
    if reason is not None:
        raise CompileError(f"AMX cannot carry this attention: {reason}.")
    readable = ("uint8", "int8") if is_bytes else (unit.x_dtype,)
    if any(m.image.dtype not in readable for m in (queries, keys, values)):
        raise CompileError(f"Unit {unit.name!r} multiplies {' or '.join(readable)}.")
    if kernel.causal and (kernel.masks or queries.rows > keys.rows):
        raise CompileError("Causal attention has no masks, and a key beside each query.")
    # A register block that is moved back over its neighbour would add its values twice.
    rows, step = block_steps(kernel.tile, unit)
    is_whole = kernel.block[0] % min(rows, kernel.block[0]) == 0
    if not is_whole or kernel.block[1] % step or kernel.block[0] > queries.rows:
        raise CompileError(f"Attention cannot be cut into blocks of {kernel.block}.")


@dataclass(frozen=True, slots=True)
class _Attention:
    """One kernel while it is being emitted."""

    kernel: AttentionKernel
    unit: Unit
    lines: list[Buffer]
    tensors: Tensors
    issue: Issue

    def task(self, task: Expr) -> None:
        """Blocks of queries are shared out; who has some of a head packs its keys and values."""
        kernel, unit = self.kernel, self.unit
        rows = BlockRows.of(kernel.block, kernel.values.columns, unit)
        plain = replace(
            kernel, output=Output(Image(1, 1, 1, 1)), expression=Accumulator(), sources=()
        )
        queries = replace(kernel.queries, rows=kernel.block[0])
        depth = whole_steps(unit, queries.columns)
        left = LeftRows.of(queries, unit, self.lines[0], depth)
        weights = LeftRows.of(rows.matrices(unit), unit, rows.weights)
        head = PackedHead.of(kernel, unit, queries, weights.matrices)
        scores = Part(
            left.pixels(kernel.tile),
            Depth(left.depth),
            min(kernel.block[1], -(-kernel.keys.rows // unit.lanes) * unit.lanes),
            head.keys,
            corrected=head.of_scores.corrected,
            kept=rows.keep_score,
        )
        weighted = Part(
            weights.pixels(kernel.tile),
            Depth(weights.depth),
            kernel.values.columns,
            head.values,
            corrected=head.of_values.corrected,
            kept=rows.add_weighted if kernel.weights is None else rows.keep_weighted,
        )
        shared = Multiplication(plain, kernel.tile, unit, left.line, self.tensors)
        others = replace(shared, x=weights.line)
        with multiplying_in_turn((shared, scores), (others, weighted), self.issue) as products:
            score, weigh = products
            at = functools.partial(_at, score, scores)
            self._share_of(task, _Products(left, weights, rows, head, at, (weigh, weighted)))

    def _share_of(self, task: Expr, products: _Products) -> None:
        kernel = self.kernel
        per_key_head = kernel.queries.heads // kernel.keys.heads
        blocks = kernel.query_blocks * per_key_head
        rights = kernel.queries.batch * kernel.keys.heads
        start, stop = share(rights * blocks, task, kernel.tile.threads)
        start, stop = T.Bind(start), T.Bind(stop)

        def with_keys(index: Expr) -> None:
            batch, key_head = T.Bind(index // kernel.keys.heads), T.Bind(index % kernel.keys.heads)
            products.head.write(
                kernel.keys.matrix(self.lines[1], batch, key_head),
                kernel.values.matrix(self.lines[2], batch, key_head),
            )
            first = T.Bind(T.max(start - index * blocks, 0))
            last = T.Bind(T.min(stop - index * blocks, blocks))

            def block(item: Expr) -> None:
                head = T.Bind(key_head * per_key_head + item // kernel.query_blocks)
                query = T.min(
                    item % kernel.query_blocks * kernel.block[0],
                    kernel.queries.rows - kernel.block[0],
                )
                self._block(Place(batch, head, T.Bind(query)), products)

            loop(first, last, block)

        loop(start // blocks, (stop + blocks - 1) // blocks, with_keys)

    def _block(self, place: Place, products: _Products) -> None:
        """All keys that a block of queries sees, and what they give."""
        kernel, rows = self.kernel, products.rows
        whole = kernel.queries.matrix(self.lines[0], place.batch, place.head)
        begin = T.Bind(whole.start + place.query * whole.pitch)
        matrix = Matrix(whole.buffer, begin, whole.pitch, kernel.block[0], whole.columns)
        origin = products.left.place(matrix)
        products.head.of_scores.add_up_rows(products.left, origin)
        rows.clear()

        def keys(block: Expr) -> None:
            products.score(origin, block * (kernel.block[1] // self.unit.lanes))
            rows.weigh(kernel, self.tensors, place, block)
            products.head.of_values.add_up_rows(products.weights, 0)
            weigh, part = products.weigh
            columns = -(-kernel.values.columns // self.unit.lanes)
            weigh(replace(part, first_block=block * columns))

        loop(0, self._blocks_seen(place), keys)
        output = view(self.tensors.output, (kernel.output.image.size,))
        written = kernel.written.matrix(output, place.batch, place.head)
        rows.write(kernel, written, place)

    def _blocks_seen(self, place: Place) -> Expr:
        """Blocks of keys that the last query of a block sees any of."""
        kernel = self.kernel
        if not kernel.causal:
            return kernel.key_blocks
        last = place.query + kernel.block[0] + kernel.keys.rows - kernel.queries.rows
        return T.Bind((last + kernel.block[1] - 1) // kernel.block[1])


def _at(multiply: Multiply, part: Part, origin: Expr, first_block: Expr) -> None:
    multiply(replace(part, origin=origin, first_block=first_block))


@dataclass(frozen=True, slots=True)
class _Products:
    """The two products of a block, made ready."""

    left: LeftRows
    weights: LeftRows
    rows: BlockRows
    head: PackedHead
    score: Callable[[Expr, Expr], None]
    weigh: tuple[Multiply, Part]
