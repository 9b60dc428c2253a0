"""Gelu in its variants."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir

from gcompile.ir.written_out.writer import Writer


def gelu(writer: Writer) -> Sequence[onnx_ir.Value]:
    """Gelu: that of ONNX."""
    return [writer.op("Gelu", writer.input(0))]


def fast_gelu(writer: Writer) -> Sequence[onnx_ir.Value]:
    """FastGelu: with a tangent, of x + bias."""
    return [writer.op("Gelu", _biased(writer), approximate="tanh")]


def bias_gelu(writer: Writer) -> Sequence[onnx_ir.Value]:
    """BiasGelu: of x + bias."""
    return [writer.op("Gelu", _biased(writer))]


def quick_gelu(writer: Writer) -> Sequence[onnx_ir.Value]:
    """QuickGelu: x · sigmoid(alpha · x)."""
    alpha = writer.number(writer.real("alpha", 1.702), writer.dtype(0))
    gate = writer.op("Sigmoid", writer.op("Mul", writer.input(0), alpha))
    return [writer.op("Mul", writer.input(0), gate)]


def _biased(writer: Writer) -> onnx_ir.Value:
    if not writer.has(1):
        return writer.input(0)
    return writer.op("Add", writer.input(0), writer.input(1))


RULES = {
    "BiasGelu": bias_gelu,
    "FastGelu": fast_gelu,
    "Gelu": gelu,
    "QuickGelu": quick_gelu,
}
