"""Operators of ai.onnx.ml that are arithmetic on tensors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir

from gcompile.ir.written_out.writer import Writer

Results = Sequence[onnx_ir.Value | None] | None


def binarizer(writer: Writer) -> Results:
    """One above the threshold, else zero."""
    limit = writer.number(writer.real("threshold", 0.0), writer.dtype(0))
    return [writer.cast(writer.op("Greater", writer.input(0), limit), writer.dtype(0))]


def array_feature_extractor(writer: Writer) -> Results:
    """Columns of the last axis."""
    shape, columns = writer.shape(0), writer.shape(1)
    if shape is None or columns is None:
        return None
    index = writer.op("Reshape", writer.input(1), writer.constant(np.array([-1])))
    rows = shape if len(shape) > 1 else (1, *shape)
    x = writer.op("Reshape", writer.input(0), writer.constant(rows))
    return [writer.op("Gather", x, index, axis=len(rows) - 1)]


RULES = {"Binarizer": binarizer, "ArrayFeatureExtractor": array_feature_extractor}
