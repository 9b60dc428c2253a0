"""Operators on single elements, and those that leave them as they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir

from gcompile.ir.written_out.writer import Writer, is_small

_FLOAT, _BOOL = onnx_ir.DataType.FLOAT, onnx_ir.DataType.BOOL
_MOST_ELEMENTS = 1 << 20
"""Elements of a constant that is made."""

Results = Sequence[onnx_ir.Value | None] | None


def is_infinite(writer: Writer) -> Results:
    """IsInf of one sign."""
    positive, negative = (bool(writer.integer(f"detect_{sign}", 1))
                          for sign in ("positive", "negative"))  # fmt: skip
    if positive and negative:
        return None
    x = writer.input(0)
    if not positive and not negative:
        return [writer.op("Less", x, x)]  # No number is less than itself: nothing is found.
    zero = writer.number(0, writer.dtype(0))
    signed = writer.op("Greater" if positive else "Less", x, zero)
    return [writer.op("And", writer.op("IsInf", x), signed)]


def extreme_of_truth(writer: Writer) -> Results:
    """The largest or smallest of truth values, as that of zeros and ones."""
    if writer.dtype(0) is not _BOOL:
        return None
    numbers = writer.cast(writer.input(0), _FLOAT)
    operator = writer.node.op_type
    extreme = writer.same(operator, numbers, *writer.node.inputs[1:])
    # Of nothing, the largest number is minus infinity, and the largest truth value is false.
    return [writer.op("Greater", extreme, writer.number(0.5, _FLOAT))]


def dropout(writer: Writer) -> Results:
    """What is kept is everything, outside of training and where nothing is dropped."""
    training, ratio = writer.known(2), writer.known(1)
    shape = writer.shape(0)
    if writer.has(2) and training is None:
        return None
    is_training = training is not None and bool(training.reshape(()))
    share = 0.5 if not writer.has(1) else None if ratio is None else float(ratio.reshape(()))
    if is_training and share != 0:
        return None
    outputs = [value for value in writer.node.outputs if value.name]
    if len(outputs) < 2 and not is_training:
        return None
    if shape is None or not is_small(shape, _MOST_ELEMENTS):
        return None
    kept = writer.op("Identity", writer.constant(np.ones(shape, bool)))
    return [writer.op("Identity", writer.input(0)), kept]


RULES = {
    "Dropout": dropout,
    "IsInf": is_infinite,
    "ReduceMax": extreme_of_truth,
    "ReduceMin": extreme_of_truth,
}
