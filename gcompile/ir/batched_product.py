"""Batches of products whose right operand is brought into a unit's order at run time.

Attention has them: both operands are computed.

    Y[b, h] = L[b, h] · R[b, h]

The operands are matrices in the memory of other tensors: transposes and reshapes between those and
the product, where they belong to its region, only say where the matrices lie. So does a transpose
after the product that puts the heads side by side.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import onnx_ir

from gcompile.ir.constants import is_constant
from gcompile.ir.contraction import Contraction
from gcompile.ir.shapes import static_shape
from gcompile.ir.strided import MOVES, Strided

_DECODERS = ("DequantizeLinear", "Cast")


@dataclass(frozen=True, slots=True)
class Matrices:
    """One operand: where its matrices lie in the memory of a tensor.

    Attributes:
        stored: The tensor.
        decoder: The node that turns stored numbers into real ones, if any.
        strides: Elements from one batch, head and row to the next; 0 where all share one.
        is_transposed: What is a row in memory is a column of the product.
    """

    stored: onnx_ir.Value
    decoder: onnx_ir.Node | None
    strides: tuple[int, int, int]
    is_transposed: bool = False


@dataclass(frozen=True, slots=True)
class BatchedProduct:
    """All products of one node.

    Attributes:
        sizes: Rows, columns and depth of each.
        leading: How the axes of the result before the last two are grouped: those of the batch,
            then those of the heads.
        mover: The transpose that puts the heads side by side, if it belongs to the region.
    """

    batch: int
    heads: int
    sizes: tuple[int, int, int]
    left: Matrices
    right: Matrices
    leading: tuple[tuple[int, ...], tuple[int, ...]]
    mover: onnx_ir.Node | None = None

    @property
    def contraction(self) -> Contraction:
        """One of the products."""
        m, n, k = self.sizes
        return Contraction.matmul(m, k, n)

    @property
    def pairs(self) -> int:
        """How many products there are."""
        return self.batch * self.heads

    @property
    def rights(self) -> int:
        """How many times a right operand is brought into the order that units read."""
        return self.batch * (self.heads if self.right.strides[1] else 1)


def is_batched_product(node: onnx_ir.Node) -> bool:
    """Say whether the node's right operand is computed at run time, or is one of many."""
    if node.domain or node.op_type not in ("MatMul", "Gemm") or node.inputs[1] is None:
        return False
    return not _is_constant(node.inputs[1]) or len(static_shape(node.inputs[1])) != 2


def batched_product(
    anchor: onnx_ir.Node, inside: Collection[onnx_ir.Node]
) -> BatchedProduct | None:
    """Describe a batch of products whose region has the nodes `inside`.

    None when the node has none, or when its operands do not lie as matrices whose rows
    are contiguous, the right one's perhaps its columns.
    """
    if not is_batched_product(anchor):
        return None
    found = [_operand(anchor, slot, inside) for slot in (0, 1)]
    if found[0] is None or found[1] is None:
        return None
    (left, left_at), (right, right_at) = found[0], found[1]
    m, k, n = left_at.shape[-2], left_at.shape[-1], right_at.shape[-1]
    shape = static_shape(anchor.outputs[0])
    matrix_axes = sum(len(static_shape(value)) > 1 for value in anchor.inputs[:2] if value)
    grouped = _grouped(shape[: len(shape) - matrix_axes], left_at, right_at)
    rows = _left_pitch(left_at), _right_pitch(right_at)
    if grouped is None or rows[0] is None or rows[1] is None or 0 in (m, n, k):
        return None
    leading, left_steps, right_steps = grouped
    pitch, is_transposed = rows[1]
    batch, heads = (math.prod(sizes) for sizes in leading)
    return BatchedProduct(
        batch,
        heads,
        (m, n, k),
        Matrices(*left, (*left_steps, rows[0])),
        Matrices(*right, (*right_steps, pitch), is_transposed),
        leading,
        _mover(anchor, inside),
    )


def operand_moves(
    value: onnx_ir.Value | None, inside: Collection[onnx_ir.Node]
) -> tuple[onnx_ir.Value | None, list[onnx_ir.Node]]:
    """Walk up from an operand through the moves among `inside`.

    Returns:
        The value they move, and the moves, the first one first.
    """
    moves: list[onnx_ir.Node] = []
    while value is not None and (producer := value.producer()) is not None:
        if producer not in inside or producer.op_type not in MOVES or producer.domain:
            break
        moves.insert(0, producer)
        value = producer.inputs[0]
    return value, moves


_Stored = tuple[onnx_ir.Value, onnx_ir.Node | None]


def _operand(
    anchor: onnx_ir.Node, slot: int, inside: Collection[onnx_ir.Node]
) -> tuple[_Stored, Strided] | None:
    value, moves = operand_moves(anchor.inputs[slot], inside)
    if value is None:
        return None
    at: Strided | None = Strided.of(static_shape(value))
    for move in moves:
        at = at.after(move) if at is not None else None
    if at is None:
        return None
    if len(at.shape) == 1:
        at = at.reshaped((1, *at.shape) if slot == 0 else (*at.shape, 1))
    is_swapped = anchor.attributes.get_int(("transA", "transB")[slot], 0)
    if is_swapped and at is not None:
        at = Strided(at.shape[::-1], at.strides[::-1])
    producer = value.producer()
    decoder = producer if producer in inside and producer is not None else None
    if decoder is not None and decoder.op_type not in _DECODERS:
        return None
    stored = decoder.inputs[0] if decoder is not None else value
    return ((stored, decoder), at) if stored is not None and at is not None else None


def _left_pitch(at: Strided) -> int | None:
    """Elements from one row to the next, where columns are contiguous."""
    (m, k), (down, across) = at.shape[-2:], at.strides[-2:]
    if across != 1 and k != 1:
        return None
    return down if m > 1 and down else k


def _right_pitch(at: Strided) -> tuple[int, bool] | None:
    """Elements from one row in memory to the next, and whether that row is a column."""
    (k, n), (down, across) = at.shape[-2:], at.strides[-2:]
    if n > 1 and across == 1:
        return (down if k > 1 else n), False
    if k == 1 or down == 1:
        return (across if n > 1 else k), True
    return (down, False) if n == 1 else None


_Grouped = tuple[tuple[tuple[int, ...], tuple[int, ...]], tuple[int, int], tuple[int, int]]


def _grouped(sizes: Sequence[int], left: Strided, right: Strided) -> _Grouped | None:
    """Group the leading axes into at most two, along which both operands go in even steps."""
    axes = [
        (size, _step(left, len(sizes), axis), _step(right, len(sizes), axis))
        for axis, size in enumerate(sizes)
    ]
    for cut in (len(axes) - 1, *range(len(axes) - 1)):
        batch, heads = _as_one(axes[: max(cut, 0)]), _as_one(axes[max(cut, 0) :])
        if batch is not None and heads is not None:
            split = max(cut, 0)
            leading = (tuple(sizes[:split]), tuple(sizes[split:]))
            return leading, (batch[0], heads[0]), (batch[1], heads[1])
    return None


def _step(operand: Strided, rank: int, axis: int) -> int:
    """Elements along a leading axis of the result; 0 where the operand is broadcast."""
    own = axis - (rank - (len(operand.shape) - 2))
    return operand.strides[own] if own >= 0 and operand.shape[own] > 1 else 0


def _as_one(axes: Sequence[tuple[int, int, int]]) -> tuple[int, int] | None:
    """The steps of the left and the right operand along axes that are taken as one."""
    axes = [axis for axis in axes if axis[0] > 1]
    for outer, inner in itertools.pairwise(axes):
        if any(outer[side] != inner[0] * inner[side] for side in (1, 2)):
            return None
    return axes[-1][1:] if axes else (0, 0)


def _mover(anchor: onnx_ir.Node, inside: Collection[onnx_ir.Node]) -> onnx_ir.Node | None:
    """The transpose after the product: no operand comes through it."""
    before = {n for value in anchor.inputs[:2] for n in operand_moves(value, inside)[1]}
    movers = [n for n in inside if n.op_type == "Transpose" and n not in before]
    return movers[0] if movers else None


def puts_heads_side_by_side(node: onnx_ir.Node) -> bool:
    """Say whether a transpose makes (…, heads, rows, columns) of (…, rows, heads, columns)."""
    rank = len(static_shape(node.inputs[0]))
    order = list(node.attributes.get_ints("perm", range(rank)[::-1]))
    return rank >= 3 and order == [*range(rank - 3), rank - 2, rank - 3, rank - 1]


def _is_constant(value: onnx_ir.Value | None) -> bool:
    """A constant, as it is or behind decoders."""
    producer = value.producer() if value is not None else None
    while producer is not None and producer.op_type in _DECODERS:
        value = producer.inputs[0]
        producer = value.producer() if value is not None else None
    return is_constant(value)
