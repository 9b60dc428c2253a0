"""Run a function written for onnx-graphsurgeon as a pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from gcompile import ir
from gcompile.passes.base import Numerics, Pass, PassContext


@dataclass(frozen=True)
class GraphsurgeonPass(Pass):
    """Run a function that edits an `onnx_graphsurgeon.Graph` in place.

    Nobody but its author knows how far it moves the outputs, so it counts as LOSSY. A subclass
    with a `name` and `numerics` of its own says more. Regions and origins are kept by node name.

    Attributes:
        function: Takes the graph and edits it; what it returns is ignored.
    """

    name = "graphsurgeon"
    numerics = Numerics.LOSSY
    function: Callable[[Any], object]

    def run(self, model: ir.Model, ctx: PassContext) -> int:
        """Return how many nodes and constants differ afterwards; none leaves the model alone."""
        before = _fingerprints(model)
        graph = ir.to_graphsurgeon(model)
        self.function(graph)
        edited = ir.from_graphsurgeon(graph, like=model)
        after = _fingerprints(edited)
        changed = sum(after.get(name) != text for name, text in before.items())
        changed += len(after.keys() - before.keys())
        if changed:
            model.graph = edited.graph
        return changed


def _fingerprints(model: ir.Model) -> dict[str, str]:
    """Each node and each constant that is read, by name, as text without metadata."""
    constants = {
        f"constant {value.name}": sha256(value.const_value.tobytes()).hexdigest()
        for graph in ir.all_graphs(model)
        for value in graph.initializers.values()
        if value.const_value is not None and value.uses()
    }
    return constants | {
        str(node.name): f"{node.op_identifier()} "
        f"{[value and value.name for value in node.inputs]} "
        f"{[value.name for value in node.outputs]} "
        f"{sorted((name, _attribute(attr)) for name, attr in node.attributes.items())}"
        for node in ir.all_nodes(model)
    }


def _attribute(attr: ir.Attr) -> str:
    """Branches are compared node by node, and tensors by their bytes."""
    if attr.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
        return "graph"
    if attr.type is ir.AttributeType.TENSOR:
        return sha256(attr.as_tensor().tobytes()).hexdigest()
    return str(attr.value)
