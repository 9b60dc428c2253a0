"""Sequences and optionals whose length is known become the tensors in them.

Nodes that make sequences stay until nothing reads them: what reads an element reads the tensor.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir
from onnx_ir.tape import Tape

from gcompile.ir.constants import add_constant
from gcompile.ir.static.inline import copied, hand_over, insert, remove
from gcompile.ir.static.known import known_array
from gcompile.ir.static.unroll import split, write

Values = list[onnx_ir.Value]


class Elements:
    """Follows what is in each sequence of a graph, node by node."""

    def __init__(self, graph: onnx_ir.Graph, opset: int) -> None:
        self.graph, self.opset = graph, opset
        self.of: dict[onnx_ir.Value, Values] = {}
        self.optional: dict[onnx_ir.Value, onnx_ir.Value | None] = {}

    def settle(self) -> int:
        """Replace every node that reads a known sequence; return how many were."""
        return sum(self._settle(node) for node in list(self.graph))

    def _settle(self, node: onnx_ir.Node) -> bool:
        if node.domain:
            return False
        if (makes := _MAKERS.get(node.op_type)) is not None:
            made = makes(self, node)
            if made is not None:
                self.of[node.outputs[0]] = made
            return False
        if node.op_type == "SequenceMap":
            return self._map(node)
        if node.op_type in ("Optional", "OptionalGetElement", "OptionalHasElement", "Identity"):
            return self._settle_optional(node)
        if (reads := _READERS.get(node.op_type)) is None or self._items(node, 0) is None:
            return False
        result = reads(self, node)
        return result is not None and self._replace(node, [result])

    def _replace(self, node: onnx_ir.Node, results: Values) -> bool:
        for value, result in zip(node.outputs, results, strict=True):
            hand_over(node, value, result)
        remove(node)
        return True

    def _items(self, node: onnx_ir.Node, index: int) -> Values | None:
        value = node.inputs[index] if index < len(node.inputs) else None
        return None if value is None else self.of.get(value)

    def _position(self, node: onnx_ir.Node, index: int, default: int) -> int | None:
        if index >= len(node.inputs) or node.inputs[index] is None:
            return default
        known = known_array(node.inputs[index], self.opset)
        return None if known is None else int(known.reshape(()))

    def _construct(self, node: onnx_ir.Node) -> Values:
        return [value for value in node.inputs if value is not None]

    def _insert(self, node: onnx_ir.Node) -> Values | None:
        items, value = self._items(node, 0), node.inputs[1]
        if items is None or value is None:
            return None
        place = self._position(node, 2, len(items))
        if place is None:
            return None
        place += len(items) if place < 0 else 0
        return [*items[:place], value, *items[place:]]

    def _erase(self, node: onnx_ir.Node) -> Values | None:
        items, place = self._items(node, 0), self._position(node, 1, -1)
        if items is None or place is None:
            return None
        place %= len(items)
        return items[:place] + items[place + 1 :]

    def _at(self, node: onnx_ir.Node) -> onnx_ir.Value | None:
        items, place = self._items(node, 0), self._position(node, 1, -1)
        return None if items is None or place is None else items[place]

    def _length(self, node: onnx_ir.Node) -> onnx_ir.Value:
        count = np.array(len(self._items(node, 0) or ()), np.int64)
        return add_constant(self.graph, f"{node.name}::length", count)

    def _concatenate(self, node: onnx_ir.Node) -> onnx_ir.Value | None:
        items = self._items(node, 0) or []
        if not items:
            return None
        axis, tape = node.attributes.get_int("axis", 0), Tape()
        if node.attributes.get_int("new_axis", 0):
            where = add_constant(self.graph, f"{node.name}::axis", np.array([axis]))
            items = [tape.op("Unsqueeze", [value, where]) for value in items]
        result = tape.op("Concat", items, {"axis": axis})
        write(tape, node, f"{node.name}::together")
        return result

    def _split(self, node: onnx_ir.Node) -> Values | None:
        value, axis = node.inputs[0], node.attributes.get_int("axis", 0)
        shape = value.shape if value is not None else None
        if value is None or shape is None or not isinstance(size := shape[axis], int):
            return None
        if len(node.inputs) < 2 or node.inputs[1] is None:
            if not node.attributes.get_int("keepdims", 1):
                return split(node, value, axis, size)
            sizes = [1] * size
        else:
            known = known_array(node.inputs[1], self.opset)
            if known is None:
                return None
            sizes = _sizes(known, size)
        tape = Tape()
        given = add_constant(self.graph, f"{node.name}::sizes", np.array(sizes))
        pieces = tape.op_multi_out(
            "Split", [value, given], {"axis": axis}, num_outputs=len(sizes)
        )  # fmt: skip
        write(tape, node, f"{node.name}::parts")
        return list(pieces)

    def _map(self, node: onnx_ir.Node) -> bool:
        """The body once for each element; its results are sequences again."""
        items = self._items(node, 0)
        if items is None or node.outputs[0] in self.of:
            return False
        columns: list[Values] = [[] for _ in node.outputs]
        for index in range(len(items)):
            arguments = []
            for value in node.inputs:
                others = None if value is None else self.of.get(value)
                arguments.append(value if others is None else others[index])
            made = copied(node.attributes["body"].as_graph(), arguments, f"{node.name}/{index}/")
            insert(made, node)
            for column, result in zip(columns, made.results, strict=True):
                column.append(result)
        made_nodes = []
        for value, column in zip(node.outputs, columns, strict=True):
            made_nodes.append(
                onnx_ir.Node("", "SequenceConstruct", column, name=f"{node.name}::{value.name}")
            )
            made_nodes[-1].outputs[0].type = value.type
            made_nodes[-1].outputs[0].name = f"{value.name}::mapped"
        self.graph.insert_before(node, made_nodes)
        for made_node, column in zip(made_nodes, columns, strict=True):
            self.of[made_node.outputs[0]] = column
        return self._replace(node, [made_node.outputs[0] for made_node in made_nodes])

    def _settle_optional(self, node: onnx_ir.Node) -> bool:
        value = node.inputs[0] if node.inputs else None
        if node.op_type in ("Optional", "Identity"):
            if node.op_type == "Optional":
                self.optional[node.outputs[0]] = value
            elif value in self.optional:
                self.optional[node.outputs[0]] = self.optional[value]
            if value in self.of:
                self.of[node.outputs[0]] = self.of[value]
            return False
        is_optional = value is not None and isinstance(value.type, onnx_ir.OptionalType)
        if is_optional and value not in self.optional:
            return False
        held = self.optional[value] if is_optional and value is not None else value
        if node.op_type == "OptionalGetElement":
            return held is not None and self._replace(node, [held])
        has = add_constant(self.graph, f"{node.name}::has", np.array(held is not None))
        return self._replace(node, [has])


def _sizes(given: np.ndarray[tuple[int, ...], np.dtype[np.generic]], size: int) -> list[int]:
    """The sizes of the parts: as given, or all alike but for the last."""
    if given.ndim:
        return [int(part) for part in given]
    part = int(given)
    return [min(part, size - start) for start in range(0, size, part)]


_MAKERS: dict[str, Callable[[Elements, onnx_ir.Node], Values | None]] = {
    "SequenceEmpty": lambda elements, node: [],
    "SequenceConstruct": Elements._construct,
    "SequenceInsert": Elements._insert,
    "SequenceErase": Elements._erase,
    "SplitToSequence": Elements._split,
}
_READERS: dict[str, Callable[[Elements, onnx_ir.Node], onnx_ir.Value | None]] = {
    "SequenceAt": Elements._at,
    "SequenceLength": Elements._length,
    "ConcatFromSequence": Elements._concatenate,
}


def return_elements(graph: onnx_ir.Graph, found: Elements) -> bool:
    """Return the tensors of a sequence instead of it: `name[0]`, `name[1]`, and so on."""
    returned: list[onnx_ir.Value] = []
    for value in list(graph.outputs):
        items = _returned(value, found)
        if items is None:
            returned.append(value)
            continue
        for index, item in enumerate(items):
            name = f"{value.name}[{index}]"
            copy = onnx_ir.Node("", "Identity", [item], name=name)
            copy.outputs[0].name, copy.outputs[0].type = name, item.type
            graph.append(copy)
            returned.append(copy.outputs[0])
    if returned == list(graph.outputs):
        return False
    graph.outputs.clear()
    graph.outputs.extend(returned)
    return True


def _returned(value: onnx_ir.Value, found: Elements) -> Values | None:
    """What a sequence or an optional holds, where the value is one and it is known."""
    if (items := found.of.get(value)) is not None:
        return items
    held = found.optional.get(value)
    if held is None:
        return None
    return found.of.get(held, [held])
