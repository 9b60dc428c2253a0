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
from gcompile.runtime.entry_point import ONLY_ENTRY, EntryPoint, TensorSpec
from gcompile.runtime.manifest import WEIGHTS_NAME, FileRecord, Manifest, Variant
from gcompile.runtime.untrusted import Scalar
from gcompile.runtime.variants import best_first
from gcompile.runtime.weights import WeightsWriter
from gcompile.targets import Target

STEM = "model"
"""What the library and the model of an artefact are called, before their suffixes."""


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
    model: ir.Model,
    target: Target,
    threads: int,
    store: ObjectStore | None = None,
    limits: pipeline.WeightLimits = pipeline.WeightLimits(),  # noqa: B008 - it is frozen
) -> NativeCode:
    """Compile a model.

    Args:
        model: A ready model, fused and tiled.
        target: The machine that will run it.
        threads: Most threads that work is divided among.
        store: Where compiled kernels are kept between builds; None keeps none.
        limits: Which weights are written to a file of their own.

    Raises:
        TargetError: Code for this target cannot be generated.
        CompileError: A region could be neither emitted nor imported.
    """
    llvm = llvm_target(target, threads)
    own_caches = (memory.size_bytes for memory in target.memories if memory.per_core)
    lowered = lower_model(model, vector_bits(target), max(own_caches, default=0.0))
    module = pipeline.build_module(lowered.module, llvm, threads, store, limits)
    return NativeCode(module, model, target, threads, lowered.needs_amx, lowered.fallbacks)


def write_artifact(
    codes: Mapping[str, NativeCode],
    folder: Path,
    *,
    model_name: str,
    status: str = "ok",
    seed: int = 0,
    with_model: bool = True,
    stem: str = STEM,
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
        stem: What libraries and model are called, before their suffixes.
    """
    libraries = _library_names(codes, stem)
    for name, code in codes.items():
        path = folder / libraries[name]
        link_library(code.module.executable, path, platform_of(code.target))
    writer = WeightsWriter(folder / WEIGHTS_NAME)
    used = {name: writer.add(code.module.weights) for name, code in codes.items()}
    names = list(libraries.values())
    if writer.specs:
        names.append(WEIGHTS_NAME)
    first = next(iter(codes.values()))
    if with_model:
        model = f"{stem}.onnx"
        ir.save(first.model, folder / model)
        names += [path.name for path in sorted(folder.glob(f"{model}*"))]
    manifest = Manifest(
        gcompile_version=version("gcompile"),
        tvm_version=version("apache-tvm"),
        status=status,
        entries=(_entry_point(first.model, model_name),),
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
        files={name: FileRecord.of(folder / name) for name in names},
        weights=tuple(writer.specs),
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


def _library_names(variants: Iterable[str], stem: str) -> dict[str, str]:
    """A file name for the library of each variant; the only one has no need to be told apart."""
    names = list(variants)
    if len(names) == 1:
        return {names[0]: f"{stem}.so"}
    return {
        name: f"{stem}-{index}-{re.sub('[^A-Za-z0-9_.]+', '-', name)[:80]}.so"
        for index, name in enumerate(names)
    }


def _entry_point(model: ir.Model, name: str) -> EntryPoint:
    return EntryPoint(
        ONLY_ENTRY,
        name,
        inputs=tuple(_spec(value) for value in model.graph.inputs),
        outputs=tuple(_spec(value) for value in model.graph.outputs),
    )


def _spec(value: ir.Value) -> TensorSpec:
    dtype = (value.dtype or ir.DataType.FLOAT).numpy()
    return TensorSpec(str(value.name), str(dtype.name), ir.static_shape(value))
