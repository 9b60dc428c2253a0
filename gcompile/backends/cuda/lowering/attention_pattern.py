"""Find attention in a graph: regions that together are softmax(scale · Q Kᵀ + mask) V.

Heads are split from the vectors before or after, sequences and heads may be one axis, and keys
may serve groups of heads: all that matters is where the vectors lie in memory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from gcompile import ir
from gcompile.backends.cuda.kernels.attention import Rows, Stored
from gcompile.backends.cuda.lowering.attention_operand import (
    Storing,
    operand_views,
    right_heads,
    rows_of,
    written_rows,
)
from gcompile.backends.cuda.lowering.attention_weights import Weights, input_of
from gcompile.backends.tvm.lowering.region_expression import CannotEmitError

_HIDDEN = -1e30
"""What is added to weights that do not count; exponentials of less are zeros."""


@dataclass(frozen=True)
class Operand:
    """Vectors in memory: the tensor, how it is stored, and where they lie in it."""

    value: ir.Value
    stored: Stored
    rows: Rows


@dataclass(frozen=True)
class FoundAttention:
    """Attention as the graph has it.

    Attributes:
        regions: What it takes the place of; it runs where the last of them would.
        sizes: Sequences, heads, heads of the keys, queries, keys, depth.
        operands: Q, K, V.
        masks: What is added to the weights, each (…, 1 or queries, keys).
        output: What is written.
        zero_if_hidden: Queries that see no key give zeros.
    """

    regions: tuple[ir.Region, ...]
    sizes: tuple[int, int, int, int, int, int]
    operands: tuple[Operand, Operand, Operand]
    scale: float
    causal: bool
    masks: tuple[ir.Value, ...]
    output: Operand
    zero_if_hidden: bool


def find_attention(
    region: ir.Region, region_of: Mapping[ir.Node, ir.Region], written: frozenset[ir.Value]
) -> FoundAttention:
    """Read the attention whose second product is the region's.

    Args:
        region: Any region.
        region_of: The region of every node of the graph.
        written: The values that are in memory between regions.

    Raises:
        CannotEmitError: There is none, or not one that the kernel can do.
    """
    node = region.anchor
    if node is None or node.op_type != "MatMul" or not ir.is_batched_product(node):
        raise CannotEmitError("it has no product of two computed operands")
    return _Finder(region_of, written).find(node)


@dataclass
class _Finder:
    region_of: Mapping[ir.Node, ir.Region]
    written: frozenset[ir.Value]
    nodes: set[ir.Node] = field(default_factory=set)

    def find(self, weighted: ir.Node) -> FoundAttention:
        self.nodes.add(weighted)
        weights = Weights(self.written)
        scores = weights.find(input_of(weighted, 0))
        self.nodes |= weights.nodes
        batch, heads, queries, keys = _sizes(weights.shape)
        lefts, rights = (
            [ir.static_shape(n.inputs[slot]) for n in (scores, weighted)] for slot in (0, 1)
        )
        depth = lefts[0][-1]
        if len(lefts[0]) < 2 or min(map(len, rights)) < 2 or rights[1][-1] != depth:
            raise CannotEmitError("keys and values of attention differ in their lengths")
        per_sequence = {
            right_heads(left[:-2], right[:-2], batch)
            for left, right in zip(lefts, rights, strict=True)
        }
        if len(per_sequence) > 1 or None in per_sequence:
            raise CannotEmitError("the heads of keys and values are not one after the other")
        found = per_sequence.pop() or 0
        key_heads = max(found, 1)
        if heads % key_heads or math.prod(lefts[0][:-1]) != batch * heads * queries:
            raise CannotEmitError("heads of keys do not divide those of the queries")
        kept = (batch if found else 1, key_heads, keys, depth)
        operands = (
            self._operand(scores, 0, (batch, heads, queries, depth)),
            self._operand(scores, 1, kept, columns=True),
            self._operand(weighted, 1, kept),
        )
        output = self._output(weighted, (batch, heads, queries, depth))
        # Beside another mask it stays one: queries that see no key depend on the sum of both.
        is_causal = len(weights.masks) == 1 and _is_causal(weights.masks[0], queries, keys)
        return FoundAttention(
            self._regions(output.value),
            (batch, heads, key_heads, queries, keys, depth),
            operands,
            weights.scale,
            is_causal,
            () if is_causal else tuple(weights.masks),
            output,
            weights.zero_if_hidden,
        )

    def _operand(
        self, node: ir.Node, slot: int, shape: tuple[int, int, int, int], *, columns: bool = False
    ) -> Operand:
        """The furthest tensor up that the kernel can read rows, or columns, from."""
        views, passed = operand_views(input_of(node, slot), self.written)
        self.nodes |= {n for n in passed if self.region_of[n] is self.region_of[node]}
        for found in reversed(views):
            rows = rows_of(found.view.transposed if columns else found.view, shape)
            if rows is not None:
                return Operand(found.value, found.stored, rows)
        raise CannotEmitError("an operand of attention is not stored narrow, vector by vector")

    def _output(self, node: ir.Node, shape: tuple[int, int, int, int]) -> Operand:
        """The furthest value down that is the result with its vectors elsewhere."""
        value, storing = node.outputs[0], Storing()
        found: tuple[Operand, set[ir.Node]] | None = None
        passed: set[ir.Node] = set()
        at = ir.Strided.of(shape).reshaped(ir.static_shape(value))
        while at is not None:
            rows, stored = written_rows(at, shape), storing.of(value)
            if rows is not None and stored is not None and value in self.written:
                found = Operand(value, stored, rows), set(passed)
            readers = list(value.consumers())
            reader = readers[0] if len(readers) == 1 else None
            if reader is None or value.is_graph_output() or not storing.passes(reader):
                break
            if reader.op_type in ("Slice", "Split", "Gather") or reader not in self.region_of:
                break
            passed.add(reader)
            at = at.after(reader) if reader.op_type in ir.STRIDED_MOVES else at
            value = reader.outputs[0]
        if found is None:
            raise CannotEmitError("the result of attention is not stored narrow")
        self.nodes |= found[1]
        return found[0]

    def _regions(self, output: ir.Value) -> tuple[ir.Region, ...]:
        """The regions of all that was found, which must hold nothing else that is read."""
        regions = list({self.region_of[n].name: self.region_of[n] for n in self.nodes}.values())
        for region in regions:
            if not self.nodes.issuperset(region.nodes):
                raise CannotEmitError("the regions of attention compute something else, too")
            for value in region.outputs:
                if value is output:
                    continue
                if value.is_graph_output() or not self.nodes.issuperset(value.consumers()):
                    raise CannotEmitError("something else reads the weights of attention")
        return tuple(regions)


def _sizes(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Sequences, heads, queries and keys of weights."""
    *leading, queries, keys = shape if len(shape) > 1 else (1, *shape)
    heads = leading[-1] if leading else 1
    return math.prod(leading[:-1]), heads, queries, keys


def _is_causal(mask: ir.Value, queries: int, keys: int) -> bool:
    """Say whether a constant mask hides just the keys that come after a query."""
    array = ir.constant_array(mask)
    if array is None or array.size != queries * keys or queries > keys:
        return False
    square = array.astype(np.float64).reshape(queries, keys)
    ahead = np.arange(keys) > np.arange(queries)[:, None] + keys - queries
    return bool(np.all(square[~ahead] == 0) and np.all(square[ahead] < _HIDDEN))
