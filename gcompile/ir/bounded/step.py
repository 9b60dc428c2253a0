"""One node on the way of a buffer through the graph: what it reads, and what stands for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx_ir

from gcompile.ir.bounded.operators import BOUNDED, infer_outputs
from gcompile.ir.bounded.sizes import (
    NOT_BOUNDED,
    UNLIMITED,
    Bounded,
    Number,
    Numbers,
    Size,
    are_known,
    objects,
)
from gcompile.ir.constants import constant_array
from gcompile.ir.static.known import known_array
from gcompile.ir.written_out.writer import Attribute, Writer, known_shape

_INT64 = onnx_ir.DataType.INT64
_MOST_NUMBERS = 64
"""Elements of a tensor that may be a shape."""


@dataclass
class Tracked:
    """What is known of the values of a graph whose sizes are counted."""

    bounded: dict[onnx_ir.Value, Bounded] = field(default_factory=dict)
    numbers: dict[onnx_ir.Value, Numbers] = field(default_factory=dict)

    def of(self, value: onnx_ir.Value | None) -> Bounded:
        """Which axes of a value are bounded."""
        return self.bounded.get(value, NOT_BOUNDED) if value is not None else NOT_BOUNDED


@dataclass(frozen=True)
class Result:
    """What stands for an output.

    Attributes:
        value: None keeps the output of the node itself.
        numbers: Its elements, where it may be a shape.
    """

    bounded: Bounded = NOT_BOUNDED
    value: onnx_ir.Value | None = None
    numbers: Numbers | None = None


class CannotBoundError(Exception):
    """A node that cannot run on a buffer, with the reason."""


class Step(Writer):
    """Writes what takes the place of one node; every value written has its shape at once."""

    def __init__(self, node: onnx_ir.Node, opset: int, tracked: Tracked) -> None:
        super().__init__(node, opset)
        self.tracked = tracked

    def op(
        self, operator: str, *inputs: onnx_ir.Value | None, **attributes: Attribute
    ) -> onnx_ir.Value:
        """Write a node of one output, and infer its shape."""
        value = super().op(operator, *inputs, **attributes)
        return self._known(value)

    def same(self, operator: str, *inputs: onnx_ir.Value | None) -> onnx_ir.Value:
        """Write a node like the one that is replaced, and infer its shape."""
        return self._known(super().same(operator, *inputs))

    def same_outputs(
        self, operator: str, count: int, *inputs: onnx_ir.Value | None
    ) -> Sequence[onnx_ir.Value]:
        """Write a node of several outputs, and infer their shapes."""
        values = super().same_outputs(operator, count, *inputs)
        self._known(values[0])
        return values

    def bounding(
        self, operator: str, count: int, *inputs: onnx_ir.Value, **attributes: Attribute
    ) -> list[onnx_ir.Value]:
        """Write an operator of our own with `count` outputs."""
        values = self._tape.op_multi_out(
            operator, inputs, attributes, num_outputs=count, domain=BOUNDED
        )
        node = values[0].producer()
        assert node is not None
        for number, result in enumerate(values):
            result.name = f"{self.node.name}::{len(self._tape.nodes)}::{number}"
        infer_outputs(node)
        return list(values)

    def _known(self, value: onnx_ir.Value) -> onnx_ir.Value:
        node = value.producer()
        assert node is not None
        for number, result in enumerate(node.outputs):
            result.name = f"{self.node.name}::{len(self._tape.nodes)}::{number}"
        infer_node(node, self.opset)
        return value

    def bounded(self, index: int) -> Bounded:
        """Which axes of an input are bounded."""
        return self.tracked.of(self.node.inputs[index] if self.has(index) else None)

    def static(self, index: int) -> tuple[int, ...]:
        """The shape of an input that must be known."""
        shape = self.shape(index)
        if shape is None:
            raise CannotBoundError("the shape of what it reads is not known")
        return shape

    def axis(self, default: int, rank: int) -> int:
        """The attribute `axis`, from the front."""
        return self.integer("axis", default) % max(rank, 1)

    def numbers(self, index: int) -> Numbers:
        """The elements of an input that may be a shape, known or not."""
        value = self.input(index)
        if value in self.tracked.numbers:
            return self.tracked.numbers[value]
        array = known_array(value, self.opset)
        if array is not None:
            return objects(array)
        shape = self.static(index)
        if np.prod(shape, dtype=int) > _MOST_NUMBERS:
            raise CannotBoundError("a shape has few elements")
        found = np.empty(shape, object)
        for number, place in enumerate(np.ndindex(*shape)):
            found[place] = Number(UNLIMITED, f"{value.name}[{number}]")
        return found

    def size(self, index: int, place: int, number: Number, limit: int) -> Size:
        """The size that an element of an input says, at most `limit`."""
        flat = self.op("Reshape", self.cast(self.input(index), _INT64), self.constant([-1]))
        count = self.op("Gather", flat, self.constant([place]))
        count = self.op("Max", self.op("Min", count, self.constant([limit])), self.constant([0]))
        return Size(limit, number.key, count)

    def derived(self, size: Size, most: int, what: str, count: onnx_ir.Value) -> Size:
        """A size computed from another; `what` says how."""
        return Size(most, f"({size.key}{what})", count)

    def mask(self, size: Size, axis: int, rank: int) -> onnx_ir.Value:
        """True where elements along the axis count, in a shape that broadcasts."""
        shape = [-1 if i == axis else 1 for i in range(rank)]
        places = self.constant(np.arange(size.most).reshape(shape))
        return self.op("Less", places, size.count)

    def masked(
        self, value: onnx_ir.Value, axes: dict[int, Size], fill: float | int | bool
    ) -> onnx_ir.Value:
        """The value with `fill` where elements do not count."""
        shape, dtype = known_shape(value), value.dtype or onnx_ir.DataType.FLOAT
        assert shape is not None
        for axis, size in axes.items():
            mask = self.mask(size, axis, len(shape))
            value = self.op("Where", mask, value, self.number(fill, dtype))
        return value

    def fixed(self, numbers: Numbers) -> Result:
        """A tensor of numbers: a constant where all are known, else the node as it is."""
        if not are_known(numbers):
            return Result(numbers=numbers)
        dtype = (self.node.outputs[0].dtype or _INT64).numpy()
        return Result(value=self.constant(numbers.astype(dtype)), numbers=numbers)


Rule = Callable[[Step], Sequence[Result]]
"""What stands for the outputs of a node; it raises `CannotBoundError` where nothing does."""


def infer_node(node: onnx_ir.Node, opset: int) -> None:
    """Infer the shapes of one node's outputs from those of its inputs."""
    proto = onnx.NodeProto()
    proto.CopyFrom(onnx_ir.to_proto(node))
    names = [f"i{i}" if value is not None else "" for i, value in enumerate(node.inputs)]
    results = [f"o{i}" for i in range(len(node.outputs))]
    proto.ClearField("input")
    proto.ClearField("output")
    proto.input.extend(names)
    proto.output.extend(results)
    types, data = {}, {}
    for name, value in zip(names, node.inputs, strict=True):
        if value is None:
            continue
        shape = known_shape(value)
        dtype = (value.dtype or onnx_ir.DataType.FLOAT).value
        types[name] = onnx.helper.make_tensor_type_proto(dtype, shape)
        array = constant_array(value)
        if array is None:
            array = known_array(value, opset)
        if array is not None and array.size <= _MOST_NUMBERS:
            data[name] = onnx.numpy_helper.from_array(array)
    try:
        found = onnx.shape_inference.infer_node_outputs(
            onnx.defs.get_schema(node.op_type, opset, node.domain), proto, types, data,
            opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=10,
        )  # fmt: skip
    except (onnx.shape_inference.InferenceError, onnx.defs.SchemaError) as error:
        raise CannotBoundError("its shape does not follow from those of its inputs") from error
    for name, value in zip(results, node.outputs, strict=True):
        if name in found:
            sizes = onnx_ir.serde.deserialize_type_proto_for_shape(found[name])
            value.shape = sizes if sizes is not None else value.shape
            value.type = onnx_ir.serde.deserialize_type_proto_for_type(found[name]) or value.type
