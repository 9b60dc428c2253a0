"""From a Relax module to native code: the order of TVM's passes, and where ours stand in it.

    inline regions → legalize with vector math → fold constants → fuse → schedule
    → move large weights out → name kernels by content → plan memory → compile kernels → link

Functions that gcompile emitted pass through untouched: they are marked opaque, so that nothing is
fused with them, and the schedule leaves them out. Kernels are compiled one by one, or found in the
store (see `cache`); the library is linked from their object files and the code that calls them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import tvm
from tvm import relax, tirx
from tvm.relax import vm_build
from tvm.target import Target

from gcompile.backends.object_store import ObjectStore
from gcompile.backends.tvm import fast_math, safe_indexing
from gcompile.backends.tvm.cache import Kernel, compile_kernels, named_by_content
from gcompile.backends.tvm.declare import declaring_call
from gcompile.backends.tvm.fallback import FALLBACK_ATTRIBUTE
from gcompile.backends.tvm.long_functions import in_parts
from gcompile.backends.tvm.memory_plan import peak_memory_bytes
from gcompile.backends.tvm.schedule import CpuSchedule
from gcompile.backends.tvm.weights_file import Weights, move_weights_out
from gcompile.backends.tvm.wrapping import EMITTED_ATTRIBUTE
from gcompile.backends.weight_limits import WeightLimits
from gcompile.runtime.load import AMX_PERMISSION_FUNCTION

_OPAQUE = 8
"""TVM's number for functions that nothing may be fused with (`OpPatternKind::kOpaque`)."""

_CONFIG = {"tirx.disable_storage_rewrite": True}
"""Storage rewriting would let a kernel overwrite its own input in functions of several kernels: it
checks for that store by store, and does not look through values held in registers."""


@dataclass(frozen=True)
class CompiledModule:
    """A module as native code.

    Attributes:
        weights: What the entry takes after the model's inputs.
        peak_memory_bytes: Of activations, while the entry runs.
    """

    executable: relax.vm_build.VMExecutable
    weights: Weights
    peak_memory_bytes: int


def build_module(
    module: tvm.IRModule,
    target: Target,
    threads: int,
    store: ObjectStore | None = None,
    limits: WeightLimits = WeightLimits(),  # noqa: B008 - it is frozen
    called: Mapping[str, Kernel] = MappingProxyType({}),
) -> CompiledModule:
    """Compile a module whose entry is `main`.

    Args:
        module: `main`, the kernels it calls, and the private functions of fallback regions.
        target: The LLVM target.
        threads: Threads the generic schedule divides work among; emitted kernels have their own.
        store: Where compiled kernels are kept between builds.
        limits: Which weights are written to a file of their own.
        called: What functions of the module call by name, besides its own.
    """
    with target, tvm.transform.PassContext(opt_level=3, config=_CONFIG):
        module = _optimized(module, CpuSchedule.for_target(target, threads))
        module, weights = move_weights_out(module, limits.file_bytes, limits.each_bytes)
        module, kernels = named_by_content(module, exported=[AMX_PERMISSION_FUNCTION])
        planned = relax.get_pipeline("default")(module)
        objects = compile_kernels({**kernels, **called}, target, _CONFIG, store)
        executable = _linked(planned, objects, target)
    return CompiledModule(executable, weights, peak_memory_bytes(planned, called))


def _optimized(module: tvm.IRModule, schedule: CpuSchedule) -> tvm.IRModule:
    passes = [
        relax.transform.InlinePrivateFunctions(),
        relax.transform.DecomposeOpsForInference(),
        relax.transform.CanonicalizeBindings(),
        relax.transform.DeadCodeElimination(),
        relax.transform.LegalizeOps(fast_math.legalizations() | safe_indexing.legalizations()),
        relax.transform.AnnotateTIROpPattern(),
        relax.transform.FoldConstant(),
        relax.transform.FuseOps(),
        relax.transform.FuseTIR(),
        relax.transform.DeadCodeElimination(),
    ]
    return _scheduled(tvm.transform.Sequential(passes)(_marked(module)), schedule)


def _linked(
    module: tvm.IRModule, objects: Mapping[str, bytes], target: Target
) -> relax.vm_build.VMExecutable:
    """Compile what calls the kernels, and put the kernels' object files beside it."""
    builder = relax.ExecBuilder()
    # Compiled mode starts a kernel in half the time that bytecode takes.
    code = vm_build._vmcodegen(builder, module, "compiled")
    callers: dict[tvm.ir.GlobalVar, tirx.PrimFunc] = {}
    for variable, function in code.functions_items():
        if isinstance(function, tirx.PrimFunc) and variable.name_hint not in objects:
            whole, parts = in_parts(variable.name_hint, function)
            callers[variable] = _declaring(whole, [*objects, *parts])
            for name, part in parts.items():
                callers[tvm.ir.GlobalVar(name)] = _declaring(part, objects)
    return vm_build._vmlink(
        builder,
        target,
        tvm.IRModule(callers, attrs=code.attrs),
        ext_libs=[_static_library(name, content) for name, content in objects.items()],
    )


def _declaring(caller: tirx.PrimFunc, kernels: Iterable[str]) -> tirx.PrimFunc:
    """Declare the kernels that a function calls; see `declare`."""
    calls = [tirx.Evaluate(declaring_call(name)) for name in kernels]
    if not calls:
        return caller
    never = tirx.IfThenElse(tirx.isnullptr(caller.params[0]), tirx.stmt_seq(*calls), None)
    return caller.with_body(tirx.stmt_seq(never, caller.body))


def _static_library(name: str, content: bytes) -> tvm.runtime.Module:
    with tempfile.TemporaryDirectory(prefix="gcompile-") as folder:
        path = Path(folder) / f"{name}.o"
        path.write_bytes(content)
        return tvm.runtime.load_static_library(str(path), [name])


def _marked(module: tvm.IRModule) -> tvm.IRModule:
    """Mark the functions that were emitted, before passes add others."""
    marked = module.clone()
    for variable, function in module.functions_items():
        if isinstance(function, tirx.PrimFunc) and FALLBACK_ATTRIBUTE not in function.attrs:
            marked[variable] = function.with_attrs(
                {EMITTED_ATTRIBUTE: True, "op_pattern": _OPAQUE}
            )
    return marked


def _scheduled(module: tvm.IRModule, schedule: CpuSchedule) -> tvm.IRModule:
    scheduled = module.clone()
    for variable, function in module.functions_items():
        if isinstance(function, tirx.PrimFunc) and EMITTED_ATTRIBUTE not in function.attrs:
            scheduled[variable] = schedule.apply(function)
    return scheduled
