"""A small artefact, compiled with TVM directly, so that the runtime is tested on its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tvm
from tvm import relax

from gcompile.runtime import EntryPoint, FileRecord, Manifest, TensorSpec, Variant
from gcompile.runtime.isa import host_platform

INPUTS = (
    TensorSpec("x", "float32", (2, 3)),
    TensorSpec("scale", "float32", ()),
    TensorSpec("index", "int64", (2,)),
    TensorSpec("mask", "bool", (2, 3)),
    TensorSpec("half", "float16", (2, 5)),
)
OUTPUTS = (
    TensorSpec("scaled", "float32", (2, 3)),
    TensorSpec("next", "int64", (2,)),
    TensorSpec("masked", "float32", (2, 3)),
    TensorSpec("double", "float16", (2, 5)),
    TensorSpec("same", "float32", (2, 3)),
)


def _module() -> tvm.IRModule:
    """Make scaled = x · scale; next = index + 1; masked = mask ? x : scaled; double = 2 · half."""
    builder = relax.BlockBuilder()
    arguments = [relax.Var(s.name, relax.TensorType(s.shape, s.dtype)) for s in INPUTS]
    x, scale, index, mask, half = arguments
    with builder.function("main", arguments):
        with builder.dataflow():
            scaled = builder.emit(relax.op.multiply(x, scale))
            one = relax.const(np.ones(2, "int64"), "int64")
            after = builder.emit(relax.op.add(index, one))
            masked = builder.emit(relax.op.where(mask, x, scaled))
            double = builder.emit(relax.op.add(half, half))
            result = builder.emit_output(relax.Tuple([scaled, after, masked, double, x]))
        builder.emit_func_output(result)
    return builder.get()


@pytest.fixture(scope="session")
def compiled_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The native code of the artefact, compiled once."""
    path = tmp_path_factory.mktemp("library") / "model.so"
    target = tvm.target.Target({"kind": "llvm", "mcpu": "x86-64-v3"})
    tvm.compile(_module(), target=target).export_library(str(path))
    return path


def manifest_of(library: Path) -> Manifest:
    """The manifest of an artefact that holds this library."""
    return Manifest(
        gcompile_version="0.1.0",
        tvm_version="0.27.0",
        status="met",
        entries=(EntryPoint("main", "tiny", INPUTS, OUTPUTS),),
        variants=(
            Variant(
                name="test",
                target="test",
                platform=host_platform(),
                isa_required=("avx2", "fma"),
                verification={"max_error": 0.0, "reference": "onnxruntime"},
            ),
        ),
        threads=1,
        files={"model.so": FileRecord.of(library)},
    )


def change_variant(folder: Path, **changes: object) -> None:
    """Rewrite what the manifest of an artefact says of its only variant."""
    manifest = Manifest.read(folder)
    variants = (replace(manifest.variants[0], **changes),)  # type: ignore[arg-type]
    replace(manifest, variants=variants).write(folder)


@pytest.fixture
def artefact(compiled_library: Path, tmp_path: Path) -> Path:
    """A fresh artefact folder that a test may damage."""
    folder = tmp_path / "artefact"
    folder.mkdir()
    (folder / "model.so").write_bytes(compiled_library.read_bytes())
    manifest_of(folder / "model.so").write(folder)
    return folder


@pytest.fixture
def inputs() -> dict[str, np.ndarray]:
    """Inputs of every kind: vectors, a scalar, integers, truth values and half precision."""
    return {
        "x": np.array([[1, 2, np.nan], [4, 5, 6]], "float32"),
        "scale": np.array(2, "float32"),
        "index": np.array([7, 2**40], "int64"),
        "mask": np.array([[True, False, False], [False, True, False]]),
        "half": np.arange(10).reshape(2, 5).astype("float16"),
    }
