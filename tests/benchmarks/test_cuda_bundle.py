"""An archive for a GPU, run by a Python that has numpy alone, on a driver that uses the CPU."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import pytest

import gcompile
from benchmarks import cuda_bundle
from benchmarks.gpu.archive import copy_runtime, pack
from benchmarks.gpu.bare.case import Case, Row, read_rows, write_cases
from benchmarks.gpu.launches import Launch, pack_launches
from benchmarks.gpu.models import Wanted, build
from gcompile.backends.cuda.host_form import host_forms
from gcompile.backends.cuda.kernel import Kernel
from gcompile.backends.cuda.lowering.model import lower_model
from gcompile.errors import UsageError
from gcompile.runtime.cuda.driver import LIBRARY_VARIABLE
from gcompile.runtime.cuda.nvml import LIBRARY_VARIABLE as NVML_VARIABLE
from gcompile.targets import load_target
from tests.backends.cuda.record_launches import Recorder
from tests.compiler.task import task
from tests.fake_gpu import CARD_VARIABLE, KERNELS_VARIABLE, FakeCard, FakeDriver
from tests.runtime.cuda.conftest import needs_nvrtc

pytestmark = needs_nvrtc

_TARGET = "nvidia-a100-sxm-80"
_QUICK = """
_WARM_S = _LATENCY_S = _ROUND_S = 0.01
_PLAN, NvmlMeter.update_s = Plan(0.1, 1, warmup_s=0.0, settling_windows=0), 0.001
"""


@dataclass(frozen=True)
class Bundle:
    """The folder of an archive, and the kernels in it."""

    folder: Path
    kernels: list[Kernel]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A small artefact with drawn weights, and the launch of one of its kernels."""
    folder = tmp_path_factory.mktemp("bundle")
    source = tmp_path_factory.mktemp("model") / "small.onnx"
    onnx.save(onnx_ir.to_proto(task().model), source)
    copy_runtime(folder)
    with (folder / "benchmarks/gpu/bare/timing.py").open("a") as file:
        file.write(_QUICK)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmarks.gpu.models._CARRIED_BYTES", 1000)
        artefact = build(Wanted(source, "fp32", 1, _TARGET), folder)
    compiled = gcompile.compile(source, _TARGET)
    kernels = lower_model(compiled.model, load_target(_TARGET), 80).program.kernels
    launch = _recorded(kernels[0], tmp_path_factory.mktemp("launches"))
    checks = pack_launches([launch], [80, 90], folder)
    cases = [Case(artefact.name, "artefact", artefact.settings | {"timed": True}, 20.0), *checks]
    write_cases(folder / "cases.json", cases)
    return Bundle(folder, kernels)


def _recorded(kernel: Kernel, folder: Path) -> Launch:
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(a.size).astype(a.dtype) for a in kernel.arguments]
    before = [array.copy() for array in arrays]
    host_forms([kernel])[kernel.name](arrays)
    Recorder(folder)(kernel, before, arrays)
    (path,) = folder.glob("*.json")
    item = json.loads(path.read_text())
    return Launch("tests/test_some.py::test_a_kernel", item["kernel"], path.with_suffix(".npz"))


@pytest.fixture
def machine(
    bundle: Bundle, fake_library: Path, fake_nvml_library: Path, tmp_path: Path
) -> dict[str, str]:
    """The environment of a Python with numpy alone and a fake A100."""
    site = tmp_path / "site"
    site.mkdir()
    packages = Path(np.__file__).parents[1]
    for name in ("numpy", "numpy.libs"):
        if (packages / name).exists():
            (site / name).symlink_to(packages / name)
    FakeCard(tmp_path / "card")
    kernels = FakeDriver(fake_library).describe(bundle.kernels, tmp_path)
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(site),
        LIBRARY_VARIABLE: str(fake_library),
        NVML_VARIABLE: str(fake_nvml_library),
        CARD_VARIABLE: str(tmp_path / "card"),
        KERNELS_VARIABLE: str(kernels),
    }


def _run(
    bundle: Bundle, machine: dict[str, str], out: Path, *options: str
) -> tuple[subprocess.CompletedProcess[str], dict[tuple[str, str], Row]]:
    python = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
    command = [str(python), "-s", str(bundle.folder / "run.py"), "--json", str(out), *options]
    done = subprocess.run(command, env=machine, capture_output=True, text=True, check=False)
    return done, {(row.case, row.item): row for row in read_rows(out)}


_NAME = f"artefact/small-fp32-1-{_TARGET}"


def test_a_bare_machine_loads_compares_times_and_meters(
    bundle: Bundle, machine: dict[str, str], tmp_path: Path
) -> None:
    assert not list(bundle.folder.rglob("weights.bin"))
    done, rows = _run(bundle, machine, tmp_path / "results.json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert rows[_NAME, "agrees"].figures["relative_error"] == 0.0
    assert rows[_NAME, "speed"].figures["latency_s"] > 0
    joules = rows[_NAME, "joules"].figures
    assert joules["power_w"] == pytest.approx(120, rel=0.2)
    kernel = rows["kernels/some", "test_a_kernel #0"]
    assert (kernel.status, kernel.figures["largest_error"]) == ("passed", 0.0)
    for text in ("Artefacts", "Kernels", "power_limit_w 400.0"):
        assert text in done.stdout
    again, _ = _run(bundle, machine, tmp_path / "results.json")
    assert "artefact/small-fp32-1" not in again.stdout.partition("Kernels")[0]


def test_a_wrong_result_fails_and_the_others_run(
    bundle: Bundle, machine: dict[str, str], tmp_path: Path
) -> None:
    (path,) = bundle.folder.glob("kernels/*.npz")
    kept = path.read_bytes()
    with np.load(path) as file:
        arrays = dict(file)
    (after,) = (key for key in arrays if "after" in key)
    arrays[after] = arrays[after] + 1
    try:
        np.savez(path, **arrays)
        done, rows = _run(bundle, machine, tmp_path / "results.json")
    finally:
        path.write_bytes(kept)
    assert done.returncode == 1
    assert "of the largest result" in rows["kernels/some", "test_a_kernel #0"].reason
    assert rows[_NAME, "agrees"].status == "passed"
    done, rows = _run(bundle, machine, tmp_path / "results.json", "--again")
    assert done.returncode == 0
    assert rows["kernels/some", "test_a_kernel #0"].status == "passed"


def test_what_has_no_time_is_left_out_and_runs_the_next_time(
    bundle: Bundle, machine: dict[str, str], tmp_path: Path
) -> None:
    _, rows = _run(bundle, machine, tmp_path / "results.json", "--seconds", "0")
    assert {row.status for row in rows.values()} == {"left out"}
    _, rows = _run(bundle, machine, tmp_path / "results.json", "--only", "kernels")
    assert rows["kernels/some", "test_a_kernel #0"].status == "passed"


def test_without_a_gpu_one_sentence_and_its_exit_code(
    bundle: Bundle, machine: dict[str, str], tmp_path: Path
) -> None:
    elsewhere = machine | {LIBRARY_VARIABLE: str(tmp_path / "libcuda.so.1")}
    done, rows = _run(bundle, elsewhere, tmp_path / "results.json")
    assert (done.returncode, rows) == (4, {})
    assert done.stdout.startswith("Nothing can be run here: No NVIDIA driver is installed")


def test_an_archive_that_is_too_large_is_not_written(bundle: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "bundle.tar.xz"
    with pytest.raises(UsageError, match="are allowed"):
        pack(bundle.folder, out, most_bytes=1000)
    assert not list(tmp_path.iterdir())
    assert pack(bundle.folder, out, most_bytes=10 << 20) == out.stat().st_size


def test_a_build_that_was_stopped_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    built: list[str] = []

    def build_one(wanted: Wanted, folder: Path) -> Case:
        (folder / "artefacts").mkdir(exist_ok=True)
        built.append(wanted.name)
        if wanted.precision == "int8":
            raise UsageError("not this one")
        return Case(wanted.name, "artefact", {"batch": 1})

    monkeypatch.setattr(cuda_bundle, "build", build_one)
    arguments = argparse.Namespace(
        targets=[_TARGET],
        data=None,
        product=False,
        batches=[1],
        precisions=["bf16", "int8"],
        networks=["resnet50"],
    )
    first = list(cuda_bundle._artefacts(arguments, tmp_path))
    assert list(cuda_bundle._artefacts(arguments, tmp_path)) == first
    refused = f"resnet50-int8-1-{_TARGET}"
    assert [case.name for case in first] == [f"resnet50-bf16-1-{_TARGET}"]
    assert built == [first[0].name, refused, refused]
