"""Merge nodes that compute the same thing, and constants that are equal.

Decoders of a storage format (DequantizeLinear, casts from bfloat16) stay apart on purpose: a
region decodes for itself what it reads, which is cheaper than storing the decoded value.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from gcompile import ir
from gcompile.passes.base import Numerics, Pass, PassContext

_RANDOM = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli",
     "Multinomial", "Dropout"}
)  # fmt: skip
_PLAIN = frozenset(
    {ir.AttributeType.INT, ir.AttributeType.FLOAT, ir.AttributeType.STRING,
     ir.AttributeType.INTS, ir.AttributeType.FLOATS, ir.AttributeType.STRINGS}
)  # fmt: skip


@dataclass(frozen=True)
class MergeCommonSubexpressions(Pass):
    """Merge nodes that compute the same thing, and constants that are equal.

    Attributes:
        size_limit_bytes: Larger constants are not compared: that would read them from disk.
    """

    name = "merge-common-subexpressions"
    numerics = Numerics.EXACT
    size_limit_bytes: int = 4096

    def run(self, model: ir.Model, ctx: PassContext) -> int:
        """Merge constants first, so that equal nodes have equal inputs."""
        changed = self._merge_constants(model)
        for graph in ir.all_graphs(model):
            seen: dict[Hashable, ir.Node] = {}
            for node in graph:
                key = _key_of_node(node)
                first = seen.setdefault(key, node) if key is not None else node
                if first is node:
                    continue
                if reason := _merge(node, first, self.name):
                    ctx.skipped[self.name, reason] += 1
                else:
                    changed += 1
        return changed

    def _merge_constants(self, model: ir.Model) -> int:
        """Constants of the main graph may stand in for those of its subgraphs."""
        changed = 0
        outer: dict[Hashable, ir.Value] = {}
        for graph in ir.all_graphs(model):
            seen = outer if graph is model.graph else dict(outer)
            for name, value in list(graph.initializers.items()):
                key = self._key_of_constant(value)
                first = seen.setdefault(key, value) if key is not None else value
                if first is not value:
                    value.replace_all_uses_with(first)
                    del graph.initializers[name]
                    changed += 1
        return changed

    def _key_of_constant(self, value: ir.Value) -> Hashable | None:
        tensor = value.const_value
        if tensor is None or value.is_graph_output() or value.is_graph_input():
            return None
        if value.dtype is ir.DataType.STRING or tensor.nbytes > self.size_limit_bytes:
            return None
        return tensor.dtype, tuple(tensor.shape.numpy()), tensor.tobytes()


def _key_of_node(node: ir.Node) -> Hashable | None:
    """Two nodes of equal keys compute the same values; None: not to be merged."""
    if node.op_type in _RANDOM or ir.decodes_storage(node):
        return None
    attributes = []
    for name, attr in sorted(node.attributes.items()):
        if attr.type not in _PLAIN:
            return None
        value = tuple(attr.value) if isinstance(attr.value, (list, tuple)) else attr.value
        attributes.append((name, attr.type, value))
    named = tuple(bool(value.name) for value in node.outputs)
    inputs = tuple(id(value) for value in node.inputs)
    return node.domain, node.op_type, node.overload, tuple(attributes), inputs, named


def _merge(node: ir.Node, first: ir.Node, pass_name: str) -> str | None:
    """Let the readers of `node` read `first`; return why not."""
    if any(value.is_graph_output() for value in node.outputs[1:]):
        return "its outputs are graph outputs"
    for value, same in zip(node.outputs[1:], first.outputs[1:], strict=True):
        value.replace_all_uses_with(same)
    if reason := ir.bypass(node, first.outputs[0]):
        return reason
    ir.add_origin(first, [node], pass_name)
    return None
