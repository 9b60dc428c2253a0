"""Artefacts for NVIDIA GPUs, built and verified without one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import gcompile
from gcompile import runtime
from gcompile.errors import UsageError, VerificationError
from gcompile.report.text import to_text
from gcompile.runtime.cuda.driver import LIBRARY_VARIABLE
from tests.backends.tvm.lowering.compiling import parse
from tests.compiler.task import task
from tests.runtime.cuda.conftest import needs_nvrtc

pytestmark = needs_nvrtc

BRANCHES = """
    g (bool[1] c, float[2,3] x) => (float[2,3] y) {
        y = If(c) <
            then_branch = t () => (float[2,3] a) { a = Exp(x) },
            else_branch = e () => (float[2,3] b) { b = Neg(x) }
        >
    }"""


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Be a machine without a GPU, wherever this runs."""
    monkeypatch.setenv(LIBRARY_VARIABLE, str(tmp_path / "no-driver"))


def _kernels(folder: Path) -> list[str]:
    plan = json.loads((folder / "model.plan.json").read_text())
    return [kernel["name"] for kernel in plan["kernels"]]


def test_an_artefact_holds_machine_code_and_says_that_nothing_here_ran_it(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    report = gcompile.compile(task().model, "nvidia-a100", output=folder).report
    assert (report.verify.code_ran, report.verify.rows) == ("on-cpu", 1)
    assert report.verify.max_abs_error is not None
    assert "by the kernels' CPU form" in " ".join(to_text(report).split())
    assert (folder / "model.sm_80.cubin").read_bytes().startswith(b"\x7fELF")
    assert b".target sm_80" in (folder / "model.compute_80.ptx").read_bytes()
    (variant,) = runtime.Manifest.read(folder).variants
    assert (variant.platform, variant.isa_required) == ("cuda", ("sm_80",))


@pytest.mark.parametrize(("precision", "unit"), [("bf16", "conv_bf16"), ("int8", "conv_u8")])
def test_narrow_precisions_run_on_tensor_cores(tmp_path: Path, precision: str, unit: str) -> None:
    folder = tmp_path / "out"
    report = gcompile.compile(
        task().model, "nvidia-h100", precision=precision, calib=task().calib, output=folder
    ).report
    assert report.verify.code_ran == "on-cpu"
    assert any(name.startswith(unit) for name in _kernels(folder))


def test_kernels_of_one_architecture_alone_come_without_ptx(tmp_path: Path) -> None:
    model = parse("""
        g (float[512,512] x) => (float[512,1024] y) <float[512,1024] w> { y = MatMul(x, w) }
    """)
    for target, has_ptx in (("nvidia-h100", False), ("nvidia-a100", True)):
        folder = tmp_path / target
        gcompile.compile(model, target, precision="bf16", output=folder)
        assert bool(list(folder.glob("*.ptx"))) == has_ptx
        assert len(list(folder.glob("*.cubin"))) == 1


@pytest.mark.parametrize(("precision", "unit"), [("fp16", "conv_f16"), ("int8", "conv_u8")])
def test_a_t4_convolves_on_the_tensor_cores_it_has(
    tmp_path: Path, precision: str, unit: str
) -> None:
    folder = tmp_path / "out"
    report = gcompile.compile(
        task().model, "nvidia-t4", precision=precision, calib=task().calib, output=folder
    ).report
    assert sum(name.startswith(unit) for name in _kernels(folder)) == 2
    assert report.fallbacks == {"Gemm_y": "it is too small for tensor cores"}
    assert b".target sm_75" in (folder / "model.compute_75.ptx").read_bytes()


def test_a_t4_does_not_compute_in_bf16() -> None:
    with pytest.raises(UsageError, match="It computes in: fp32, fp16, int8"):
        gcompile.compile(task().model, "nvidia-t4", precision="bf16")


def test_one_artefact_serves_a_cpu_and_two_generations_of_gpus(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    gcompile.compile(task().model, "cpu,nvidia-a100,nvidia-h100", output=folder)
    variants = runtime.Manifest.read(folder).variants
    assert [v.name for v in variants] == ["nvidia-h100", "nvidia-a100", "cpu"]
    row = {"x": task().evaluate["x"][:1]}
    runner = runtime.load(folder)
    assert runner.variant.name == "cpu"
    assert np.isfinite(runner.run(row)["y"]).all()


def test_both_branches_are_computed_and_one_is_taken(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    report = gcompile.compile(parse(BRANCHES), "nvidia-a100", output=folder).report
    assert report.verify.code_ran == "on-cpu"


def test_code_that_nothing_here_runs_can_be_refused() -> None:
    with pytest.raises(VerificationError, match="could not be verified: no NVIDIA driver"):
        gcompile.compile(task().model, "nvidia-a100", require_verified=True)
