"""Cut a piece out of a model, and find which piece a rewrite can have moved."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir

from gcompile.ir.write import node_proto


def extract(model: onnx_ir.Model, inputs: Sequence[str], outputs: Sequence[str]) -> onnx_ir.Model:
    """Copy the nodes between values of the main graph into a model of their own.

    Tensors are shared with the model.

    Args:
        model: Where the values are.
        inputs: Names of values that the piece is given; with the constants they bound it.
        outputs: Names of values that it computes.

    Raises:
        ValueError: A value is unknown, or the inputs do not bound the outputs.
    """
    graph = onnx_ir.convenience.extract(model.graph, inputs, outputs)
    graph.opset_imports.update(model.graph.opset_imports)
    functions = [function.clone() for function in model.functions.values()]
    return onnx_ir.Model(graph, ir_version=model.ir_version, functions=functions)


@dataclass(frozen=True)
class Snapshot:
    """What the main graph of a model holds, to compare rewritten copies of the model with.

    Attributes:
        nodes: Each node, serialized.
        constants: The tensor of each initializer. Copies of a model share their tensors, so
            constants are compared by identity.
    """

    nodes: frozenset[bytes]
    constants: Mapping[str, object]

    @classmethod
    def of(cls, model: onnx_ir.Model) -> Snapshot:
        """Look at a model."""
        constants = {name: value.const_value for name, value in model.graph.initializers.items()}
        return cls(frozenset(_serialized(node) for node in model.graph), constants)

    def moved_nodes(
        self, rewritten: onnx_ir.Model
    ) -> tuple[list[onnx_ir.Node], list[onnx_ir.Node]]:
        """The nodes of a rewritten copy whose outputs can have moved, each part in graph order.

        Returns:
            The nodes that were altered, are new or read another constant than before, with what
            lies between them; and the nodes after them, which are as they were.
        """
        altered: set[onnx_ir.Node] = set()
        moved: list[onnx_ir.Node] = []
        values: set[onnx_ir.Value] = set()
        for node in rewritten.graph:
            read = read_by(node)
            if any(map(self._is_other, read)) or _serialized(node) not in self.nodes:
                altered.add(node)
            elif not any(value in values for value in read):
                continue
            moved.append(node)
            values.update(node.outputs)
        for node in reversed(moved):
            readers = (reader for value in node.outputs for reader, _ in value.uses())
            if any(reader in altered for reader in readers):
                altered.add(node)
        return [n for n in moved if n in altered], [n for n in moved if n not in altered]

    def _is_other(self, value: onnx_ir.Value) -> bool:
        tensor = value.const_value
        return tensor is not None and self.constants.get(str(value.name)) is not tensor


def border_of(nodes: Collection[onnx_ir.Node]) -> list[onnx_ir.Value]:
    """The computed values that some of the nodes read and none of them computes, in order."""
    inside = set(nodes)
    found = {
        value: None
        for node in nodes
        for value in read_by(node)
        if value.producer() not in inside and value.const_value is None
    }
    return list(found)


def _serialized(node: onnx_ir.Node) -> bytes:
    return bytes(node_proto(node).SerializeToString(deterministic=True))


def read_by(node: onnx_ir.Node) -> list[onnx_ir.Value]:
    """Return the values a node reads, its branches included."""
    graphs = [
        graph
        for attribute in node.attributes.values()
        for graph in (
            [attribute.as_graph()]
            if attribute.type is onnx_ir.AttributeType.GRAPH
            else attribute.as_graphs()
            if attribute.type is onnx_ir.AttributeType.GRAPHS
            else []
        )
    ]
    inner = [
        value
        for graph in graphs
        for nested in graph
        for value in read_by(nested)
        if value.graph is not graph
    ]
    return [value for value in (*node.inputs, *inner) if value is not None]
