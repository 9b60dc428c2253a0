"""RotaryEmbedding: pairs of numbers turned by angles that grow with their place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir

from gcompile.ir.written_out.writer import Writer

Results = Sequence[onnx_ir.Value | None] | None


def rotary(writer: Writer) -> Results:
    """(batch, length, heads · size) or (batch, heads, length, size); places as an offset or each.

    With cosines c and sines s of a place, a pair (a, b) becomes (a·c - b·s, b·c + a·s). A pair
    lies side by side where it is interleaved, half the turned size apart where not.
    """
    shape, places, cache = writer.shape(0), writer.shape(1), writer.shape(2)
    unusual = writer.integer("is_packed_batching", 0) or writer.real("scale", 1.0) != 1.0
    if shape is None or places is None or cache is None or unusual:
        return None
    turned, heads = 2 * cache[1], writer.integer("num_heads", 0)
    if len(shape) == 4:
        heads, length, size = shape[1:]
        x = writer.op("Transpose", writer.input(0), perm=[0, 2, 1, 3])
    else:
        length = shape[1]
        size = shape[2] // heads if heads else turned
        x = writer.op("Reshape", writer.input(0), writer.constant([shape[0], length, -1, size]))
    rotated = _turned(writer, x, turned, *_angles(writer, places, length))
    if turned < size:
        rest = _part(writer, x, turned, size)
        rotated = writer.op("Concat", rotated, rest, axis=-1)
    if len(shape) == 4:
        return [writer.op("Transpose", rotated, perm=[0, 2, 1, 3])]
    return [writer.op("Reshape", rotated, writer.constant(list(shape)))]


def _angles(
    writer: Writer, places: tuple[int, ...], length: int
) -> tuple[onnx_ir.Value, onnx_ir.Value]:
    """Cosines and sines of every place, for all heads."""
    chosen = writer.input(1)
    if len(places) == 1:
        chosen = writer.op("Add", chosen, writer.constant(np.arange(length)))
        chosen = writer.op("Unsqueeze", chosen, writer.constant([0]))
    cosine, sine = (
        writer.op("Unsqueeze", writer.op("Gather", writer.input(i), chosen), writer.constant([2]))
        for i in (2, 3)
    )
    return cosine, sine


def _turned(
    writer: Writer, x: onnx_ir.Value, turned: int, cosine: onnx_ir.Value, sine: onnx_ir.Value
) -> onnx_ir.Value:
    half, step = turned // 2, 1
    spans = (0, half), (half, turned)
    if writer.integer("interleaved", 0):
        spans, step = ((0, turned), (1, turned)), 2
    first, second = (_part(writer, x, start, end, step) for start, end in spans)
    parts = [
        writer.op("Sub", writer.op("Mul", first, cosine), writer.op("Mul", second, sine)),
        writer.op("Add", writer.op("Mul", second, cosine), writer.op("Mul", first, sine)),
    ]
    if step == 1:
        return writer.op("Concat", *parts, axis=-1)
    pairs = [writer.op("Unsqueeze", part, writer.constant([4])) for part in parts]
    flat = writer.constant([0, 0, 0, turned])
    return writer.op("Reshape", writer.op("Concat", *pairs, axis=-1), flat)


def _part(writer: Writer, x: onnx_ir.Value, start: int, end: int, step: int = 1) -> onnx_ir.Value:
    bounds = [writer.constant([number]) for number in (start, end, 3, step)]
    return writer.op("Slice", x, *bounds)


RULES = {"RotaryEmbedding": rotary}
