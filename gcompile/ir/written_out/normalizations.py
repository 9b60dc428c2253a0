"""Normalizations: by the norm of a row, and by the batch that is given."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir

from gcompile.ir.written_out.writer import Writer

Results = Sequence[onnx_ir.Value | None] | None


def by_norm(writer: Writer) -> Results:
    """LpNormalization: x / |x|, and zero where the norm is."""
    axis = writer.constant([writer.integer("axis", -1)])
    norm = writer.op(
        "ReduceL1" if writer.integer("p", 2) == 1 else "ReduceL2",
        writer.input(0), axis, keepdims=1,
    )  # fmt: skip
    zero, one = (writer.number(n, writer.dtype(0)) for n in (0, 1))
    divisor = writer.op("Where", writer.op("Equal", norm, zero), one, norm)
    return [writer.op("Div", writer.input(0), divisor)]


def by_batch(writer: Writer) -> Results:
    """BatchNormalization in training: by the mean and variance of the batch.

    running = running · momentum + of the batch · (1 - momentum), where the variance is that of the
    population.
    """
    shape = writer.shape(0)
    if not writer.integer("training_mode", 0) or shape is None:
        return None
    axes = writer.constant([i for i in range(len(shape)) if i != 1])
    column = writer.constant([-1] + [1] * (len(shape) - 2))
    x, dtype = writer.input(0), writer.dtype(0)
    mean = writer.op("ReduceMean", x, axes, keepdims=1)
    centred = writer.op("Sub", x, mean)
    variance = writer.op("ReduceMean", writer.op("Mul", centred, centred), axes, keepdims=1)
    epsilon = writer.number(writer.real("epsilon", 1e-5), dtype)
    deviation = writer.op("Sqrt", writer.op("Add", variance, epsilon))
    scale, bias = (writer.op("Reshape", writer.input(i), column) for i in (1, 2))
    scaled = writer.op("Mul", writer.op("Div", centred, deviation), scale)
    momentum = writer.real("momentum", 0.9)
    flat = writer.constant(np.array([-1]))
    running = [
        writer.op(
            "Add",
            writer.op("Mul", writer.input(index), writer.number(momentum, writer.dtype(index))),
            writer.op("Mul", writer.op("Reshape", found, flat),
                      writer.number(1 - momentum, writer.dtype(index))),
        )
        for index, found in ((3, mean), (4, variance))
    ]  # fmt: skip
    return [writer.op("Add", scaled, bias), *running]


RULES = {"LpNormalization": by_norm, "BatchNormalization": by_batch}
