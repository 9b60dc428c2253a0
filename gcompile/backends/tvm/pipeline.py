"""From a Relax module to native code: the order of TVM's passes, and where ours stand in it.

    inline regions → legalize with vector math → fold constants → fuse → schedule → build

Functions that gcompile emitted pass through untouched: they are marked opaque, so that nothing is
fused with them, and the schedule leaves them out.
"""

from __future__ import annotations

from pathlib import Path

import tvm
from tvm import relax, tirx
from tvm.target import Target

from gcompile.backends.tvm import fast_math, safe_indexing
from gcompile.backends.tvm.fallback import FALLBACK_ATTRIBUTE
from gcompile.backends.tvm.schedule import CpuSchedule

_EMITTED = "gcompile.emitted"
_OPAQUE = 8
"""TVM's number for functions that nothing may be fused with (`OpPatternKind::kOpaque`)."""

_CONFIG = {"tirx.disable_storage_rewrite": True}
"""Storage rewriting would let a kernel overwrite its own input in functions of several kernels: it
checks for that store by store, and does not look through values held in registers."""


def build_module(
    module: tvm.IRModule, target: Target, threads: int
) -> relax.vm_build.VMExecutable:
    """Compile a module whose entry is `main`.

    Args:
        module: `main`, the kernels it calls, and the private functions of fallback regions.
        target: The LLVM target.
        threads: Threads the generic schedule divides work among; emitted kernels have their own.
    """
    schedule = CpuSchedule.for_target(target, threads)
    with target, tvm.transform.PassContext(opt_level=3, config=_CONFIG):
        module = _marked(module)
        module = tvm.transform.Sequential(
            [
                relax.transform.InlinePrivateFunctions(),
                relax.transform.DecomposeOpsForInference(),
                relax.transform.CanonicalizeBindings(),
                relax.transform.DeadCodeElimination(),
                relax.transform.LegalizeOps(
                    fast_math.legalizations() | safe_indexing.legalizations()
                ),
                relax.transform.AnnotateTIROpPattern(),
                relax.transform.FoldConstant(),
                relax.transform.FuseOps(),
                relax.transform.FuseTIR(),
                relax.transform.DeadCodeElimination(),
            ]
        )(module)
        # Compiled mode starts a kernel in half the time that bytecode takes.
        return relax.build(_scheduled(module, schedule), target=target, exec_mode="compiled")


def export(executable: relax.vm_build.VMExecutable, path: Path) -> None:
    """Link the code into a shared library that `gcompile.runtime` loads."""
    executable.export_library(str(path))


def _marked(module: tvm.IRModule) -> tvm.IRModule:
    """Mark the functions that were emitted, before passes add others."""
    marked = module.clone()
    for variable, function in module.functions_items():
        if isinstance(function, tirx.PrimFunc) and FALLBACK_ATTRIBUTE not in function.attrs:
            marked[variable] = function.with_attrs({_EMITTED: True, "op_pattern": _OPAQUE})
    return marked


def _scheduled(module: tvm.IRModule, schedule: CpuSchedule) -> tvm.IRModule:
    scheduled = module.clone()
    for variable, function in module.functions_items():
        if isinstance(function, tirx.PrimFunc) and _EMITTED not in function.attrs:
            scheduled[variable] = schedule.apply(function)
    return scheduled
