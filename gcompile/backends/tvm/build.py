"""Generate native code for a model, and write the artefact that holds it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from gcompile import ir
from gcompile.backends.tvm import pipeline
from gcompile.backends.tvm.cache import ObjectStore
from gcompile.backends.tvm.link import link_library
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
    TensorSpec,
    Variant,
)
from gcompile.runtime.untrusted import Scalar
from gcompile.runtime.variants import best_first
from gcompile.runtime.weights import SharedWeights, write_weights
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
    own_caches = (memory.size_bytes for memory in target.memories if memory.per_core)
    lowered = lower_model(model, vector_bits(target), max(own_caches, default=0.0))
    module = pipeline.build_module(lowered.module, llvm, threads, store)
    return NativeCode(module, model, target, threads, lowered.needs_amx, lowered.fallbacks)


def write_artifact(
    codes: Mapping[str, NativeCode],
    folder: Path,
    *,
    model_name: str,
    status: str = "ok",
    seed: int = 0,
    with_model: bool = True,
) -> Manifest:
    """Write libraries, their weights, the model and the manifest into an existing folder.

    Args:
        codes: The code of each variant, by the variant's name. All were compiled from one model
            for as many threads. The model of the first is written.
        folder: Where the files go.
        model_name: What the user calls the model.
        status: How the build ended.
        seed: Of every random choice.
        with_model: Whether to write the model as well.
    """
    libraries = _library_names(codes)
    for name, code in codes.items():
        path = folder / libraries[name]
        link_library(code.module.executable, path, platform_of(code.target))
    shared = SharedWeights()
    used = {name: shared.add(code.module.weights) for name, code in codes.items()}
    names = list(libraries.values())
    weights: tuple[TensorSpec, ...] = ()
    if shared.tensors:
        weights = write_weights(folder / WEIGHTS_NAME, shared.tensors)
        names.append(WEIGHTS_NAME)
    first = next(iter(codes.values()))
    if with_model:
        ir.save(first.model, folder / MODEL)
        names += [path.name for path in sorted(folder.glob(f"{MODEL}*"))]
    manifest = Manifest(
        gcompile_version=version("gcompile"),
        tvm_version=version("apache-tvm"),
        model_name=model_name,
        status=status,
        variants=best_first(
            Variant(
                name=name,
                target=code.target.name,
                platform=platform_of(code.target),
                isa_required=required_isa(code.target),
                library=libraries[name],
                needs_amx=code.needs_amx,
                weights=used[name],
            )
            for name, code in codes.items()
        ),
        threads=first.threads,
        inputs=tuple(_spec(value) for value in first.model.graph.inputs),
        outputs=tuple(_spec(value) for value in first.model.graph.outputs),
        files={name: FileRecord.of(folder / name) for name in names},
        weights=weights,
        seed=seed,
    )
    manifest.write(folder)
    return manifest


def record_outcome(
    folder: Path,
    manifest: Manifest,
    status: str,
    verifications: Mapping[str, Mapping[str, Scalar]],
) -> None:
    """Write into the manifest how the build ended and how well each variant's outputs agreed."""
    variants = tuple(
        replace(variant, verification=verifications[variant.name]) for variant in manifest.variants
    )
    replace(manifest, status=status, variants=variants).write(folder)


def _library_names(variants: Iterable[str]) -> dict[str, str]:
    """A file name for the library of each variant; the only one has no need to be told apart."""
    names = list(variants)
    if len(names) == 1:
        return {names[0]: LIBRARY}
    path = Path(LIBRARY)
    return {
        name: f"{path.stem}-{index}-{re.sub('[^A-Za-z0-9_.]+', '-', name)[:80]}{path.suffix}"
        for index, name in enumerate(names)
    }


def _spec(value: ir.Value) -> TensorSpec:
    dtype = (value.dtype or ir.DataType.FLOAT).numpy()
    return TensorSpec(str(value.name), str(dtype.name), ir.static_shape(value))
