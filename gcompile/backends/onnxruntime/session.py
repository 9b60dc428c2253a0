"""One ONNX Runtime session: opened on a model, run on one batch."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import onnx

from gcompile import ir
from gcompile.errors import BackendUnavailableError, RunError

if TYPE_CHECKING:
    import onnxruntime


_WIDENED = "/float32"
"""After the name of an input or output that is bfloat16 in the model."""


_FOLDER = "session.model_external_initializers_file_folder_path"


class Optimization(Enum):
    """Which graph optimisations ONNX Runtime may do."""

    NONE = "none: every node runs as it is written"
    FLOAT = "float: layouts and fusions of float nodes; Q/DQ nodes run as they are written"
    ALL = "all: Q/DQ groups become integer kernels"


def why_unavailable() -> str | None:
    """Say why ONNX Runtime cannot be used here; None when it can."""
    try:
        _import()
    except BackendUnavailableError as error:
        return str(error)
    return None


def open_session(
    proto: onnx.ModelProto,
    weights: Mapping[str, ir.Array],
    threads: int,
    optimization: Optimization,
    folder: str = "",
) -> onnxruntime.InferenceSession:
    """Open a model whose large weights come separately; they must outlive the session.

    Weights that the model leaves in a file are in `folder`, and are mapped. Where ONNX Runtime
    makes an invalid graph of Q/DQ groups, as it does of some networks of int8 inputs and uint8
    values after them, they run as they are written.

    Raises:
        RunError: ONNX Runtime cannot load the model.
        BackendUnavailableError: onnxruntime is not installed.
    """
    try:
        return _opened(proto, weights, threads, optimization, folder)
    except RunError:
        if optimization is not Optimization.ALL:
            raise
        return _opened(proto, weights, threads, Optimization.FLOAT, folder)


def _opened(
    proto: onnx.ModelProto,
    weights: Mapping[str, ir.Array],
    threads: int,
    optimization: Optimization,
    folder: str,
) -> onnxruntime.InferenceSession:
    ort = _import()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.graph_optimization_level = (
        ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        if optimization is Optimization.NONE
        else ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    )
    if optimization is Optimization.FLOAT:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    declared = {tensor.name: tensor.data_type for tensor in proto.graph.initializer}
    values = [
        ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, declared[name])
        for name, array in weights.items()
    ]
    if folder:
        options.add_session_config_entry(_FOLDER, folder)
        options.add_session_config_entry("session.disable_prepacking", "1")
    try:
        if values:
            options.add_external_initializers(list(weights), values)
        return ort.InferenceSession(
            _with_float_border(proto).SerializeToString(),
            options,
            providers=["CPUExecutionProvider"],
        )
    except Exception as error:
        raise RunError(f"ONNX Runtime cannot load the model: {_first_line(error)}") from error


def run_session(
    session: onnxruntime.InferenceSession, feeds: Mapping[str, ir.Array]
) -> dict[str, ir.Array]:
    """Run one batch and return the outputs by name.

    Raises:
        RunError: The run failed.
    """
    names = [output.name for output in session.get_outputs()]
    widened = {i.name.removesuffix(_WIDENED) for i in session.get_inputs() if _is_widened(i.name)}
    fed = {
        name + _WIDENED if name in widened else name:
            array.astype(np.float32) if name in widened else array
        for name, array in feeds.items()
    }  # fmt: skip
    try:
        results: Sequence[Any] = session.run(names, fed)
    except Exception as error:
        raise RunError(f"ONNX Runtime failed: {_first_line(error)}") from error
    return {
        name.removesuffix(_WIDENED): _narrowed(name, np.asarray(result))
        for name, result in zip(names, results, strict=True)
    }


def _is_widened(name: str) -> bool:
    return name.endswith(_WIDENED)


def _narrowed(name: str, result: ir.Array) -> ir.Array:
    return result.astype(ml_dtypes.bfloat16) if _is_widened(name) else result


def _with_float_border(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Take and give bfloat16 as float32, which holds it exactly; arrays of it do not pass."""
    bfloat16 = onnx.TensorProto.BFLOAT16
    border = [*proto.graph.input, *proto.graph.output]
    if all(value.type.tensor_type.elem_type != bfloat16 for value in border):
        return proto
    changed = onnx.ModelProto()
    changed.CopyFrom(proto)
    graph = changed.graph
    constants = {tensor.name for tensor in graph.initializer}
    for value in graph.input:
        if value.type.tensor_type.elem_type == bfloat16 and value.name not in constants:
            wide = value.name + _WIDENED
            graph.node.insert(0, onnx.helper.make_node("Cast", [wide], [value.name], to=bfloat16))
            value.type.tensor_type.elem_type, value.name = onnx.TensorProto.FLOAT, wide
    for value in graph.output:
        if value.type.tensor_type.elem_type == bfloat16:
            wide = value.name + _WIDENED
            cast = onnx.helper.make_node("Cast", [value.name], [wide], to=onnx.TensorProto.FLOAT)
            graph.node.append(cast)
            value.type.tensor_type.elem_type, value.name = onnx.TensorProto.FLOAT, wide
    return changed


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _import() -> Any:
    """Import onnxruntime with its telemetry off."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendUnavailableError(
            f"onnxruntime cannot be imported ({error}). Install it with: pip install onnxruntime"
        ) from error
    _share_memory(onnxruntime)
    return onnxruntime


@functools.cache
def _share_memory(ort: Any) -> None:
    """Let all sessions work in one arena: each alone would ask the system for its own, anew."""
    kind, memory = ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, ort.OrtMemType.DEFAULT
    ort.create_and_register_allocator(ort.OrtMemoryInfo("Cpu", kind, 0, memory), None)
