"""Operators that pick, place or mark elements by their position."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir

from gcompile.ir.written_out.writer import Writer, is_small, known_shape

_INT64 = onnx_ir.DataType.INT64
_SORTED_AS = {
    onnx_ir.DataType.INT16: onnx_ir.DataType.INT32,
    onnx_ir.DataType.UINT16: onnx_ir.DataType.INT32,
    onnx_ir.DataType.UINT32: onnx_ir.DataType.INT64,
}
_MOST_ELEMENTS = 1 << 20
"""Elements of a constant that is made."""

_MOST_STEPS = 4096
"""Steps of a running product, each of them a node."""

Results = Sequence[onnx_ir.Value | None] | None


def one_hot(writer: Writer) -> Results:
    """Compare each index with every position; those from the end count backward."""
    shape, depth = writer.shape(0), writer.known(1)
    if shape is None or depth is None:
        return None
    count = int(depth.reshape(()))
    axis = writer.integer("axis", -1) % (len(shape) + 1)
    index = writer.cast(writer.input(0), _INT64)
    zero, size = (writer.number(n, _INT64) for n in (0, count))
    from_start = writer.op("Where", writer.op("Less", index, zero),
                           writer.op("Add", index, size), index)  # fmt: skip
    positions = np.arange(count).reshape([-1] + [1] * (len(shape) - axis))
    column = writer.op("Unsqueeze", from_start, writer.constant([axis]))
    hit = writer.op("Equal", column, writer.constant(positions))
    scalar = writer.constant(np.zeros(1, np.int64))
    off, on = (writer.op("Squeeze", v, scalar) for v in writer.split(writer.input(2), 2, 0))
    return [writer.op("Where", hit, on, off)]


def compress(writer: Writer) -> Results:
    """What a known condition keeps."""
    condition = writer.known(1)
    if condition is None:
        return None
    x, axis = writer.input(0), writer.integer("axis", 0)
    if "axis" not in writer.node.attributes:
        x = writer.op("Reshape", x, writer.constant([-1]))
    kept = np.flatnonzero(condition)
    return [writer.op("Gather", x, writer.constant(kept), axis=axis)] if kept.size else None


def reverse_sequence(writer: Writer) -> Results:
    """Rows of (time, batch) in another order: those before the end of a sequence backward."""
    shape = writer.shape(0)
    if shape is None:
        return None
    time_axis = writer.integer("time_axis", 0)
    is_first = time_axis == 0
    steps, batch = shape[time_axis], shape[1 - time_axis]
    lengths = writer.op("Unsqueeze", writer.cast(writer.input(1), _INT64),
                        writer.constant([time_axis]))  # fmt: skip
    step = writer.constant(np.expand_dims(np.arange(steps), 1 - time_axis))
    last = writer.op("Sub", lengths, writer.constant([1]))
    source = writer.op("Where", writer.op("Less", step, lengths),
                       writer.op("Sub", last, step), step)  # fmt: skip
    number = np.expand_dims(np.arange(batch), time_axis)
    if is_first:
        row = writer.op("Add", writer.op("Mul", source, writer.constant([batch])),
                        writer.constant(number))  # fmt: skip
    else:
        row = writer.op("Add", source, writer.constant(number * steps))
    rows = writer.op("Reshape", writer.input(0), writer.constant([steps * batch, *shape[2:]]))
    picked = writer.op("Gather", rows, writer.op("Reshape", row, writer.constant([-1])))
    return [writer.op("Reshape", picked, writer.constant(shape))]


def eye_like(writer: Writer) -> Results:
    """A constant, as only the shape of the input counts."""
    shape = writer.shape(0)
    if shape is None or not is_small(shape, _MOST_ELEMENTS):
        return None
    dtype = onnx_ir.DataType(writer.integer("dtype", int(writer.dtype(0))))
    array = np.eye(shape[0], shape[1], writer.integer("k", 0)).astype(dtype.numpy())
    return [writer.op("Identity", writer.constant(array))]


def pad(writer: Writer) -> Results:
    """A computed number around the input is put where constants around it say so."""
    shape, after = writer.shape(0), known_shape(writer.node.outputs[0])
    pads = writer.known(1)
    if (
        shape is None
        or after is None
        or pads is None
        or writer.text("mode", "constant") != "constant"
    ):
        return None
    if not writer.has(2) or writer.known(2) is not None:
        return None
    named = writer.known(3)
    axes = range(len(shape)) if named is None else [int(a) for a in np.asarray(named)]
    inside = np.ones(after, bool)
    for axis, begin in zip(axes, np.asarray(pads)[: pads.size // 2], strict=True):
        place = np.arange(after[axis]) - int(begin)
        is_inside = (place >= 0) & (place < shape[axis])
        inside &= is_inside.reshape([-1] + [1] * (len(shape) - 1 - axis % len(shape)))
    if not is_small(after, _MOST_ELEMENTS):
        return None
    padded = writer.op("Pad", writer.input(0), writer.input(1), None,
                       writer.input(3) if writer.has(3) else None)  # fmt: skip
    scalar = writer.op("Reshape", writer.input(2), writer.constant(np.zeros(0, np.int64)))
    return [writer.op("Where", writer.constant(inside), padded, scalar)]


def cumulative_product(writer: Writer) -> Results:
    """Step after step along the axis."""
    shape, axis = writer.shape(0), writer.known(1)
    if shape is None or axis is None:
        return None
    along = int(axis.reshape(())) % len(shape)
    count = shape[along]
    if not 0 < count <= _MOST_STEPS:
        return None
    slices = writer.split(writer.input(0), count, along)
    if writer.integer("reverse", 0):
        slices = slices[::-1]
    products = slices[:1]
    for following in slices[1:]:
        products.append(writer.op("Mul", products[-1], following))
    if writer.integer("exclusive", 0):
        sizes = [1 if i == along else size for i, size in enumerate(shape)]
        products = [writer.constant(np.ones(sizes, writer.dtype(0).numpy())), *products[:-1]]
    if writer.integer("reverse", 0):
        products = products[::-1]
    if count == 1:
        return [writer.op("Identity", products[0])]
    return [writer.op("Concat", *products, axis=along)]


def tensor_scatter(writer: Writer) -> Results:
    """Write rows of a cache from a computed place on, which may wrap around."""
    cache, update = writer.shape(0), writer.shape(1)
    if cache is None or update is None:
        return None
    axis = writer.integer("axis", -2) % len(cache)
    row = writer.constant(np.arange(update[axis]).reshape([-1] + [1] * (len(cache) - 1 - axis)))
    if writer.has(2):
        start = [cache[0], *[1] * (len(cache) - 1)]
        first = writer.op("Reshape", writer.cast(writer.input(2), _INT64), writer.constant(start))
        row = writer.op("Add", first, row)
    if writer.text("mode", "linear") == "circular":
        row = writer.op("Mod", row, writer.constant([cache[axis]]))
    places = writer.op("Expand", row, writer.constant(update))
    return [writer.op("ScatterElements", writer.input(0), places, writer.input(1), axis=axis)]


def largest(writer: Writer) -> Results:
    """TopK of types that nobody sorts, as numbers of a type that holds them."""
    wide = _SORTED_AS.get(writer.dtype(0))
    if wide is None:
        return None
    values, places = writer.same_outputs(
        "TopK", 2, writer.cast(writer.input(0), wide), writer.input(1)
    )
    return [writer.cast(values, writer.dtype(0)), places]


RULES = {
    "Compress": compress,
    "EyeLike": eye_like,
    "OneHot": one_hot,
    "Pad": pad,
    "ReverseSequence": reverse_sequence,
    "TopK": largest,
}
NEWER_RULES = {"CumProd": cumulative_product, "TensorScatter": tensor_scatter}
