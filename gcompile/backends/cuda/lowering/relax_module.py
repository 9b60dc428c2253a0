"""A model as one Relax function whose calls are tensor functions, ready to become kernels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import tvm
from tvm import relax

from gcompile import ir
from gcompile.backends.cuda.lowering.kernel_call import KernelCall
from gcompile.backends.cuda.lowering.region_writer import RegionWriter, dtype_of
from gcompile.backends.tvm import safe_indexing
from gcompile.targets import Target

_CONFIG = {"tirx.disable_storage_rewrite": True}


@dataclass(frozen=True)
class Written:
    """A model as a module.

    Attributes:
        calls: What functions with `ANCHOR_ATTRIBUTE` stand for, by its value.
        fallbacks: Why a region with a product has no kernel of ours, by the region's name.
    """

    module: tvm.IRModule
    calls: Mapping[str, KernelCall]
    fallbacks: Mapping[str, str]


def relax_module(model: ir.Model, target: Target, arch: int) -> Written:
    """Write a ready model, cut into regions, as a Relax module whose entry is `main`.

    Args:
        model: The model.
        target: The GPU that tiles are chosen for.
        arch: Its architecture: 80 for sm_80.

    Raises:
        CompileError: A region cannot be imported.
    """
    writer = RegionWriter(relax.BlockBuilder(), target, arch)
    graph = model.graph
    parameters = [
        relax.Var(f"p{i}", relax.TensorType(ir.static_shape(value), dtype_of(value)))
        for i, value in enumerate(graph.inputs)
    ]
    with writer.builder.function("main", parameters):
        with writer.builder.dataflow():
            writer.values.update(zip(graph.inputs, parameters, strict=True))
            writer.write(graph)
            results = [writer.value(value) for value in graph.outputs]
            found = writer.builder.emit_output(relax.Tuple(results))
        writer.builder.emit_func_output(found)
    return Written(_optimized(writer.builder.get()), writer.calls, writer.fallbacks)


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
