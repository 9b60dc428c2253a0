"""Weights that are mapped from a file: read, and not kept in memory."""

from __future__ import annotations

import mmap
from collections.abc import Iterable

import onnx_ir

from gcompile.ir.walk import all_graphs


def give_back(values: Iterable[onnx_ir.Value]) -> None:
    """Let the operating system have the memory of weights in files; it is read again if needed."""
    for value in values:
        tensor = value.const_value
        if isinstance(tensor, onnx_ir.ExternalTensor) and tensor.raw is not None:
            tensor.raw.madvise(mmap.MADV_DONTNEED)


def give_back_all(model: onnx_ir.Model) -> None:
    """The same for every weight of a model."""
    for graph in all_graphs(model):
        give_back(graph.initializers.values())
