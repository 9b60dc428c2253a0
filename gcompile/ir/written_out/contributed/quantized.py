"""Operators on quantized tensors: the plain operator between its decoded and encoded numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir

from gcompile.ir.written_out.writer import Writer

Results = Sequence[onnx_ir.Value | None] | None
Rule = Callable[[Writer], Results]


def binary(operator: str) -> Rule:
    """A rule for QLinearAdd and QLinearMul."""

    def rule(writer: Writer) -> Results:
        result = writer.op(operator, _decoded(writer, 0), _decoded(writer, 3))
        return [_encoded(writer, result, 6)]

    return rule


def unary(operator: str) -> Rule:
    """A rule for operators of one tensor, with the same attributes."""

    def rule(writer: Writer) -> Results:
        return [_encoded(writer, writer.same(operator, _decoded(writer, 0)), 3)]

    return rule


def softmax(writer: Writer) -> Results:
    """QLinearSoftmax; before opset 13 it is that of all axes from the given one on."""
    shape, axis = writer.shape(0), writer.integer("axis", -1)
    if shape is None or (writer.integer("opset", 13) < 13 and axis % len(shape) != len(shape) - 1):
        return None
    return [_encoded(writer, writer.op("Softmax", _decoded(writer, 0), axis=axis), 3)]


def pool(operator: str) -> Rule:
    """A rule for pools, of images whose channels may come last."""

    def rule(writer: Writer) -> Results:
        shape = writer.shape(0)
        if shape is None:
            return None
        x, is_last, axes = _decoded(writer, 0), writer.integer("channels_last", 0), len(shape)
        attributes = {
            name: attribute.value
            for name, attribute in writer.node.attributes.items()
            if name != "channels_last"
        }
        if is_last:
            x = writer.op("Transpose", x, perm=[0, axes - 1, *range(1, axes - 1)])
        result = writer.op(operator, x, **attributes)
        if is_last:
            result = writer.op("Transpose", result, perm=[0, *range(2, axes), 1])
        return [_encoded(writer, result, 3)]

    return rule


def concat(writer: Writer) -> Results:
    """QLinearConcat, whose own scale comes first."""
    decoded = [_decoded(writer, index) for index in range(2, len(writer.node.inputs), 3)]
    result = writer.op("Concat", *decoded, axis=writer.integer("axis", 0))
    return [_encoded(writer, result, 0)]


def where(writer: Writer) -> Results:
    """QLinearWhere."""
    chosen = writer.op("Where", writer.input(0), _decoded(writer, 1), _decoded(writer, 4))
    return [_encoded(writer, chosen, 7)]


def standard(operator: str) -> Rule:
    """A rule for operators that are those of ONNX."""
    return lambda writer: [writer.same(operator, *writer.node.inputs)]


def _decoded(writer: Writer, index: int) -> onnx_ir.Value:
    return writer.op("DequantizeLinear", *writer.node.inputs[index : index + 3])


def _encoded(writer: Writer, value: onnx_ir.Value, index: int) -> onnx_ir.Value:
    """By the scale at `index`, and the zero point after it; without one numbers are unsigned."""
    return writer.op("QuantizeLinear", value, *writer.node.inputs[index : index + 2])


RULES = {
    "DequantizeLinear": standard("DequantizeLinear"),
    "QLinearAdd": binary("Add"),
    "QLinearAveragePool": pool("AveragePool"),
    "QLinearConcat": concat,
    "QLinearGlobalAveragePool": pool("GlobalAveragePool"),
    "QLinearLeakyRelu": unary("LeakyRelu"),
    "QLinearMul": binary("Mul"),
    "QLinearSigmoid": unary("Sigmoid"),
    "QLinearSoftmax": softmax,
    "QLinearWhere": where,
    "QuantizeLinear": standard("QuantizeLinear"),
}
