"""Generate native code for a model, and write the artefact that holds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from gcompile import ir
from gcompile.backends.tvm import pipeline
from gcompile.backends.tvm.cache import ObjectStore
from gcompile.backends.tvm.llvm_target import (
    llvm_target,
    platform_of,
    required_isa,
    vector_bits,
)
from gcompile.backends.tvm.lowering.graph import lower_model
from gcompile.runtime.manifest import (
    WEIGHTS_NAME,
    FileRecord,
    Manifest,
    Scalar,
    TensorSpec,
)
from gcompile.runtime.weights import write_weights
from gcompile.targets import Target

LIBRARY = "model.so"
MODEL = "model.onnx"


@dataclass(frozen=True)
class NativeCode:
    """A model as machine code that is not on disk yet.

    Attributes:
        fallbacks: Regions that TVM's generic code runs instead of our kernels, with the reason.
    """

    module: pipeline.CompiledModule
    model: ir.Model
    target: Target
    threads: int
    needs_amx: bool
    fallbacks: Mapping[str, str]


def generate(
    model: ir.Model, target: Target, threads: int, store: ObjectStore | None = None
) -> NativeCode:
    """Compile a model.

    Args:
        model: A ready model, fused and tiled.
        target: The machine that will run it.
        threads: Most threads that work is divided among.
        store: Where compiled kernels are kept between builds; None keeps none.

    Raises:
        TargetError: Code for this target cannot be generated.
        CompileError: A region could be neither emitted nor imported.
    """
    llvm = llvm_target(target, threads)
    lowered = lower_model(model, vector_bits(target))
    module = pipeline.build_module(lowered.module, llvm, threads, store)
    return NativeCode(module, model, target, threads, lowered.needs_amx, lowered.fallbacks)


def write_artifact(
    code: NativeCode,
    folder: Path,
    *,
    model_name: str,
    status: str = "ok",
    seed: int = 0,
    with_model: bool = True,
) -> Manifest:
    """Write the library, its weights, the model and the manifest into an existing folder."""
    pipeline.export(code.module.executable, folder / LIBRARY)
    names = [LIBRARY]
    weights: tuple[TensorSpec, ...] = ()
    if code.module.weights:
        weights = write_weights(folder / WEIGHTS_NAME, code.module.weights)
        names.append(WEIGHTS_NAME)
    if with_model:
        ir.save(code.model, folder / MODEL)
        names += [path.name for path in sorted(folder.glob(f"{MODEL}*"))]
    manifest = Manifest(
        gcompile_version=version("gcompile"),
        tvm_version=version("apache-tvm"),
        model_name=model_name,
        target=code.target.name,
        status=status,
        platform=platform_of(code.target),
        isa_required=required_isa(code.target),
        threads=code.threads,
        inputs=tuple(_spec(value) for value in code.model.graph.inputs),
        outputs=tuple(_spec(value) for value in code.model.graph.outputs),
        files={name: FileRecord.of(folder / name) for name in names},
        library=LIBRARY,
        weights=weights,
        needs_amx=code.needs_amx,
        seed=seed,
    )
    manifest.write(folder)
    return manifest


def record_outcome(
    folder: Path, manifest: Manifest, status: str, verification: Mapping[str, Scalar]
) -> None:
    """Write into the manifest how the build ended and how well its outputs agreed."""
    replace(manifest, status=status, verification=verification).write(folder)


def _spec(value: ir.Value) -> TensorSpec:
    dtype = (value.dtype or ir.DataType.FLOAT).numpy()
    return TensorSpec(str(value.name), str(dtype.name), ir.static_shape(value))
