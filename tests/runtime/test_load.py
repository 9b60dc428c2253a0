"""An artefact is checked before it is loaded, and loads without the compiler."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gcompile.errors import ArtifactError, RunError
from gcompile.runtime import Manifest, isa, load
from gcompile.runtime.threads import available_cpus
from tests.runtime.conftest import change_variant

_WITHOUT_THE_COMPILER = """
import sys
import numpy as np
import gcompile.runtime
heavy = {"tvm", "onnx", "onnx_ir", "torch", "onnxruntime"}
assert not (heavy | {"tvm_ffi"}) & set(sys.modules), "importing the runtime is not light"
runner = gcompile.runtime.load(sys.argv[1])
inputs = {spec.name: np.ones(spec.shape, spec.dtype) for spec in runner.inputs}
outputs = runner.run(inputs)
assert (outputs["double"] == 2).all() and (outputs["next"] == 2).all()
assert not heavy & set(sys.modules), "running an artefact loads the compiler"
print("ran")
"""


def test_an_artefact_runs_without_the_compiler_being_imported(artefact: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_THE_COMPILER, str(artefact)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "ran\n", done.stderr


def test_native_code_that_was_changed_is_refused_before_it_is_loaded(artefact: Path) -> None:
    library = artefact / "model.so"
    data = bytearray(library.read_bytes())
    data[len(data) // 2] ^= 1
    library.write_bytes(data)
    with pytest.raises(ArtifactError, match="hash differs"):
        load(artefact)
    assert str(artefact) not in Path("/proc/self/maps").read_text()


def test_native_code_of_another_size_is_refused(artefact: Path) -> None:
    with (artefact / "model.so").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ArtifactError, match="hash differs"):
        load(artefact)


def test_a_missing_file_is_named(artefact: Path) -> None:
    (artefact / "model.so").unlink()
    with pytest.raises(ArtifactError, match=r"model\.so is missing"):
        load(artefact)


def test_a_link_that_leads_out_of_the_folder_is_refused(artefact: Path, tmp_path: Path) -> None:
    outside = tmp_path / "model.so"
    (artefact / "model.so").rename(outside)
    (artefact / "model.so").symlink_to(outside)
    with pytest.raises(ArtifactError, match="leads out of it"):
        load(artefact)


def test_a_name_that_leads_out_of_the_folder_is_refused(artefact: Path) -> None:
    data = json.loads((artefact / "manifest.json").read_text())
    data["files"] = {"../model.so": data["files"]["model.so"]}
    data["variants"][0]["library"] = "../model.so"
    (artefact / "manifest.json").write_text(json.dumps(data))
    with pytest.raises(ArtifactError, match="not a plain name"):
        load(artefact)


def test_missing_instructions_are_named_in_one_sentence(artefact: Path) -> None:
    change_variant(artefact, isa_required=("avx2", "avx9000_teleport"))
    with pytest.raises(ArtifactError, match=r"lacks: avx9000_teleport; compile"):
        load(artefact)


def test_code_for_another_platform_is_refused(artefact: Path) -> None:
    change_variant(artefact, platform="linux-riscv64")
    with pytest.raises(ArtifactError, match="compiled for linux-riscv64"):
        load(artefact)


def test_cpu_flags_are_read_from_cpuinfo(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nflags\t\t: fpu avx2 avx512_vnni\n")
    assert isa.cpu_flags(cpuinfo) == {"fpu", "avx2", "avx512_vnni"}
    assert isa.cpu_flags(tmp_path / "absent") == frozenset()


def test_a_library_that_is_no_library_is_refused(artefact: Path) -> None:
    from gcompile.runtime import FileRecord

    (artefact / "model.so").write_bytes(b"not an ELF file")
    record = FileRecord.of(artefact / "model.so")
    replace(Manifest.read(artefact), files={"model.so": record}).write(artefact)
    with pytest.raises(ArtifactError, match=r"model\.so cannot be loaded"):
        load(artefact)


@pytest.mark.parametrize("threads", [0, -1, 100_000])
def test_an_impossible_number_of_threads_is_refused(artefact: Path, threads: int) -> None:
    with pytest.raises(RunError, match="threads="):
        load(artefact, threads=threads)


def test_loading_leaves_the_affinity_of_the_caller_alone(artefact: Path) -> None:
    before = os.sched_getaffinity(0)
    load(artefact, threads=len(before))
    assert os.sched_getaffinity(0) == before


def test_binding_pins_the_caller_until_an_unbound_artefact_runs(
    artefact: Path, inputs: dict[str, np.ndarray]
) -> None:
    before = os.sched_getaffinity(0)
    bound = load(artefact, bind=True)
    assert os.sched_getaffinity(0) == {min(before)}
    assert available_cpus() == sorted(before)
    bound.run(inputs)
    load(artefact)
    assert os.sched_getaffinity(0) == before
