"""gcompile behind ONNX's own backend interface, as its conformance tests call it.

    from gcompile.backends.onnx_backend import GcompileBackend
    outputs = GcompileBackend.run_model(model, inputs)

A model is compiled when its inputs are known: their shapes are those of the code. Inputs whose
values decide a shape (the second one of Reshape, say) are bound to the values they have, and other
values mean other code. Inputs without elements have one value only, and are always bound to it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
from onnx import NodeProto, TypeProto, helper
from onnx.backend.base import Backend, BackendRep

from gcompile import ir, runtime
from gcompile.backends.code import generate
from gcompile.backends.onnx_values import Returned, as_given
from gcompile.backends.tvm.operators import refuse_early, refuse_unsupported
from gcompile.backends.write_artifact import write_artifact
from gcompile.energy import Roofline
from gcompile.errors import (
    CompileError,
    GcompileError,
    InvalidModelError,
    UnsupportedOperatorsError,
    UsageError,
)
from gcompile.passes import PassContext, Pipeline
from gcompile.passes.fuse.fuse_attention import FuseAttention
from gcompile.passes.fuse.merge_launches import MergeLaunches
from gcompile.passes.pipelines import canonicalize_pipeline, fuse_pipeline
from gcompile.passes.precision import WidenFloat16
from gcompile.passes.tile.apply_winograd import ApplyWinograd
from gcompile.passes.tile.tile_depth_first import TileDepthFirst
from gcompile.passes.tile.tile_regions import TileRegions
from gcompile.runtime.entry_point import TensorSpec
from gcompile.targets import Target, load_target

_PASSES = Pipeline(
    "exact",
    (
        WidenFloat16(),
        canonicalize_pipeline(),
        fuse_pipeline(),
        TileRegions(),
        FuseAttention(),
        ApplyWinograd(),
        TileDepthFirst(),
        MergeLaunches(),
    ),
)
"""What every compilation does that changes no precision."""

_TEXT = "OSU"
"""Kinds of arrays of strings, which are refused by the operators that read them."""
_HALF = (ir.DataType.BFLOAT16, ir.DataType.FLOAT16)
_LARGEST_BOUND = 4096
"""Elements of an input that may be a shape, an axis, or a number of repetitions."""

_FLOATS_DECIDE = {
    "Dropout": (1,), "MelWeightMatrix": (3, 4), "OneHot": (1,), "Range": (0, 1, 2),
    "Resize": (1, 2), "Upsample": (1,),
}  # fmt: skip
"""Operators with floats that decide what is computed, as shapes do, and which inputs those are."""


@dataclass
class CompiledModel(BackendRep):  # type: ignore[misc]
    """A model whose code is made when it is run.

    Attributes:
        bound: Inputs that were bound to their values in the last run.
    """

    model: onnx.ModelProto
    target: Target
    threads: int = 1
    bound: tuple[str, ...] = ()
    _codes: dict[object, runtime.Runner] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Remember what the outputs are."""
        self._returned = Returned(self.model)

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Run on the values of all inputs in order, or by name; return the outputs in order.

        A sequence is a list of arrays, and an optional without a value None.

        Raises:
            UsageError: There is another number of inputs.
            GcompileError: The model cannot be compiled.
        """
        given = {name: as_given(value) for name, value in self._by_name(inputs).items()}
        arrays = ir.take_elements(self._model(), given)
        self.bound = ()
        try:
            runner = self._runner(arrays, given)
        except (InvalidModelError, CompileError, UnsupportedOperatorsError) as error:
            runner = self._bound_runner(arrays, given, error)
        kept = {name: array for name, array in arrays.items() if name in _names(runner.inputs)}
        return self._returned.gathered(runner.run(kept))

    def _model(self) -> ir.Model:
        model: ir.Model = onnx_ir.from_proto(self.model)
        return model

    def _bound_runner(
        self, arrays: dict[str, Any], given: dict[str, Any], error: GcompileError
    ) -> runtime.Runner:
        """Bind what may decide a shape: whole numbers, then scales, then single numbers."""
        numbers = tuple(name for name, array in arrays.items() if _may_be_shape(array, "iub"))
        scales = tuple(
            name
            for name, array in arrays.items()
            if name in self._deciding() and _may_be_shape(array, "iubf")
        )
        scalars = tuple(name for name, array in arrays.items() if not array.ndim)
        for more in (numbers, (*numbers, *scales), (*numbers, *scales, *scalars)):
            bound = tuple(dict.fromkeys(more))
            if bound == self.bound:
                continue
            self.bound = bound
            try:
                return self._runner(arrays, given)
            except (InvalidModelError, CompileError, UnsupportedOperatorsError) as next_error:
                error = next_error
        raise error

    def _deciding(self) -> set[str]:
        """What nodes read as scales, or as the ends of a range: floats that decide a shape."""
        return {
            node.input[index]
            for node in self.model.graph.node
            for index in _FLOATS_DECIDE.get(node.op_type, ())
            if index < len(node.input)
        }

    def _by_name(self, inputs: Any) -> dict[str, Any]:
        constant = {tensor.name for tensor in self.model.graph.initializer}
        names = [value.name for value in self.model.graph.input if value.name not in constant]
        if isinstance(inputs, dict):
            return {name: inputs[name] for name in names}
        given = list(inputs) if isinstance(inputs, Sequence) else [inputs]
        if len(given) != len(names):
            raise UsageError(f"The model takes {len(names)} inputs, and {len(given)} were given.")
        return dict(zip(names, given, strict=True))

    def _runner(self, arrays: dict[str, Any], given: dict[str, Any]) -> runtime.Runner:
        values = tuple((name, arrays[name].tobytes()) for name in self.bound)
        kinds = tuple((name, type(value), _length(value)) for name, value in given.items())
        key = (tuple((name, a.shape, a.dtype) for name, a in arrays.items()), values, kinds)
        if key not in self._codes:
            self._codes[key] = self._compiled(arrays, given)
        return self._codes[key]

    def _compiled(self, arrays: dict[str, Any], given: dict[str, Any]) -> runtime.Runner:
        model = self._model()
        ir.take_elements(model, given)
        ir.store_bytes(model)
        context = PassContext(self.target, Roofline(), 0, self.threads, None, None)
        if any(value.dtype in _HALF for value in model.graph.inputs):
            ir.infer_shapes(model)  # Opset 21 has fewer operators for 16-bit floats.
            WidenFloat16().run(model, context)
        fixed = {
            name
            for name, array in arrays.items()
            if (name in self.bound or not array.size) and array.dtype.kind not in _TEXT
        }
        for value in [v for v in model.graph.inputs if v.name in fixed]:
            model.graph.inputs.remove(value)
            value.const_value = ir.tensor(arrays[str(value.name)], name=value.name)
            model.graph.register_initializer(value)
        shapes = {n: a.shape for n, a in arrays.items() if n not in fixed}
        ready = ir.prepare(model, shapes)
        refuse_early(ready)
        _PASSES.apply(ready, context)
        refuse_unsupported(ready)
        code = generate(ready, self.target, self.threads)
        with tempfile.TemporaryDirectory(prefix="gcompile-") as folder:
            write_artifact({self.target.name: code}, Path(folder), model_name="model",
                           with_model=False)  # fmt: skip
            return runtime.load(folder)


class GcompileBackend(Backend):  # type: ignore[misc]
    """Compiles for the CPU of this machine."""

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> CompiledModel:
        """Take a model; `threads` is the only option."""
        return CompiledModel(model, load_target("cpu"), **kwargs)

    @classmethod
    def run_model(
        cls, model: onnx.ModelProto, inputs: Any, device: str = "CPU", **kwargs: Any
    ) -> tuple[Any, ...]:
        """Compile and run once."""
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(
        cls,
        node: NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[np.dtype[Any], tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """Compile and run one node of the newest opset that gcompile reads."""
        arrays = [np.asarray(array) for array in inputs]
        names = [name for name in node.input if name]
        graph = helper.make_graph(
            [node],
            "node",
            [_info(name, array) for name, array in zip(names, arrays, strict=True)],
            [helper.make_value_info(name, TypeProto()) for name in node.output if name],
        )
        opset = helper.make_opsetid("", ir.OPSET)
        model = onnx.shape_inference.infer_shapes(helper.make_model(graph, opset_imports=[opset]))
        return cls.run_model(model, arrays, device, **kwargs)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Only the CPU."""
        return device == "CPU"


def _names(specs: Sequence[TensorSpec]) -> set[str]:
    return {spec.name for spec in specs}


def _length(value: Any) -> int:
    return len(value) if isinstance(value, list) else 0


def _may_be_shape(array: Any, kinds: str) -> bool:
    return array.dtype.kind in kinds and array.ndim <= 1 and 0 < array.size <= _LARGEST_BOUND


def _info(name: str, array: Any) -> onnx.ValueInfoProto:
    dtype = helper.np_dtype_to_tensor_dtype(array.dtype)
    return helper.make_tensor_value_info(name, dtype, array.shape)
