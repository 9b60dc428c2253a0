"""Writes what takes the place of one node."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir
from onnx_ir.tape import Tape

from gcompile.ir.constants import Array
from gcompile.ir.static.inline import hand_over, remove
from gcompile.ir.static.known import known_array

Attribute = int | float | str | Sequence[int] | onnx_ir.TensorProtocol


class Writer:
    """What a node reads, and a tape for what is written in its place.

    Attributes:
        node: The node that is replaced.
    """

    def __init__(self, node: onnx_ir.Node, opset: int) -> None:
        self.node, self.opset, self._tape = node, opset, Tape()

    def has(self, index: int) -> bool:
        """Say whether the node has this input."""
        return index < len(self.node.inputs) and self.node.inputs[index] is not None

    def input(self, index: int) -> onnx_ir.Value:
        """An input that the operator must have."""
        value = self.node.inputs[index]
        assert value is not None
        return value

    def shape(self, index: int) -> tuple[int, ...] | None:
        """The shape of an input where it is known."""
        return known_shape(self.node.inputs[index] if self.has(index) else None)

    def dtype(self, index: int) -> onnx_ir.DataType:
        """The type of an input."""
        return self.input(index).dtype or onnx_ir.DataType.FLOAT

    def known(self, index: int) -> Array | None:
        """The numbers of an input where constants decide them."""
        return known_array(self.node.inputs[index], self.opset) if self.has(index) else None

    def integer(self, name: str, default: int) -> int:
        """An attribute."""
        return self.node.attributes.get_int(name, default)

    def real(self, name: str, default: float) -> float:
        """An attribute."""
        return self.node.attributes.get_float(name, default)

    def text(self, name: str, default: str) -> str:
        """An attribute."""
        return self.node.attributes.get_string(name, default)

    def op(
        self, operator: str, *inputs: onnx_ir.Value | None, **attributes: Attribute
    ) -> onnx_ir.Value:
        """Write a node of one output."""
        return self._tape.op(operator, inputs, attributes or None)

    def constant(self, array: Array | Sequence[int]) -> onnx_ir.Value:
        """Write a constant; whole numbers are 64 bits wide."""
        return self.op("Constant", value=onnx_ir.tensor(np.asarray(array)))

    def number(self, value: float, dtype: onnx_ir.DataType) -> onnx_ir.Value:
        """Write a constant of one number."""
        return self.constant(np.array(value, dtype.numpy()))

    def cast(self, value: onnx_ir.Value, to: onnx_ir.DataType) -> onnx_ir.Value:
        """Write a conversion."""
        return self.op("Cast", value, to=int(to))

    def same(self, operator: str, *inputs: onnx_ir.Value | None) -> onnx_ir.Value:
        """Write a node with the attributes of the one that is replaced."""
        attributes = {name: attr.value for name, attr in self.node.attributes.items()}
        return self._tape.op(operator, inputs, attributes or None)

    def same_outputs(
        self, operator: str, count: int, *inputs: onnx_ir.Value | None
    ) -> Sequence[onnx_ir.Value]:
        """Write a node of several outputs with the attributes of the one that is replaced."""
        attributes = {name: attr.value for name, attr in self.node.attributes.items()}
        return self._tape.op_multi_out(operator, inputs, attributes or None, num_outputs=count)

    def several(
        self, operator: str, count: int, *inputs: onnx_ir.Value | None
    ) -> Sequence[onnx_ir.Value]:
        """Write a node of several outputs, without attributes."""
        return self._tape.op_multi_out(operator, inputs, num_outputs=count)

    def split(self, value: onnx_ir.Value, count: int, axis: int) -> list[onnx_ir.Value]:
        """Write equal parts of a value."""
        if count == 1:
            return [value]
        attributes: dict[str, Attribute] = {"axis": axis, "num_outputs": count}
        return list(self._tape.op_multi_out("Split", [value], attributes, num_outputs=count))

    def replace(self, results: Sequence[onnx_ir.Value | None]) -> None:
        """Let the results take the place of the node's outputs; None stands for an unused one."""
        graph, name = self.node.graph, self.node.name
        assert graph is not None
        for index, made in enumerate(self._tape.nodes):
            made.name = f"{name}::{index}"
            made.metadata_props.update(self.node.metadata_props)
            for number, result in enumerate(made.outputs):
                result.name = f"{name}::{index}::{number}"
        graph.insert_before(self.node, self._tape.nodes)
        for value, stand_in in zip(self.node.outputs, results, strict=False):
            if stand_in is not None and value.name:
                hand_over(self.node, value, stand_in)
        remove(self.node)


def known_shape(value: onnx_ir.Value | None) -> tuple[int, ...] | None:
    """The shape of a value where it is known."""
    if value is None or value.shape is None or not value.shape.is_static():
        return None
    return tuple(value.shape.numpy())


def is_small(shape: Sequence[int], most: int) -> bool:
    """Say whether a constant of this shape has at most `most` elements."""
    return math.prod(shape) <= most
