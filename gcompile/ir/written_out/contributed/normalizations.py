"""Normalizations of rows, with the sums that are fused into them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np
import onnx_ir

from gcompile.ir.written_out.writer import Writer

Results = Sequence[onnx_ir.Value | None] | None


def skip_layer(writer: Writer) -> Results:
    """SkipLayerNormalization: that of input + skip + bias; the sum is the fourth output."""
    if _reads_statistics(writer):
        return None
    total = _sum(writer, (0, 1, 4))
    beta = [writer.input(3)] if writer.has(3) else []
    epsilon = writer.real("epsilon", 1e-12)
    result = writer.op("LayerNormalization", total, writer.input(2), *beta, epsilon=epsilon)
    return [result, None, None, total]


def skip_simplified(writer: Writer) -> Results:
    """SkipSimplifiedLayerNormalization: by the root mean square of input + skip + bias."""
    if _reads_statistics(writer):
        return None
    total = _sum(writer, (0, 1, 3))
    result = _by_root_mean_square(writer, total, writer.input(2), writer.real("epsilon", 1e-12))
    return [result, None, None, total]


def simplified(writer: Writer) -> Results:
    """SimplifiedLayerNormalization: by the root mean square of the last axis."""
    shape = writer.shape(0)
    if shape is None or _reads_statistics(writer):
        return None
    if writer.integer("axis", -1) not in (-1, len(shape) - 1):
        return None
    epsilon = writer.real("epsilon", 1e-5)
    return [_by_root_mean_square(writer, writer.input(0), writer.input(1), epsilon)]


def embed(writer: Writer) -> Results:
    """EmbedLayerNormalization: of the sum of the embeddings of words, places and segments."""
    shape = writer.shape(0)
    if shape is None:
        return None
    places = writer.constant(np.arange(shape[1])[None])
    if writer.has(8):
        places = writer.input(8)
    total = writer.op(
        "Add",
        writer.op("Gather", writer.input(2), writer.input(0)),
        writer.op("Gather", writer.input(3), places),
    )
    if writer.has(1) and writer.has(4):
        segments = writer.op("Gather", writer.input(4), writer.input(1))
        total = writer.op("Add", total, segments)
    epsilon = writer.real("epsilon", 1e-12)
    affine = writer.input(5), writer.input(6)
    result = writer.op("LayerNormalization", total, *affine, epsilon=epsilon)
    return [result, _lengths(writer, shape[0]), total]


def _lengths(writer: Writer, batch: int) -> onnx_ir.Value:
    """How many words of each row count: the mask's ones."""
    if not writer.has(7):
        return writer.constant(np.zeros(batch, np.int32))
    mask = writer.cast(writer.input(7), onnx_ir.DataType.INT32)
    return writer.op("ReduceSum", mask, writer.constant([1]), keepdims=0)


def _reads_statistics(writer: Writer) -> bool:
    """Say whether the mean or the deviation is read, which training needs."""
    return any(value.uses() or value.is_graph_output() for value in writer.node.outputs[1:3])


def _sum(writer: Writer, indices: Sequence[int]) -> onnx_ir.Value:
    values = [writer.input(index) for index in indices if writer.has(index)]
    return reduce(lambda left, right: writer.op("Add", left, right), values)


def _by_root_mean_square(
    writer: Writer, x: onnx_ir.Value, scale: onnx_ir.Value, epsilon: float
) -> onnx_ir.Value:
    square = writer.op("Mul", x, x)
    mean = writer.op("ReduceMean", square, writer.constant([-1]), keepdims=1)
    root = writer.op("Sqrt", writer.op("Add", mean, writer.number(epsilon, writer.dtype(0))))
    return writer.op("Mul", writer.op("Div", x, root), scale)


RULES = {
    "EmbedLayerNormalization": embed,
    "SimplifiedLayerNormalization": simplified,
    "SkipLayerNormalization": skip_layer,
    "SkipSimplifiedLayerNormalization": skip_simplified,
}
