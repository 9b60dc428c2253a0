"""Compile a small ONNX graph through the fallback path and run it, here and in onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import tvm
from onnx import parser
from tvm import relax

from gcompile.backends.tvm.fallback import add_fallback
from gcompile.backends.tvm.pipeline import build_module
from tests.backends.tvm.kernels.compiling import target

Array = npt.NDArray[Any]

_HEADER = '<ir_version: 10, opset_import: ["" : 20]>\n'


def parse(text: str) -> onnx.ModelProto:
    """A model from the text of its graph."""
    return parser.parse_model(_HEADER + text)


def compile_region(proto: onnx.ModelProto, threads: int = 1) -> Any:
    """The compiled function: a module whose `main` calls the region."""
    compiled = build_module(calling(proto), target(), threads)
    return relax.VirtualMachine(compiled.executable, tvm.cpu())["main"]


def calling(proto: onnx.ModelProto) -> tvm.IRModule:
    """A module whose `main` only calls the region."""
    builder = relax.BlockBuilder()
    arguments = [
        relax.Var(item.name, relax.TensorType(shape, str(dtype)))
        for item, shape, dtype in _inputs(proto)
    ]
    region = add_fallback(builder, proto, "region")
    with builder.function("main", arguments):
        with builder.dataflow():
            result = builder.emit_output(builder.emit(relax.Call(region, arguments)))
        builder.emit_func_output(result)
    return builder.get()


def run_region(proto: onnx.ModelProto, inputs: list[Array], threads: int = 1) -> list[Array]:
    """Compile and run on the compiled code."""
    function = compile_region(proto, threads)
    result = function(*[tvm.runtime.tensor(array) for array in inputs])
    results = [result] if isinstance(result, tvm.runtime.Tensor) else list(result)
    return [np.asarray(item.numpy()) for item in results]


def reference(proto: onnx.ModelProto, inputs: list[Array]) -> list[Array]:
    """What onnxruntime makes of it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options)
    names = [item.name for item, _, _ in _inputs(proto)]
    outputs: list[Array] = session.run(None, dict(zip(names, inputs, strict=True)))
    return outputs


def random_inputs(proto: onnx.ModelProto, seed: int = 0) -> list[Array]:
    """Normal numbers for floats, small ones for integers, either for truth values."""
    rng = np.random.default_rng(seed)
    return [
        rng.standard_normal(shape).astype(dtype)
        if dtype.kind == "f"
        else rng.integers(0, 2, shape).astype(dtype)
        for _, shape, dtype in _inputs(proto)
    ]


def _inputs(
    proto: onnx.ModelProto,
) -> list[tuple[onnx.ValueInfoProto, list[int], np.dtype[Any]]]:
    constants = {item.name for item in proto.graph.initializer}
    return [
        (
            item,
            [dimension.dim_value for dimension in item.type.tensor_type.shape.dim],
            onnx.helper.tensor_dtype_to_np_dtype(item.type.tensor_type.elem_type),
        )
        for item in proto.graph.input
        if item.name not in constants
    ]
