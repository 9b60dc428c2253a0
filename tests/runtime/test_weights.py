"""Large weights lie in a file that is checked, then mapped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tvm
from tvm import relax

from gcompile.backends.tvm.link import link_library
from gcompile.backends.tvm.pipeline import build_module
from gcompile.backends.weight_limits import WeightLimits
from gcompile.errors import ArtifactError
from gcompile.runtime import EntryPoint, FileRecord, Manifest, TensorSpec, load
from gcompile.runtime.isa import host_platform
from gcompile.runtime.manifest import WEIGHTS_NAME
from gcompile.runtime.weights import WeightsWriter, map_weights
from tests.runtime.conftest import manifest_of

_ROWS = 200
_RUN = """
import sys
import numpy as np
import gcompile.runtime
runner = gcompile.runtime.load(sys.argv[1])
print(float(runner.run({"x": np.ones((1, 200), "float32")})["y"].sum()))
assert not {"tvm", "onnx", "onnx_ir", "torch"} & set(sys.modules), "the compiler was loaded"
"""

_RNG = np.random.default_rng(0)
WEIGHTS = [_RNG.integers(-3, 4, (_ROWS, _ROWS)).astype("float32") for _ in range(2)]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artefact of y = x · w0 · w1 + 1."""
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((1, _ROWS), "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            value = x
            for weight in WEIGHTS:
                value = builder.emit(relax.op.matmul(value, relax.const(weight)))
            one = relax.const(np.ones(_ROWS, "float32"))
            result = builder.emit_output(relax.op.add(value, one))
        builder.emit_func_output(result)
    folder = tmp_path_factory.mktemp("artefact")
    target = tvm.target.Target({"kind": "llvm", "mcpu": "x86-64-v3"})
    code = build_module(builder.get(), target, 1, limits=WeightLimits(file_bytes=1))
    link_library(code.executable, folder / "model.so", host_platform())
    writer = WeightsWriter(folder / WEIGHTS_NAME)
    writer.add(code.weights)
    manifest = manifest_of(folder / "model.so")
    replace(
        manifest,
        variants=(replace(manifest.variants[0], weights=(0, 1)),),
        entries=(
            EntryPoint(
                "main",
                "tiny",
                (TensorSpec("x", "float32", (1, _ROWS)),),
                (TensorSpec("y", "float32", (1, _ROWS)),),
            ),
        ),
        files={name: FileRecord.of(folder / name) for name in ("model.so", WEIGHTS_NAME)},
        weights=tuple(writer.specs),
    ).write(folder)
    return folder


@pytest.fixture
def artefact(compiled: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    for path in compiled.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def test_large_weights_are_in_the_file_and_small_ones_in_the_library(artefact: Path) -> None:
    manifest = Manifest.read(artefact)
    assert [spec.shape for spec in manifest.weights] == [(_ROWS, _ROWS)] * 2
    assert (artefact / WEIGHTS_NAME).stat().st_size == sum(weight.nbytes for weight in WEIGHTS)
    assert (artefact / "model.so").stat().st_size < WEIGHTS[0].nbytes


def test_the_entry_is_called_with_the_weights(artefact: Path) -> None:
    x = np.arange(_ROWS, dtype="float32")[None] % 7
    expected = x @ WEIGHTS[0] @ WEIGHTS[1] + 1
    runner = load(artefact)
    np.testing.assert_array_equal(runner.run({"x": x})["y"], expected)
    np.testing.assert_array_equal(runner.run({"x": x})["y"], expected)


def test_weights_need_no_compiler(artefact: Path) -> None:
    command = [sys.executable, "-c", _RUN, str(artefact)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    expected = float((np.ones((1, _ROWS)) @ WEIGHTS[0] @ WEIGHTS[1] + 1).sum())
    assert done.stdout == f"{expected}\n", done.stderr


def test_running_never_writes_into_the_file(artefact: Path) -> None:
    (artefact / WEIGHTS_NAME).chmod(0o444)
    before = FileRecord.of(artefact / WEIGHTS_NAME)
    load(artefact).run({"x": np.ones((1, _ROWS), "float32")})
    assert FileRecord.of(artefact / WEIGHTS_NAME) == before


def test_weights_that_were_changed_are_refused(artefact: Path) -> None:
    data = bytearray((artefact / WEIGHTS_NAME).read_bytes())
    data[len(data) // 2] ^= 1
    (artefact / WEIGHTS_NAME).write_bytes(data)
    with pytest.raises(ArtifactError, match=r"weights\.bin is not the one that was compiled"):
        load(artefact)


def test_weights_that_were_cut_short_are_refused(artefact: Path) -> None:
    os.truncate(artefact / WEIGHTS_NAME, 64)
    with pytest.raises(ArtifactError, match="hash differs"):
        load(artefact)


def test_a_manifest_that_lists_other_weights_is_refused(artefact: Path) -> None:
    manifest = Manifest.read(artefact)
    larger = TensorSpec("weight0", "float32", (_ROWS, 10 * _ROWS))
    replace(manifest, weights=(larger, manifest.weights[1])).write(artefact)
    with pytest.raises(ArtifactError, match="does not hold the weights its manifest lists"):
        load(artefact)


def test_weights_whose_hash_is_not_listed_are_refused(artefact: Path) -> None:
    path = artefact / "manifest.json"
    data = json.loads(path.read_text())
    del data["files"][WEIGHTS_NAME]
    path.write_text(json.dumps(data))
    with pytest.raises(ArtifactError, match=r"without listing weights\.bin"):
        load(artefact)


def test_tensors_of_any_size_are_aligned_and_come_back(tmp_path: Path) -> None:
    tensors = [
        np.arange(5, dtype="int8"),
        np.array(7, "float64"),
        np.empty((0, 3), "float32"),
        np.arange(40, dtype="uint16").reshape(5, 8)[:, ::2],
    ]
    path = tmp_path / WEIGHTS_NAME
    writer = WeightsWriter(path)
    writer.add(tensors)
    found = map_weights(path, writer.specs)
    for tensor, mapped in zip(tensors, found, strict=True):
        np.testing.assert_array_equal(tensor, mapped)
        assert tensor.dtype == mapped.dtype
        assert mapped.ctypes.data % 64 == 0
