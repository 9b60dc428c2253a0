"""Code for a machine that is not here: built all the same, verified as far as possible."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import gcompile
from gcompile import runtime
from gcompile.backends.onnxruntime import OnnxRuntime
from gcompile.errors import RunError, UsageError, VerificationError
from gcompile.report.text import to_text
from gcompile.targets import Target, load_target
from tests.backends.tvm.kernels.machine import skip_unless_runnable
from tests.compiler.task import task


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Target:
    """A target that the compiler takes for another machine, whose code does run here."""
    monkeypatch.setattr("gcompile.compiler.execution.cpu_flags", lambda: frozenset({"sse2"}))
    skip_unless_runnable("avx2")
    return load_target("x86-64-v3")


def test_code_of_a_lower_level_is_verified_on_this_cpu() -> None:
    skip_unless_runnable("avx2")
    verify = gcompile.compile(task().model, "x86-64-v3", require_verified=True).report.verify
    assert (verify.code_ran, verify.reason) == ("natively", None)
    assert verify.max_abs_error is not None


def test_code_that_cannot_run_is_written_and_the_report_says_so(
    elsewhere: Target, tmp_path: Path
) -> None:
    given = task()
    built = gcompile.compile(
        given.model,
        elsewhere,
        precision="int8",
        calib=given.calib,
        evaluate=given.evaluate,
        max_drop=0.5,
        output=tmp_path / "out",
    )
    verify = built.report.verify
    assert (verify.code_ran, verify.rows, verify.max_abs_error) == ("no", 0, None)
    assert verify.reason is not None
    assert "lacks: avx2" in verify.reason
    assert "the code itself was not run: it needs CPU instructions" in to_text(built.report)
    assert runtime.Manifest.read(tmp_path / "out").variants[0].verification["code_ran"] == "no"
    rows = {"x": given.evaluate["x"]}
    quantized = OnnxRuntime()(built.model, rows)["y"].argmax(axis=1)
    assert built.report.accuracy is not None
    assert built.report.accuracy.compiled == np.mean(quantized == given.evaluate["labels"])
    row = {"x": rows["x"][:1]}
    ran = runtime.load(tmp_path / "out").run(row)["y"].astype(np.float64)
    expected = OnnxRuntime()(built.model, row)["y"].astype(np.float64)
    np.testing.assert_allclose(ran, expected, atol=0.05)


def test_a_search_measures_candidates_that_cannot_run_on_the_reference(elsewhere: Target) -> None:
    given = task()
    report = gcompile.compile(
        given.model,
        elsewhere,
        budget="-20%",
        calib=given.calib,
        evaluate=given.evaluate,
        max_drop=0.5,
    ).report
    assert report.accuracy is not None
    assert report.verify.code_ran == "no"


def test_an_emulator_runs_the_code(elsewhere: Target) -> None:
    given = task()
    built = gcompile.compile(
        given.model, elsewhere, emulator=sys.executable, calib=given.calib, require_verified=True
    )
    verify = built.report.verify
    assert (verify.code_ran, verify.rows) == ("emulated", 6)
    assert verify.max_abs_error is not None
    assert "under an emulator, against the reference" in to_text(built.report)


@pytest.mark.parametrize(
    ("emulator", "error", "problem"),
    [
        ("no-such-emulator", RunError, "cannot be started"),
        (f"{sys.executable} -S", RunError, "did not run the code"),
        ('"unbalanced', UsageError, "not a command"),
    ],
)
def test_an_emulator_that_does_not_work_is_refused(
    elsewhere: Target, emulator: str, error: type[Exception], problem: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=problem):
        gcompile.compile(task().model, elsewhere, emulator=emulator, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_code_that_must_be_verified_is_refused_before_any_work(
    elsewhere: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*arguments: object) -> None:
        raise AssertionError("code was generated")

    monkeypatch.setattr("gcompile.compiler.native.generate", never)
    with pytest.raises(VerificationError, match="--emulator"):
        gcompile.compile(task().model, elsewhere, require_verified=True)
