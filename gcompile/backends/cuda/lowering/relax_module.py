"""A model as one Relax function whose calls are tensor functions, ready to become kernels.

Both branches of an If are computed and the result of one is taken, so that what is launched never
depends on values: the whole inference can be captured as one CUDA graph.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import tvm
from tvm import relax

from gcompile import ir
from gcompile.backends.tvm import safe_indexing
from gcompile.backends.tvm.fallback import add_fallback
from gcompile.backends.tvm.lowering.graph import region_proto
from gcompile.backends.tvm.lowering.memory import array_of
from gcompile.backends.tvm.operators import refuse_fallback
from gcompile.errors import CompileError

_CONFIG = {"tirx.disable_storage_rewrite": True}


def relax_module(model: ir.Model) -> tvm.IRModule:
    """Write a ready model, cut into regions, as a Relax module whose entry is `main`.

    Raises:
        CompileError: A region cannot be imported.
    """
    writer = _Writer(relax.BlockBuilder())
    graph = model.graph
    parameters = [
        relax.Var(f"p{i}", relax.TensorType(ir.static_shape(value), _dtype(value)))
        for i, value in enumerate(graph.inputs)
    ]
    with writer.builder.function("main", parameters):
        with writer.builder.dataflow():
            writer.values.update(zip(graph.inputs, parameters, strict=True))
            writer.write(graph)
            results = [writer.value(value) for value in graph.outputs]
            found = writer.builder.emit_output(relax.Tuple(results))
        writer.builder.emit_func_output(found)
    return _optimized(writer.builder.get())


def _optimized(module: tvm.IRModule) -> tvm.IRModule:
    passes = [
        relax.transform.InlinePrivateFunctions(),
        relax.transform.DecomposeOpsForInference(),
        relax.transform.CanonicalizeBindings(),
        relax.transform.DeadCodeElimination(),
        relax.transform.LegalizeOps(safe_indexing.legalizations()),
        relax.transform.AnnotateTIROpPattern(),
        relax.transform.FoldConstant(),
        relax.transform.FuseOps(),
        relax.transform.FuseTIR(),
        relax.transform.RewriteDataflowReshape(),
        relax.transform.DeadCodeElimination(),
    ]
    with tvm.transform.PassContext(opt_level=3, config=_CONFIG):
        return tvm.transform.Sequential(passes)(module)


@dataclass
class _Writer:
    builder: relax.BlockBuilder
    values: dict[ir.Value, relax.Expr] = field(default_factory=dict)
    imported: int = 0

    def write(self, graph: ir.Graph) -> None:
        for region in ir.regions(graph):
            if region.nodes[-1].op_type == "If":
                self._write_if(region.nodes[-1])
            else:
                self._write_region(region)

    def value(self, value: ir.Value) -> relax.Expr:
        """The expression of a value; constants are put into the module."""
        if value not in self.values and ir.is_constant(value):
            self.values[value] = self.builder.emit(relax.const(array_of(value)))
        return self.values[value]

    def _write_region(self, region: ir.Region) -> None:
        for node in region.nodes:
            refuse_fallback(node)
        inputs = [value for value in region.inputs if not ir.is_constant(value)]
        outputs = [value for value in region.outputs if value.name]
        proto = region_proto(region, inputs, outputs)
        function = add_fallback(self.builder, proto, f"region_{self.imported}")
        self.imported += 1
        result = self.builder.emit(relax.Call(function, [self.value(v) for v in inputs]))
        for index, value in enumerate(outputs):
            item = relax.TupleGetItem(result, index) if len(outputs) > 1 else result
            self.values[value] = self.builder.emit(item)

    def _write_if(self, node: ir.Node) -> None:
        branches = [node.attributes[name].as_graph() for name in ("then_branch", "else_branch")]
        for branch in branches:
            self.write(branch)
        condition = node.inputs[0]
        if condition is None:
            raise CompileError("An If node has no condition.")
        for output, *results in zip(node.outputs, *(b.outputs for b in branches), strict=True):
            shapes = {ir.static_shape(result) for result in results}
            if len(shapes) != 1:
                raise CompileError(
                    f"The branches of {node.name or 'an If'} give shapes {sorted(shapes)}, and "
                    "the shape of a value must not depend on values; rewrite the model."
                )
            chosen = [self.value(result) for result in results]
            flag = relax.op.reshape(self.value(condition), ())
            self.values[output] = self.builder.emit(relax.op.where(flag, *chosen))


def _dtype(value: ir.Value) -> str:
    return str((value.dtype or ir.DataType.FLOAT).numpy().name)
