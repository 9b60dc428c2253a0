"""One graph of the model, region by region, as one Relax function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import tvm
from tvm import relax

from gcompile import ir
from gcompile.backends.tvm.cache import Kernel
from gcompile.backends.tvm.fallback import add_fallback
from gcompile.backends.tvm.kernels.amx import amx_permission
from gcompile.backends.tvm.kernels.batched import BatchedKernel
from gcompile.backends.tvm.kernels.spec import AnyKernel, ProductKernel
from gcompile.backends.tvm.kernels.units import unit_named
from gcompile.backends.tvm.lowering.chains import join_chains
from gcompile.backends.tvm.lowering.emission import Emission
from gcompile.backends.tvm.lowering.loops import Rounds, call_loop, write_rounds
from gcompile.backends.tvm.lowering.memory import Memory, array_of
from gcompile.backends.tvm.lowering.merge import merge_launches
from gcompile.backends.tvm.lowering.moves import without_conversions, write_move
from gcompile.backends.tvm.lowering.plain import write_plain
from gcompile.backends.tvm.lowering.region_expression import CannotEmitError
from gcompile.backends.tvm.lowering.regions import lower_region
from gcompile.backends.tvm.lowering.requests import gather_requests
from gcompile.backends.tvm.lowering.row_writes import only_spreads_numbers
from gcompile.backends.tvm.lowering.spill import Spill
from gcompile.backends.tvm.operators import refuse_fallback
from gcompile.backends.tvm.plain.code import PlainCode
from gcompile.backends.tvm.plain.kernels import plain_code
from gcompile.errors import CompileError
from gcompile.runtime.load import AMX_PERMISSION_FUNCTION


@dataclass(frozen=True)
class Lowered:
    """A model as a Relax module.

    Attributes:
        fallbacks: For each region without a kernel of ours, the reason.
        needs_amx: Some kernel uses AMX tiles, for which a process must ask.
        spill: Where its large constants lie.
        kernels: What functions of the module call by name, besides its own.
        whole: Why a chain is computed image by image after all, by its name.
    """

    module: tvm.IRModule
    fallbacks: dict[str, str]
    needs_amx: bool
    spill: Spill
    kernels: dict[str, Kernel]
    whole: dict[str, str]


def lower_model(model: ir.Model, vector_bits: int, cache_bytes: float) -> Lowered:
    """Write the whole model as a Relax module whose entry is `main`.

    Args:
        model: A ready model, fused and tiled.
        vector_bits: Width of the target's vector registers.
        cache_bytes: Size of the largest cache that a core has for itself.
    """
    builder = relax.BlockBuilder()
    emission = Emission(builder, vector_bits, int(cache_bytes))
    lowering = _GraphLowering(emission, model.graph, "main", {})
    lowering.write_function(list(model.graph.inputs))
    module, kernels, whole = builder.get(), dict[str, Kernel](), dict[str, str]()
    for name in [
        v.name_hint for v, f in module.functions_items() if isinstance(f, relax.Function)
    ]:
        joined = join_chains(module, name, emission.calls)
        kernels |= joined.kernels
        whole |= joined.whole
        module = merge_launches(joined.module, name, joined.calls)
    needs_amx = any(_uses_amx(kernel) for kernel in emission.functions)
    if needs_amx:
        module[AMX_PERMISSION_FUNCTION] = amx_permission(AMX_PERMISSION_FUNCTION)
    return Lowered(module, lowering.fallbacks, needs_amx, emission.spill, kernels, whole)


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
        loops = [node for region in regions for node in region.nodes if node.op_type == "Loop"]
        self.loops = {node: self._write_loop(node) for node in loops}
        self.memory = Memory(self.emission, gather_requests(regions))
        variables = [
            relax.Var(f"p{i}", relax.TensorType(ir.static_shape(value), relax_dtype(value)))
            for i, value in enumerate(parameters)
        ]
        builder = self.emission.builder
        with builder.function(self.name, variables):
            for value, variable in zip(parameters, variables, strict=True):
                self.memory.put_rows(value, variable)
            if self.branches or self.loops:
                self._write_body(regions)
                builder.emit_func_output(self._results())
            else:
                with builder.dataflow():
                    self._write_body(regions)
                    results = builder.emit_output(self._results())
                builder.emit_func_output(results)
        return builder.get().get_global_var(self.name)

    def _results(self) -> relax.Expr:
        results = [self.memory.plain(value) for value in self.graph.outputs]
        return results[0] if len(results) == 1 else relax.Tuple(results)

    def _write_body(self, regions: Sequence[ir.Region]) -> None:
        for region in regions:
            if only_spreads_numbers(region):
                continue
            self.emission.launch, self.emission.chain = region.launch, region.chain
            if region.nodes[-1].op_type == "If":
                self._call_branches(region.nodes[-1])
            elif region.nodes[-1].op_type == "Loop":
                node = region.nodes[-1]
                call_loop(node, self.loops[node], self.memory)
            else:
                self._write_region(region)
            self.emission.chain = None  # What brings its output elsewhere is no part of it.
            ir.give_back(region.inputs)

    def _write_region(self, region: ir.Region, whole: CannotEmitError | None = None) -> None:
        """Emit a region; `whole` says why the region it was cut from could not be."""
        if all(0 in ir.static_shape(value) for value in region.outputs):
            for value in region.outputs:
                nothing = np.zeros(ir.static_shape(value), relax_dtype(value))
                self.memory.put_rows(value, self.emission.constant(nothing))
            return
        code = plain_code(region.nodes[0]) if len(region.nodes) == 1 else None
        if isinstance(code, PlainCode):
            write_plain(code, self.memory)
            return
        move = ir.stored_move(region)
        if move is not None and write_move(move, self.memory):
            return
        try:
            lower_region(region, self.memory)
        except CannotEmitError as reason:
            parts = without_conversions(region)
            if len(parts) > 1:
                for part in parts:
                    self._write_region(part, whole or reason)
            else:
                self.fallbacks[region.name] = str(whole or reason)
                self._write_fallback(region)

    def _write_fallback(self, region: ir.Region) -> None:
        """Let TVM's importer write the region, on plain tensors."""
        for node in region.nodes:
            refuse_fallback(node)
        inputs = [value for value in region.inputs if not ir.is_constant(value)]
        outputs = [value for value in region.outputs if value.name]
        proto = region_proto(region, inputs, outputs)
        builder = self.emission.builder
        function = add_fallback(builder, proto, f"fallback_{len(self.fallbacks)}")
        result = self.emission.emit(relax.Call(function, [self.memory.plain(v) for v in inputs]))
        for index, value in enumerate(outputs):
            is_tuple = len(outputs) > 1
            item = relax.TupleGetItem(result, index) if is_tuple else result
            self.memory.put_rows(value, self.emission.emit(item))

    def _write_branch(self, node: ir.Node, attribute: str) -> _Branch:
        graph = node.attributes[attribute].as_graph()
        captured = _captured(graph)
        name = f"branch_{self.emission.branches}"
        self.emission.branches += 1
        lowering = _GraphLowering(self.emission, graph, name, self.fallbacks)
        return _Branch(lowering.write_function([*graph.inputs, *captured]), captured)

    def _write_loop(self, node: ir.Node) -> Rounds:
        body = node.attributes["body"].as_graph()
        branch = self._write_branch(node, "body")
        states = [(ir.static_shape(v), relax_dtype(v)) for v in body.inputs[2:]]
        captured = [(ir.static_shape(v), relax_dtype(v)) for v in branch.captured]
        return write_rounds(
            self.emission.builder, branch.function, node, states, captured, branch.captured
        )

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
    return (
        isinstance(kernel, ProductKernel | BatchedKernel) and unit_named(kernel.tile.unit).is_tiled
    )


@dataclass(frozen=True)
class _Branch:
    """A branch of an If: its function, and the outer values it reads."""

    function: tvm.ir.GlobalVar
    captured: list[ir.Value]


def region_proto(
    region: ir.Region, inputs: Sequence[ir.Value], outputs: Sequence[ir.Value]
) -> onnx.ModelProto:
    """The region as a small model of its own, its weights dequantized."""
    known = {v: array_of(v) for v in region.inputs if ir.is_constant(v)}
    nodes = []
    for node in region.nodes:
        results = ir.evaluate_node(node, ir.OPSET) if node.op_type == "DequantizeLinear" else None
        if results is None:
            nodes.append(ir.node_proto(node))
        else:
            known |= dict(zip(node.outputs, results, strict=True))
    read = {name for node in nodes for name in node.input}
    graph = onnx.helper.make_graph(
        nodes,
        "region",
        [_value_info(value) for value in inputs],
        [_value_info(value) for value in outputs],
        [
            onnx.numpy_helper.from_array(array, value.name)
            for value, array in known.items()
            if value.name in read
        ],
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


def _not_none(value: ir.Value | None) -> ir.Value:
    if value is None:
        raise CompileError("An If node has no condition.")
    return value
