"""A model as a program of launches."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import relax, tirx

from gcompile import ir
from gcompile.backends.cuda.launches import Copy, Program, Role, Value
from gcompile.backends.cuda.lowering.anchor import itemsize
from gcompile.backends.cuda.lowering.kernel_call import ANCHOR_ATTRIBUTE, KernelCall
from gcompile.backends.cuda.lowering.relax_module import relax_module
from gcompile.backends.cuda.tensor_ir.kernels import TensorKernel, kernels_of
from gcompile.backends.cuda.tensor_ir.nests import static_shape
from gcompile.errors import CompileError
from gcompile.targets import Target


@dataclass(frozen=True)
class Lowered:
    """A model as a program.

    Attributes:
        fallbacks: Why a region with a product has no kernel of ours, by the region's name.
    """

    program: Program
    fallbacks: Mapping[str, str]


def lower_model(model: ir.Model, target: Target, arch: int) -> Lowered:
    """Lower a ready model, cut into regions.

    Args:
        model: The model.
        target: The GPU that tiles are chosen for.
        arch: Its architecture: 80 for sm_80.

    Raises:
        CompileError: Some operator has no kernel.
    """
    written = relax_module(model, target, arch)
    reader = _Reader(written.module, written.calls)
    reader.read(written.module["main"])
    return Lowered(reader.program, written.fallbacks)


@dataclass
class _Reader:
    """Reads the calls of a Relax function as launches."""

    module: tvm.IRModule
    calls: Mapping[str, KernelCall]
    program: Program = field(default_factory=Program)
    values: dict[Any, Value] = field(default_factory=dict)
    tuples: dict[Any, list[Value]] = field(default_factory=dict)
    kernels: dict[str, list[TensorKernel]] = field(default_factory=dict)
    results: dict[Any, int] = field(default_factory=dict)

    def read(self, function: relax.Function) -> None:
        for index, parameter in enumerate(function.params):
            value = Value(_bytes(parameter.ty), Role.INPUT, index)
            self.values[parameter] = value
            self.program.inputs.append(value)
        bindings = [binding for block in function.body.blocks for binding in block.bindings]
        fields = _fields(function.body.body, bindings)
        self.results = _written_first(fields, bindings)
        self.program.outputs = [
            Value(_bytes(item.ty), Role.OUTPUT, index) for index, item in enumerate(fields)
        ]
        for binding in bindings:
            self._bind(binding.var, binding.value)
        for index, item in enumerate(fields):
            value = self._value(item)
            if value is not self.program.outputs[index]:
                self.program.actions.append(Copy(self.program.outputs[index], value))

    def _bind(self, variable: Any, value: Any) -> None:
        match value:
            case relax.Tuple():
                self.tuples[variable] = [self._value(item) for item in value.fields]
            case relax.TupleGetItem():
                self.values[variable] = self.tuples[value.tuple_value][int(value.index)]
            case relax.Call():
                self._call(variable, value)
            case _:
                self.values[variable] = self._value(value)

    def _call(self, variable: Any, call: relax.Call) -> None:
        name = str(call.op.name)
        if name == "relax.reshape":
            self.values[variable] = self._value(call.args[0])
            return
        if name != "relax.call_tir":
            raise CompileError(f"No CUDA kernel is known for {name}.")
        callee, arguments = call.args[0], [self._value(item) for item in call.args[1].fields]
        types = call.ty_args[0]
        if isinstance(types, relax.TupleType):
            results = [Value(_bytes(ty)) for ty in types.fields]
            self.tuples[variable] = results
        else:
            index = self.results.get(variable)
            result = Value(_bytes(types)) if index is None else self.program.outputs[index]
            self.values[variable] = result
            results = [result]
        self._launch(callee, [*arguments, *results])

    def _launch(self, callee: Any, values: list[Value]) -> None:
        function = self.module[callee]
        name = str(callee.name_hint)
        if ANCHOR_ATTRIBUTE in function.attrs:
            call = self.calls[str(function.attrs[ANCHOR_ATTRIBUTE])]
            operands = dict(zip(call.operands, values, strict=True))
            self.program.run_sequence(call.sequence, operands)
            return
        if name not in self.kernels:
            self.kernels[name] = kernels_of(function, name)
        known = dict(zip(function.params, values, strict=True))
        for item in self.kernels[name]:
            for tensor in item.tensors:
                if tensor not in known:
                    known[tensor] = Value(_tensor_bytes(tensor))
            self.program.launch(item.kernel, [known[tensor] for tensor in item.tensors])

    def _value(self, expression: Any) -> Value:
        if isinstance(expression, (relax.Var, relax.DataflowVar)):
            return self.values[expression]
        array = _array(expression)
        if array is None:
            raise CompileError(f"No CUDA kernel is known for {type(expression).__name__}.")
        return self.program.add_weight(array)


def _fields(result: Any, bindings: list[Any]) -> list[Any]:
    """The values that a function returns."""
    for binding in bindings:
        if binding.var.same_as(result):
            return _fields(binding.value, bindings)
    return list(result.fields)


def _written_first(fields: list[Any], bindings: list[Any]) -> dict[Any, int]:
    """The calls whose results may be written straight into an output, with that output."""
    found: dict[Any, int] = {}
    calls = {
        binding.var
        for binding in bindings
        if isinstance(binding.value, relax.Call) and binding.value.op.name == "relax.call_tir"
    }
    for index, item in enumerate(fields):
        if item in calls and item not in found:
            found[item] = index
    return found


def _array(expression: Any) -> NDArray[Any] | None:
    data = getattr(expression, "value", None)
    if data is None or not hasattr(data, "numpy"):
        return None
    array: NDArray[Any] = data.numpy()
    return np.ascontiguousarray(array)


def _bytes(ty: Any) -> int:
    if not isinstance(ty.shape, relax.ShapeExpr) or not all(
        isinstance(size, tirx.IntImm) for size in ty.shape.values
    ):
        raise CompileError("A tensor has no static shape; bind it with --shape.")
    count = math.prod(int(size) for size in ty.shape.values)
    return count * itemsize(str(ty.dtype))


def _tensor_bytes(tensor: Any) -> int:
    return math.prod(static_shape(tensor)) * itemsize(str(tensor.dtype))
