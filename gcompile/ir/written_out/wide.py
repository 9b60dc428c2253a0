"""Concatenation of very many tensors, as unrolled loops leave it."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir

from gcompile.ir.written_out.writer import Writer

MOST = 64
"""Tensors that one kernel puts together: each is code of its own."""


def concat(writer: Writer) -> Sequence[onnx_ir.Value] | None:
    """Put together what groups of at most `MOST` were put together to."""
    count = len(writer.node.inputs)
    if count <= MOST:
        return None
    axis = writer.integer("axis", 0)
    parts = [writer.input(index) for index in range(count)]
    while len(parts) > 1:
        parts = [
            writer.op("Concat", *group, axis=axis) if len(group) > 1 else group[0]
            for group in _batched(parts)
        ]
    return parts


def _batched(parts: list[onnx_ir.Value]) -> list[list[onnx_ir.Value]]:
    return [parts[start : start + MOST] for start in range(0, len(parts), MOST)]


RULES = {"Concat": concat}
