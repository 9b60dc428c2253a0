"""One graph of the model, region by region, as one Relax function."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
import tvm
from numpy.typing import NDArray
from tvm import relax

from gcompile import ir
from gcompile.backends.tvm.fallback import add_fallback
from gcompile.backends.tvm.kernels.amx import amx_permission
from gcompile.backends.tvm.kernels.spec import AnyKernel, Image, ProductKernel
from gcompile.backends.tvm.kernels.units import unit_named
from gcompile.backends.tvm.lowering.emission import Emission
from gcompile.backends.tvm.lowering.expressions import CannotEmitError
from gcompile.backends.tvm.lowering.memory import Memory
from gcompile.backends.tvm.lowering.placement import Layout, Placement, image_of, rows_image
from gcompile.backends.tvm.lowering.regions import lower_region
from gcompile.backends.tvm.lowering.requests import gather_requests
from gcompile.errors import CompileError
from gcompile.runtime.load import AMX_PERMISSION_FUNCTION

_VIEWS = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"})
_TO_CHANNELS_FIRST = {4: [0, 3, 1, 2], 3: [0, 2, 1]}
_TO_CHANNELS_LAST = {4: [0, 2, 3, 1], 3: [0, 2, 1]}


@dataclass(frozen=True)
class Lowered:
    """A model as a Relax module.

    Attributes:
        fallbacks: For each region without a kernel of ours, the reason.
        needs_amx: Some kernel uses AMX tiles, for which a process must ask.
    """

    module: tvm.IRModule
    fallbacks: dict[str, str]
    needs_amx: bool


def lower_model(model: ir.Model, vector_bits: int) -> Lowered:
    """Write the whole model as a Relax module whose entry is `main`.

    Args:
        model: A ready model, fused and tiled.
        vector_bits: Width of the target's vector registers.
    """
    builder = relax.BlockBuilder()
    emission = Emission(builder, vector_bits)
    lowering = _GraphLowering(emission, model.graph, "main", {})
    lowering.write_function(list(model.graph.inputs))
    module = builder.get()
    needs_amx = any(_uses_amx(kernel) for kernel in emission.functions)
    if needs_amx:
        module[AMX_PERMISSION_FUNCTION] = amx_permission(AMX_PERMISSION_FUNCTION)
    return Lowered(module, lowering.fallbacks, needs_amx)


def relax_dtype(value: ir.Value) -> str:
    """The element type Relax knows a value by."""
    dtype = (value.dtype or ir.DataType.FLOAT).numpy()
    return "uint16" if dtype.name == "bfloat16" else str(dtype.name)


@dataclass
class _GraphLowering:
    emission: Emission
    graph: ir.Graph
    name: str
    fallbacks: dict[str, str]

    def write_function(self, parameters: Sequence[ir.Value]) -> tvm.ir.GlobalVar:
        """Write the graph as a function of `parameters` that returns its outputs."""
        regions = ir.regions(self.graph)
        self.branches = {
            (node, attribute): self._write_branch(node, attribute)
            for region in regions
            for node in region.nodes
            if node.op_type == "If"
            for attribute in ("then_branch", "else_branch")
        }
        self.memory = Memory(self.emission, gather_requests(regions))
        variables = [
            relax.Var(f"p{i}", relax.TensorType(ir.static_shape(value), relax_dtype(value)))
            for i, value in enumerate(parameters)
        ]
        builder = self.emission.builder
        with builder.function(self.name, variables):
            for value, variable in zip(parameters, variables, strict=True):
                self.memory.put_rows(value, variable)
            if self.branches:
                self._write_body(regions)
                builder.emit_func_output(self._results())
            else:
                with builder.dataflow():
                    self._write_body(regions)
                    results = builder.emit_output(self._results())
                builder.emit_func_output(results)
        return builder.get().get_global_var(self.name)

    def _results(self) -> relax.Expr:
        results = [self._constant_or_plain(value) for value in self.graph.outputs]
        return results[0] if len(results) == 1 else relax.Tuple(results)

    def _constant_or_plain(self, value: ir.Value) -> relax.Expr:
        array = ir.constant_array(value)
        if array is not None and value not in self.memory.rows:
            self.memory.put_rows(value, self.emission.emit(self.emission.constant(array)))
        return self.memory.plain(value)

    def _write_body(self, regions: Sequence[ir.Region]) -> None:
        for region in regions:
            node = region.nodes[-1]
            if node.op_type == "If":
                self._call_branches(node)
            elif len(region.nodes) == 1 and self._write_move(node):
                continue
            else:
                self._write_region(region)

    def _write_region(self, region: ir.Region) -> None:
        try:
            lower_region(region, self.memory)
        except CannotEmitError as reason:
            self.fallbacks[region.name] = str(reason)
            self._write_fallback(region)

    def _write_fallback(self, region: ir.Region) -> None:
        """Let TVM's importer write the region, on plain tensors."""
        inputs = [value for value in region.inputs if not ir.is_constant(value)]
        outputs = [value for value in region.outputs if value.name]
        proto = _region_proto(region, inputs, outputs)
        builder = self.emission.builder
        function = add_fallback(builder, proto, f"fallback_{len(self.fallbacks)}")
        result = self.emission.emit(relax.Call(function, [self.memory.plain(v) for v in inputs]))
        for index, value in enumerate(outputs):
            is_tuple = len(outputs) > 1
            item = relax.TupleGetItem(result, index) if is_tuple else result
            self.memory.put_rows(value, self.emission.emit(item))

    def _write_move(self, node: ir.Node) -> bool:
        """Views, layout changes that our images make free, and concatenated channels."""
        if node.domain:
            return False
        if node.op_type in _VIEWS:
            return self._write_view(node)
        if node.op_type == "Transpose":
            return self._write_transpose(node)
        if node.op_type == "Concat":
            return self._write_concat(node)
        return False

    def _write_view(self, node: ir.Node) -> bool:
        source, result = node.inputs[0], node.outputs[0]
        if source is None or ir.is_constant(source):
            return False
        if result in self.memory.requests and self._view_image(source, result):
            return True
        placement = self.memory.tensor(source)
        image = replace(image_of_rows(result, placement.image.dtype), declared=placement.shape)
        self.memory.put(result, Placement(placement.var, Layout.ROWS, image))
        return True

    def _view_image(self, source: ir.Value, result: ir.Value) -> bool:
        """A view that only adds or drops an axis of size 1 keeps its channels-last image."""
        before, after = ir.static_shape(source), ir.static_shape(result)
        if source not in self.memory.images or {len(before), len(after)} != {3, 4}:
            return False
        if (*before[:2], 1, *before[2:]) != after and before != (*after[:2], 1, *after[2:]):
            return False
        placement = self.memory.images[source][0]
        self.memory.put(result, placement)
        return True

    def _write_transpose(self, node: ir.Node) -> bool:
        source, result = node.inputs[0], node.outputs[0]
        if source is None or ir.is_constant(source):
            return False
        rank = len(ir.static_shape(source))
        order = list(node.attributes.get_ints("perm", list(range(rank))[::-1]))
        if order == _TO_CHANNELS_FIRST.get(rank) and result in self.memory.requests:
            return self._reinterpret_rows(source, result)
        if order == _TO_CHANNELS_LAST.get(rank) and source in self.memory.images:
            return self._reinterpret_image(source, result)
        return False

    def _reinterpret_rows(self, source: ir.Value, result: ir.Value) -> bool:
        """(N, H, W, C) in logical order is the channels-last image of (N, C, H, W)."""
        rows = self.memory.tensor(source)
        exact = replace(image_of(result, Layout.CHANNELS_LAST), declared=rows.shape)
        if exact.channels != ir.static_shape(result)[1]:
            return False
        self.memory.put(result, Placement(rows.var, Layout.CHANNELS_LAST, exact))
        return True

    def _reinterpret_image(self, source: ir.Value, result: ir.Value) -> bool:
        placement = self.memory.images[source][0]
        image = placement.image
        if any(image.halo) or image.channels != ir.static_shape(source)[1]:
            return False
        rows = replace(image_of_rows(result, image.dtype), declared=placement.shape)
        self.memory.put(result, Placement(placement.var, Layout.ROWS, rows))
        return True

    def _write_concat(self, node: ir.Node) -> bool:
        """Channels-last images without padding concatenate along their last axis."""
        result = node.outputs[0]
        rank = len(ir.static_shape(result))
        values = [v for v in node.inputs if v is not None]
        if rank not in (3, 4) or node.attributes.get_int("axis") % rank != 1:
            return False
        if not all(v in self.memory.images for v in values):
            return False
        if any(ir.static_shape(v)[1] % 4 for v in values):
            return False
        parts = [self._without_halo(v) for v in values]
        shapes = [p.image.shape for p in parts]
        operands = [
            p.var if p.shape == shape else self.emission.emit(relax.op.reshape(p.var, shape))
            for p, shape in zip(parts, shapes, strict=True)
        ]
        variable = self.emission.emit(relax.op.concat(operands, axis=3))
        image = image_of(result, Layout.CHANNELS_LAST)
        self.memory.put(result, Placement(variable, Layout.CHANNELS_LAST, image))
        return True

    def _without_halo(self, value: ir.Value) -> Placement:
        for placement in self.memory.images[value]:
            if not any(placement.image.halo):
                return placement
        return self.memory.copy_without_halo(value)

    def _write_branch(self, node: ir.Node, attribute: str) -> _Branch:
        graph = node.attributes[attribute].as_graph()
        captured = _captured(graph)
        name = f"{self.name}_{node.name}_{attribute}"
        lowering = _GraphLowering(self.emission, graph, _identifier(name), self.fallbacks)
        return _Branch(lowering.write_function(captured), captured)

    def _call_branches(self, node: ir.Node) -> None:
        calls = []
        for attribute in ("then_branch", "else_branch"):
            branch = self.branches[node, attribute]
            arguments = [self.memory.plain(value) for value in branch.captured]
            calls.append(relax.Call(branch.function, arguments))
        condition = self.memory.plain(_not_none(node.inputs[0]))
        shape = ir.static_shape(node.inputs[0])
        if shape:
            condition = self.emission.emit(relax.op.reshape(condition, ()))
        result = self.emission.emit(relax.If(condition, *calls))
        outputs = [value for value in node.outputs if value.name]
        for index, value in enumerate(outputs):
            item = relax.TupleGetItem(result, index) if len(node.outputs) > 1 else result
            self.memory.put_rows(value, self.emission.emit(item))


def _uses_amx(kernel: AnyKernel) -> bool:
    return isinstance(kernel, ProductKernel) and unit_named(kernel.tile.unit).is_tiled


@dataclass(frozen=True)
class _Branch:
    """A branch of an If: its function, and the outer values it reads."""

    function: tvm.ir.GlobalVar
    captured: list[ir.Value]


def image_of_rows(value: ir.Value, dtype: str) -> Image:
    """The value in logical order, as an image of the stored type."""
    return rows_image(ir.static_shape(value), dtype)


def _region_proto(
    region: ir.Region, inputs: Sequence[ir.Value], outputs: Sequence[ir.Value]
) -> onnx.ModelProto:
    """The region as a small model of its own."""
    constants = [v for v in region.inputs if ir.is_constant(v)]
    graph = onnx.helper.make_graph(
        [ir.node_proto(node) for node in region.nodes],
        "region",
        [_value_info(value) for value in inputs],
        [_value_info(value) for value in outputs],
        [onnx.numpy_helper.from_array(_array(v), v.name) for v in constants],
    )
    opset = onnx.helper.make_opsetid("", ir.OPSET)
    return onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10)


def _value_info(value: ir.Value) -> onnx.ValueInfoProto:
    dtype = (value.dtype or ir.DataType.FLOAT).value
    return onnx.helper.make_tensor_value_info(value.name, dtype, ir.static_shape(value))


def _captured(graph: ir.Graph) -> list[ir.Value]:
    """The values of enclosing graphs that a subgraph reads, in order of first use."""
    own = set(graph.inputs)
    found: dict[ir.Value, None] = {}
    for node in graph:
        read = [v for v in node.inputs if v is not None and not ir.is_constant(v)]
        for attr in node.attributes.values():
            if attr.type is ir.AttributeType.GRAPH:
                read += _captured(attr.as_graph())
        found.update(dict.fromkeys(v for v in read if v not in own))
        own.update(node.outputs)
    direct = [v for v in graph.outputs if v not in own and not ir.is_constant(v)]
    found.update(dict.fromkeys(direct))
    return list(found)


def _identifier(text: str) -> str:
    return re.sub(r"\W", "_", text)


def _array(value: ir.Value) -> NDArray[np.generic]:
    array = ir.constant_array(value)
    if array is None:
        raise CompileError(f"The constant {value.name!r} has no data.")
    return array


def _not_none(value: ir.Value | None) -> ir.Value:
    if value is None:
        raise CompileError("An If node has no condition.")
    return value
