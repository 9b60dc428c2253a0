"""Products and convolutions with what is fused into them."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir

from gcompile.ir.written_out.writer import Attribute, Writer

Results = Sequence[onnx_ir.Value | None] | None
_FLOAT = onnx_ir.DataType.FLOAT


def matrix_product(writer: Writer) -> Results:
    """FusedMatMul: alpha · op(A) · op(B)."""
    if writer.integer("transBatchA", 0) or writer.integer("transBatchB", 0):
        return None
    operands = []
    for index, name in enumerate(("transA", "transB")):
        shape, operand = writer.shape(index), writer.input(index)
        if shape is None:
            return None
        if writer.integer(name, 0) and len(shape) > 1:
            order = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
            operand = writer.op("Transpose", operand, perm=order)
        operands.append(operand)
    product = writer.op("MatMul", *operands)
    alpha = writer.real("alpha", 1.0)
    if alpha != 1.0:
        product = writer.op("Mul", product, writer.number(alpha, writer.dtype(0)))
    return [product]


def gemm(writer: Writer) -> Results:
    """FusedGemm: an activation of a Gemm."""
    parameters = [writer.real(f"activation_{n}", 0.0) for n in ("alpha", "beta", "gamma")]
    result = writer.op("Gemm", *writer.node.inputs, **_others(writer))
    return _activated(writer, result, parameters)


def convolution(writer: Writer) -> Results:
    """FusedConv: an activation of a convolution plus a residual."""
    given = writer.node.attributes.get("activation_params")
    parameters = [float(number) for number in given.as_floats()] if given is not None else []
    result = writer.op("Conv", *writer.node.inputs[:3], **_others(writer))
    if writer.has(3):
        result = writer.op("Add", result, writer.input(3))
    return _activated(writer, result, parameters)


def _others(writer: Writer) -> dict[str, Attribute]:
    """Attributes that are not the activation's."""
    return {
        name: attribute.value
        for name, attribute in writer.node.attributes.items()
        if not name.startswith("activation")
    }


def _activated(writer: Writer, x: onnx_ir.Value, parameters: list[float]) -> Results:
    activation, dtype = writer.text("activation", ""), writer.dtype(0)
    alpha, beta, *_ = [*parameters, 0.0, 0.0]
    match activation:
        case "":
            return [x]
        case "Relu" | "Tanh" | "Sigmoid":
            return [writer.op(activation, x)]
        case "LeakyRelu":
            return [writer.op(activation, x, alpha=alpha)]
        case "HardSigmoid":
            return [writer.op(activation, x, alpha=alpha, beta=beta)]
        case "Clip":
            return [writer.op("Clip", x, *(writer.number(n, dtype) for n in (alpha, beta)))]
    return None


def integer_product(writer: Writer) -> Results:
    """MatMulIntegerToFloat: a product of integers, scaled."""
    scale = writer.op("Mul", writer.input(2), writer.input(3))
    product = _integers(writer, writer.input(0), _optional(writer, 4), 5)
    return [_biased(writer, writer.op("Mul", product, scale), 6)]


def dynamic_product(writer: Writer) -> Results:
    """DynamicQuantizeMatMul: the same, of an operand that is quantized by its own range."""
    x, scale, zero = writer.several("DynamicQuantizeLinear", 3, writer.input(0))
    product = _integers(writer, x, zero, 3)
    both = writer.op("Mul", scale, writer.input(2))
    return [_biased(writer, writer.op("Mul", product, both), 4)]


def _integers(
    writer: Writer, x: onnx_ir.Value, zero: onnx_ir.Value | None, weight_zero: int
) -> onnx_ir.Value:
    zeros = zero, _optional(writer, weight_zero)
    return writer.cast(writer.op("MatMulInteger", x, writer.input(1), *zeros), _FLOAT)


def _optional(writer: Writer, index: int) -> onnx_ir.Value | None:
    return writer.input(index) if writer.has(index) else None


def _biased(writer: Writer, x: onnx_ir.Value, index: int) -> onnx_ir.Value:
    return writer.op("Add", x, writer.input(index)) if writer.has(index) else x


def quantized_gemm(writer: Writer) -> Results:
    """QGemm: alpha · A · B + C of quantized operands, whose C is in steps of their scales."""
    transposed = bool(writer.integer("transB", 0))
    alpha = writer.real("alpha", 1.0)
    left = writer.op("DequantizeLinear", *writer.node.inputs[:3])
    axis = 0 if transposed else 1
    right = writer.op("DequantizeLinear", *writer.node.inputs[3:6], axis=axis)
    addend = []
    if writer.has(6):
        step = writer.op("Mul", writer.input(1), writer.input(4))
        step = writer.op("Mul", step, writer.number(alpha, _FLOAT))
        addend.append(writer.op("Mul", writer.cast(writer.input(6), _FLOAT), step))
    result = writer.op(
        "Gemm", left, right, *addend, alpha=alpha,
        transA=writer.integer("transA", 0), transB=int(transposed),
    )  # fmt: skip
    if writer.has(7):
        result = writer.op("QuantizeLinear", result, *writer.node.inputs[7:9])
    return [result]


RULES = {
    "DynamicQuantizeMatMul": dynamic_product,
    "FusedConv": convolution,
    "FusedGemm": gemm,
    "FusedMatMul": matrix_product,
    "MatMulIntegerToFloat": integer_product,
    "QGemm": quantized_gemm,
}
