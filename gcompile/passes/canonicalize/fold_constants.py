"""Fold nodes whose inputs are all known into constants.

A constant that is an output of the model is returned by an Identity. The arithmetic is that of the
ONNX reference implementation, which may differ from a runtime's in the last bit: the pass rounds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gcompile import ir
from gcompile.passes.base import Numerics, Pass, PassContext

_MAKERS = frozenset({"ConstantOfShape", "Range"})
_MOST_BYTES = 256 << 20
_READ_WEIGHTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_MOVES = ir.VIEWS | {"Cast", "Transpose"}


@dataclass(frozen=True)
class FoldConstants(Pass):
    """Fold nodes whose inputs are all known into constants.

    Attributes:
        size_limit_bytes: A node that would store more than this, and more than it reads, stays.
            What makes a tensor of a size that is read, or decodes what is no weight, has no
            kernel: it may store up to 256 MiB.
    """

    name = "fold-constants"
    numerics = Numerics.ROUNDING
    size_limit_bytes: int = 65536

    def run(self, model: ir.Model, ctx: PassContext) -> int:
        """Fold in topological order, so that whole chains go in one run."""
        changed = 0
        for graph in ir.all_graphs(model):
            for node in graph:
                if not _is_known(node):
                    continue
                if reason := self._refusal(node) or _fold(graph, node):
                    ctx.skipped[self.name, reason] += 1
                else:
                    changed += 1
        return changed

    def _refusal(self, node: ir.Node) -> str | None:
        if node.op_type == "Identity" and node.outputs[0].is_graph_output():
            return "it returns a constant as a graph output"
        has_no_kernel = node.op_type in _MAKERS or _decodes_for_no_weight(node)
        if ir.decodes_storage(node) and not has_no_kernel:
            return "it decodes a number format that weights are stored in"
        stored = sum(_nbytes(value) for value in node.outputs)
        read = sum(_nbytes(value) for value in node.inputs)
        if has_no_kernel:
            return "the constant would be larger than 256 MiB" if stored > _MOST_BYTES else None
        if stored > max(read, self.size_limit_bytes):
            return "the constant would be larger than its inputs and size_limit_bytes"
        return None


def _decodes_for_no_weight(node: ir.Node) -> bool:
    """Say whether nothing that reads a decoded constant has a use for it as it is stored."""
    if node.op_type != "DequantizeLinear":
        return False
    pending = [reader for reader, _ in node.outputs[0].uses()]
    while pending:
        reader = pending.pop()
        if reader.op_type in _READ_WEIGHTS:
            return False
        if reader.op_type in _MOVES:
            pending += [each for each, _ in reader.outputs[0].uses()]
    return True


def _is_known(node: ir.Node) -> bool:
    """Cheap: no weight is read."""
    if node.domain or not node.inputs:
        return False
    if node.op_type in ("Shape", "Size") or ir.gives_nothing(node):
        return True
    read = node.inputs[:1] if node.op_type == "CastLike" else node.inputs
    return all(value is None or ir.is_constant(value) for value in read)


def _nbytes(value: ir.Value | None) -> int:
    if value is None or value.shape is None or not value.shape.is_static():
        return 0
    return math.ceil(math.prod(value.shape.numpy()) * (value.dtype.itemsize if value.dtype else 4))


def _fold(graph: ir.Graph, node: ir.Node) -> str | None:
    arrays = ir.evaluate_node(node, ir.OPSET)
    if arrays is None:
        return "the ONNX reference cannot compute it"
    for value, array in zip(node.outputs, arrays, strict=True):
        is_needed = value.uses() or value.is_graph_output()
        if is_needed and (value.dtype is None or array.dtype != value.dtype.numpy()):
            return "the ONNX reference gives another type"
    for value, array in zip(node.outputs, arrays, strict=True):
        if value.is_graph_output():
            ir.return_constant(graph, value, array)
        elif value.uses():
            name = str(value.name)
            value.name = f"{name}::folded"
            value.replace_all_uses_with(ir.add_constant(graph, name, array))
    graph.remove(node, safe=True)
    return None
