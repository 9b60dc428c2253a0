"""Attention and MultiHeadAttention: products, a softmax and what is fused around them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir

from gcompile.ir.written_out.writer import Writer, known_shape

Results = Sequence[onnx_ir.Value | None] | None
_HIDDEN = -1e30
"""What is added to the scores of later places, in place of the least number."""


def attention(writer: Writer) -> Results:
    """Attention: of one input, whose queries, keys and values one product makes."""
    shape, bias = writer.shape(0), known_shape(_input(writer, 2))
    if shape is None or bias is None or writer.integer("do_rotary", 0):
        return None
    if any(writer.has(index) for index in (4, 6)) or _is_read(writer, 1):
        return None
    third = bias[0] // 3
    given = writer.node.attributes.get("qkv_hidden_sizes")
    sizes = list(given.as_ints()) if given is not None else [third, third, third]
    product = writer.op("MatMul", writer.input(0), writer.input(1))
    product = writer.op("Add", product, writer.input(2))
    ends = [0, *np.cumsum(sizes).tolist()]
    heads = writer.integer("num_heads", 1)
    parts = [_columns(writer, product, *span) for span in itertools.pairwise(ends)]
    query, key, value = (
        _heads(writer, part, shape[0], heads, size // heads)
        for part, size in zip(parts, sizes, strict=True)
    )
    extents = _Extents(shape[0], shape[1], shape[1], sizes[0] // heads)
    masks = _masks(writer, 3, 5, extents)
    if masks is None:
        return None
    context = _context(writer, (query, key, value), extents, masks)
    return [_merged(writer, context, shape[0], shape[1], sizes[2])]


def multi_head(writer: Writer) -> Results:
    """MultiHeadAttention: of queries, keys and values that are given, after others from before."""
    shapes = [writer.shape(index) for index in range(3)]
    query_shape, key_shape, value_shape = shapes
    if query_shape is None or key_shape is None or value_shape is None or len(query_shape) != 3:
        return None
    if writer.has(6) != writer.has(7) or writer.has(8) or _is_read(writer, 3):
        return None
    batch, length, hidden = query_shape
    heads = writer.integer("num_heads", 1)
    parts = [writer.input(index) for index in range(3)]
    widths = [hidden, hidden, value_shape[2] if len(value_shape) == 3 else 0]
    if writer.has(3):
        if len(key_shape) != 3 or len(value_shape) != 3:
            return None
        starts = (0, hidden, 2 * hidden)
        parts = [
            writer.op("Add", part, _elements(writer, writer.input(3), start, start + width))
            for part, start, width in zip(parts, starts, widths, strict=True)
        ]
    query, key, value = (
        _heads(writer, part, batch, heads, shape[2] // heads) if len(shape) == 3 else part
        for part, shape in zip(parts, (query_shape, key_shape, value_shape), strict=True)
    )
    total = key_shape[-2]
    if writer.has(6):
        past = writer.shape(6)
        if past is None:
            return None
        total += past[2]
        key, value = (
            writer.op("Concat", writer.input(index), part, axis=2)
            for index, part in ((6, key), (7, value))
        )
    extents = _Extents(batch, length, total, hidden // heads)
    masks = _masks(writer, 4, 5, extents)
    if masks is None:
        return None
    width = value_shape[2] if len(value_shape) == 3 else heads * value_shape[3]
    context = _context(writer, (query, key, value), extents, masks)
    return [_merged(writer, context, batch, length, width), key, value]


@dataclass(frozen=True)
class _Extents:
    """Sizes of one attention: `length` queries of `size` numbers to `total` keys."""

    batch: int
    length: int
    total: int
    size: int


def _masks(writer: Writer, mask: int, bias: int, extents: _Extents) -> list[onnx_ir.Value] | None:
    """What is added to the scores; None where the mask has another form."""
    added = [writer.input(bias)] if writer.has(bias) else []
    if writer.integer("unidirectional", 0):
        places = np.arange(extents.total) - (extents.total - extents.length)
        is_later = places > np.arange(extents.length)[:, None]
        dtype = writer.dtype(0).numpy()
        least = max(_HIDDEN, float(np.finfo(dtype).min) / 2)
        added.append(writer.constant(np.where(is_later, least, 0).astype(dtype)))
    if not writer.has(mask):
        return added
    shape = writer.shape(mask)
    counted = writer.cast(writer.input(mask), onnx_ir.DataType.INT64)
    if shape == (extents.batch,):
        places_row = writer.constant(np.arange(extents.total)[None])
        ends = writer.op("Unsqueeze", counted, writer.constant([1]))
        counts = writer.op("Less", places_row, ends)
        axes = [1, 2]
    elif shape == (extents.batch, extents.total):
        counts, axes = writer.cast(counted, onnx_ir.DataType.BOOL), [1, 2]
    elif shape == (extents.batch, extents.length, extents.total):
        counts, axes = writer.cast(counted, onnx_ir.DataType.BOOL), [1]
    else:
        return None
    low, zero = (
        writer.number(number, writer.dtype(0))
        for number in (writer.real("mask_filter_value", -10000.0), 0.0)
    )
    rows = writer.op("Unsqueeze", counts, writer.constant(axes))
    return [*added, writer.op("Where", rows, zero, low)]


def _context(
    writer: Writer,
    operands: tuple[onnx_ir.Value, onnx_ir.Value, onnx_ir.Value],
    extents: _Extents,
    masks: Sequence[onnx_ir.Value],
) -> onnx_ir.Value:
    """softmax(Q · Kᵀ · scale + masks) · V."""
    query, key, value = operands
    scale = writer.real("scale", 0.0) or 1 / math.sqrt(extents.size)
    transposed = writer.op("Transpose", key, perm=[0, 1, 3, 2])
    scores = writer.op("MatMul", query, transposed)
    scores = writer.op("Mul", scores, writer.number(scale, writer.dtype(0)))
    for mask in masks:
        scores = writer.op("Add", scores, mask)
    return writer.op("MatMul", writer.op("Softmax", scores, axis=-1), value)


def _heads(writer: Writer, x: onnx_ir.Value, batch: int, heads: int, size: int) -> onnx_ir.Value:
    rows = writer.op("Reshape", x, writer.constant([batch, -1, heads, size]))
    return writer.op("Transpose", rows, perm=[0, 2, 1, 3])


def _merged(
    writer: Writer, context: onnx_ir.Value, batch: int, length: int, width: int
) -> onnx_ir.Value:
    rows = writer.op("Transpose", context, perm=[0, 2, 1, 3])
    return writer.op("Reshape", rows, writer.constant([batch, length, width]))


def _columns(writer: Writer, x: onnx_ir.Value, start: int, end: int) -> onnx_ir.Value:
    return writer.op("Slice", x, *(writer.constant([n]) for n in (start, end, 2)))


def _elements(writer: Writer, x: onnx_ir.Value, start: int, end: int) -> onnx_ir.Value:
    return writer.op("Slice", x, *(writer.constant([n]) for n in (start, end, 0)))


def _input(writer: Writer, index: int) -> onnx_ir.Value | None:
    return writer.input(index) if writer.has(index) else None


def _is_read(writer: Writer, index: int) -> bool:
    return any(value.uses() or value.is_graph_output() for value in writer.node.outputs[index:])


RULES = {"Attention": attention, "MultiHeadAttention": multi_head}
