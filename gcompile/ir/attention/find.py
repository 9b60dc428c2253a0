"""Find attention in a graph: regions that together are softmax(scale · Q Kᵀ + mask) V.

Heads are split from the vectors before or after, sequences and heads may be one axis, and keys
may serve groups of heads: all that matters is where the vectors lie in memory.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir

from gcompile.ir.attention.operand import (
    PARTS,
    Candidate,
    Storing,
    operand_views,
    right_heads,
    rows_of,
    written_rows,
)
from gcompile.ir.attention.vectors import Mask, NotAttentionError, Reader, Stored, Vectors
from gcompile.ir.attention.weights import Weights, input_of
from gcompile.ir.batched_product import is_batched_product
from gcompile.ir.constants import constant_array
from gcompile.ir.shapes import static_shape
from gcompile.ir.strided import MOVES, Strided

if TYPE_CHECKING:
    from gcompile.ir.region import Region

_HIDDEN = -1e8
"""What is added to scores that do not count, or less: their exponentials are zeros beside any
score of a network. Exporters write -1e9, the lowest float32, or -infinity."""

_MOST_BYTES = 2**16
"""Products of an unsigned and a signed byte whose sum is an int32 for certain."""

_NO_PRODUCT = "it has no product of two computed operands"


@dataclass(frozen=True)
class FoundAttention:
    """Attention as the graph has it.

    Attributes:
        regions: What it takes the place of; it runs where the last of them would.
        sizes: Sequences, heads, heads of the keys, queries, keys, depth.
        operands: Q, K, V.
        masks: What changes the scaled scores, in order.
        output: What is written.
        zero_if_hidden: Queries that see no key give zeros.
        weights: How the weights are rounded, if the kernel that reads it has to.
    """

    regions: tuple[Region, ...]
    sizes: tuple[int, int, int, int, int, int]
    operands: tuple[Vectors, Vectors, Vectors]
    scale: float
    causal: bool
    masks: tuple[Mask, ...]
    output: Vectors
    zero_if_hidden: bool
    weights: Stored | None = None


def find_attention(
    region: Region,
    region_of: Mapping[onnx_ir.Node, Region],
    written: frozenset[onnx_ir.Value],
    reader: Reader,
) -> FoundAttention:
    """Read the attention whose second product is the region's.

    Args:
        region: Any region.
        region_of: The region of every node of the graph.
        written: The values that are in memory between regions.
        reader: What the kernel reads.

    Raises:
        NotAttentionError: There is none, or not one that the kernel can do.
    """
    node = region.anchor
    if node is None:
        raise NotAttentionError(_NO_PRODUCT)
    return _Finder(region_of, written, reader).find(node)


def attention_of(region: Region, reader: Reader) -> FoundAttention:
    """Read the attention that one region is.

    Raises:
        NotAttentionError: It is none, or not one that the kernel can do.
    """
    products = [node for node in region.nodes if node.op_type == "MatMul" and not node.domain]
    if len(products) != 2:
        raise NotAttentionError(_NO_PRODUCT)
    written = frozenset((*region.inputs, *region.outputs))
    return _Finder(dict.fromkeys(region.nodes, region), written, reader).find(products[1])


@dataclass(frozen=True)
class _Slot:
    """An operand of a product: (batch, heads, vectors, depth), perhaps the columns of it."""

    node: onnx_ir.Node
    slot: int
    shape: tuple[int, int, int, int]
    columns: bool = False

    def rows(self, found: Candidate, unit: int) -> Vectors | None:
        view = found.view.transposed if self.columns else found.view
        rows = rows_of(view, self.shape, unit)
        return Vectors(found.value, found.stored, rows) if rows is not None else None


@dataclass
class _Finder:
    region_of: Mapping[onnx_ir.Node, Region]
    written: frozenset[onnx_ir.Value]
    reader: Reader
    nodes: set[onnx_ir.Node] = field(default_factory=set)

    def find(self, weighted: onnx_ir.Node) -> FoundAttention:
        if weighted.op_type != "MatMul" or not is_batched_product(weighted):
            raise NotAttentionError(_NO_PRODUCT)
        self.nodes.add(weighted)
        weights = Weights(self.written)
        scores = weights.find(input_of(weighted, 0))
        self.nodes |= weights.nodes
        batch, heads, queries, keys = _sizes(weights.shape)
        lefts, rights = (
            [static_shape(n.inputs[slot]) for n in (scores, weighted)] for slot in (0, 1)
        )
        depth = lefts[0][-1]
        if len(lefts[0]) < 2 or min(map(len, rights)) < 2 or rights[1][-1] != depth:
            raise NotAttentionError("keys and values of attention differ in their lengths")
        per_sequence = {
            right_heads(left[:-2], right[:-2], batch)
            for left, right in zip(lefts, rights, strict=True)
        }
        if len(per_sequence) > 1 or None in per_sequence:
            raise NotAttentionError("the heads of keys and values are not one after the other")
        found = per_sequence.pop() or 0
        key_heads = max(found, 1)
        if heads % key_heads or math.prod(lefts[0][:-1]) != batch * heads * queries:
            raise NotAttentionError("heads of keys do not divide those of the queries")
        kept = (batch if found else 1, key_heads, keys, depth)
        slots = (
            _Slot(scores, 0, (batch, heads, queries, depth)),
            _Slot(scores, 1, kept, columns=True),
            _Slot(weighted, 1, kept),
        )
        operands = self._operands(slots)
        rounded = None
        if self.reader.rounds:
            rounded = _rounded_weights(operands, weights.roundings, keys)
        output = self._output(weighted, (batch, heads, queries, depth))
        masks = tuple(reversed(weights.masks))
        # Beside another mask it stays one: queries that see no key depend on the sum of both.
        is_causal = len(masks) == 1 and _is_causal(masks[0], queries, keys)
        return FoundAttention(
            self._regions(output.value),
            (batch, heads, key_heads, queries, keys, depth),
            (operands[0], operands[1], operands[2]),
            weights.scale,
            is_causal,
            () if is_causal else masks,
            output,
            weights.zero_if_hidden,
            rounded,
        )

    def _operands(self, slots: Sequence[_Slot]) -> list[Vectors]:
        """The furthest tensors up that the kernel can read rows, or columns, from."""
        views = [
            operand_views(input_of(slot.node, slot.slot), self.written, self.reader)
            for slot in slots
        ]
        if not self.reader.takes_moves:
            for slot, found in zip(slots, views, strict=True):
                passed = found[-1].passed if found else ()
                own = self.region_of[slot.node]
                self.nodes |= {node for node in passed if self.region_of[node] is own}
        readable = [
            [(found, rows) for found in of_slot if (rows := slot.rows(found, self.reader.unit))]
            for slot, of_slot in zip(slots, views, strict=True)
        ]
        while all(readable):
            furthest = [found[-1] for found in readable]
            spoilt = self._first_spoilt([candidate for candidate, _ in furthest], slots)
            if spoilt is None:
                return [rows for _, rows in furthest]
            readable[spoilt].pop()
        raise NotAttentionError("an operand of attention is not stored vector by vector")

    def _first_spoilt(self, chosen: Sequence[Candidate], slots: Sequence[_Slot]) -> int | None:
        """The first operand with a node before it that the kernel cannot take with it."""
        if not self.reader.takes_moves:
            return None
        passed = frozenset[onnx_ir.Node]().union(*(candidate.passed for candidate in chosen))
        taken = passed | {slot.node for slot in slots}
        whole = taken.union(*(self.region_of[slot.node].nodes for slot in slots))
        for index, candidate in enumerate(chosen):
            for node in candidate.passed:
                region = self.region_of.get(node)
                if region is None or not whole.issuperset(region.nodes):
                    return index
                if any(v.is_graph_output() or not taken.issuperset(v.consumers())
                       for v in node.outputs):  # fmt: skip
                    return index
        self.nodes |= passed
        return None

    def _output(self, node: onnx_ir.Node, shape: tuple[int, int, int, int]) -> Vectors:
        """The furthest value down that is the result with its vectors elsewhere."""
        value, storing = node.outputs[0], Storing(self.reader)
        found: tuple[Vectors, set[onnx_ir.Node]] | None = None
        passed: set[onnx_ir.Node] = set()
        at = Strided.of(shape).reshaped(static_shape(value))
        while at is not None:
            rows, stored = written_rows(at, shape), storing.of(value)
            if rows is not None and stored is not None and value in self.written:
                found = Vectors(value, stored, rows), set(passed)
            readers = list(value.consumers())
            reader = readers[0] if len(readers) == 1 else None
            if reader is None or value.is_graph_output() or not storing.passes(reader):
                break
            if reader.op_type in PARTS or reader not in self.region_of:
                break
            passed.add(reader)
            at = at.after(reader) if reader.op_type in MOVES else at
            value = reader.outputs[0]
        if found is None:
            raise NotAttentionError("the kernel cannot store the result of attention")
        self.nodes |= found[1]
        return found[0]

    def _regions(self, output: onnx_ir.Value) -> tuple[Region, ...]:
        """The regions of all that was found, which must hold nothing else that is read."""
        regions = list({self.region_of[n].name: self.region_of[n] for n in self.nodes}.values())
        for region in regions:
            if not self.nodes.issuperset(region.nodes):
                raise NotAttentionError("the regions of attention compute something else, too")
            for value in region.outputs:
                if value is output:
                    continue
                if value.is_graph_output() or not self.nodes.issuperset(value.consumers()):
                    raise NotAttentionError("something else reads the weights of attention")
        return tuple(regions)


def _sizes(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Sequences, heads, queries and keys of weights."""
    *leading, queries, keys = shape if len(shape) > 1 else (1, *shape)
    heads = leading[-1] if leading else 1
    return math.prod(leading[:-1]), heads, queries, keys


def _rounded_weights(
    operands: Sequence[Vectors], roundings: Collection[Stored | None], keys: int
) -> Stored | None:
    """How weights of quantized attention are rounded; None where nothing is quantized."""
    quantized = [operand.stored.is_integer for operand in operands]
    if not any(quantized) and not roundings:
        return None
    stored = next(iter(roundings), None)
    if not all(quantized) or len(roundings) != 1 or stored is None:
        raise NotAttentionError("attention multiplies bytes with other numbers")
    lowest = -128 if stored.dtype is onnx_ir.DataType.INT8 else 0
    if not stored.is_integer or stored.zero_point != lowest:
        raise NotAttentionError("the lowest byte of the weights of attention is not zero")
    if keys > _MOST_BYTES:
        raise NotAttentionError("sums of products of so many bytes pass the range of int32")
    return stored


def _is_causal(mask: Mask, queries: int, keys: int) -> bool:
    """Say whether a constant mask hides just the keys that come after a query."""
    array = constant_array(mask.value)
    if array is None or array.size != queries * keys or queries > keys:
        return False
    square = array.reshape(queries, keys)
    ahead = np.arange(keys) > np.arange(queries)[:, None] + keys - queries
    if mask.hidden is not None:
        return mask.hidden <= _HIDDEN and bool(np.all((square == mask.where) == ahead))
    numbers = square.astype(np.float64)
    return bool(np.all(numbers[~ahead] == 0) and np.all(numbers[ahead] <= _HIDDEN))
