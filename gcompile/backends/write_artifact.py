"""Write the artefact that holds code for one target or several."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from gcompile import ir
from gcompile.backends.code import Code
from gcompile.runtime.counts import Count
from gcompile.runtime.entry_point import ONLY_ENTRY, EntryPoint, TensorSpec
from gcompile.runtime.manifest import WEIGHTS_NAME, FileRecord, Manifest
from gcompile.runtime.untrusted import Scalar
from gcompile.runtime.variants import best_first
from gcompile.runtime.weights import WeightsWriter

STEM = "model"
"""What the files of a variant and the model are called, before their suffixes."""


def write_artifact(
    codes: Mapping[str, Code],
    folder: Path,
    *,
    model_name: str,
    status: str = "ok",
    seed: int = 0,
    with_model: bool = True,
    stem: str = STEM,
) -> Manifest:
    """Write code, its weights, the model and the manifest into an existing folder.

    Args:
        codes: The code of each variant, by the variant's name. All were compiled from one model
            for as many threads. The model of the first is written.
        folder: Where the files go.
        model_name: What the user calls the model.
        status: How the build ended.
        seed: Of every random choice.
        with_model: Whether to write the model as well.
        stem: What code and model are called, before their suffixes.
    """
    stems, writer = _stems(codes, stem), WeightsWriter(folder / WEIGHTS_NAME)
    variants, names = [], []
    for name, code in codes.items():
        variant, written = code.write(name, folder, stems[name], writer)
        variants.append(variant)
        names += written
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
        variants=best_first(variants),
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


def _stems(variants: Iterable[str], stem: str) -> dict[str, str]:
    """What the files of each variant begin with; the only one has no need to be told apart."""
    names = list(variants)
    if len(names) == 1:
        return {names[0]: stem}
    return {
        name: f"{stem}-{index}-{re.sub('[^A-Za-z0-9_.]+', '-', name)[:80]}"
        for index, name in enumerate(names)
    }


def _entry_point(model: ir.Model, name: str) -> EntryPoint:
    return EntryPoint(
        ONLY_ENTRY,
        name,
        inputs=tuple(tensor_spec(value) for value in model.graph.inputs),
        outputs=tuple(tensor_spec(value) for value in model.graph.outputs),
        counts=tuple(Count(*item) for item in ir.counts_of(model)),
    )


def tensor_spec(value: ir.Value) -> TensorSpec:
    """What a manifest says of an input or output."""
    dtype = (value.dtype or ir.DataType.FLOAT).numpy()
    return TensorSpec(str(value.name), str(dtype.name), ir.static_shape(value))
