"""One artefact for several targets."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import gcompile
from gcompile import runtime
from gcompile.backends.onnxruntime import OnnxRuntime
from gcompile.backends.weight_limits import WeightLimits
from gcompile.compiler import job
from gcompile.errors import UsageError
from gcompile.report import read_report
from gcompile.report.text import to_text
from gcompile.targets import load_target
from tests.backends.tvm.kernels.machine import skip_unless_runnable
from tests.compiler.task import task

TARGETS = "x86-64-v3,x86-64-v4"


def test_each_variant_is_built_verified_and_priced(tmp_path: Path) -> None:
    skip_unless_runnable("avx512")
    given = task()
    told: list[str] = []
    built = gcompile.compile(
        given.model,
        TARGETS,
        precision="int8",
        max_drop=0.5,
        output=tmp_path / "out",
        progress=lambda what, done: told.append(what),
        calib=given.calib,
        evaluate=given.evaluate,
    )
    assert built.report == read_report(tmp_path / "out")
    narrow, wide = built.report.variants
    assert (narrow.name, wide.name) == ("x86-64-v3", "x86-64-v4")
    assert (narrow.target, wide.target) == ("generic-x86-avx2", "generic-x86-avx512")
    assert narrow.energy == built.report.energy.after
    assert wide.energy.time_s < narrow.energy.time_s
    for section in (narrow, wide):
        assert section.verify.code_ran == "natively"
        assert section.accuracy is not None
        assert f"variant {section.name}" in to_text(built.report)
    assert "x86-64-v4: verifying" in told
    manifest = runtime.Manifest.read(tmp_path / "out")
    assert [variant.name for variant in manifest.variants] == ["x86-64-v4", "x86-64-v3"]
    assert len({variant.library for variant in manifest.variants}) == 2
    row = {"x": given.evaluate["x"][:1]}
    expected = OnnxRuntime()(built.model, row)["y"].astype(np.float64)
    for name in ("x86-64-v3", "x86-64-v4", None):
        runner = runtime.load(tmp_path / "out", variant=name)
        assert runner.variant.name == (name or "x86-64-v4")
        ran = runner.run(row)["y"].astype(np.float64)
        np.testing.assert_allclose(ran, expected, atol=0.05)


def test_variants_share_the_weights_they_pack_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_unless_runnable("avx2")
    monkeypatch.setattr(job, "WeightLimits", lambda: WeightLimits(1, 1 << 10))
    one = load_target("x86-64-v3")
    other = dataclasses.replace(one, name="twin")
    built = gcompile.compile(task().model, [one, other], output=tmp_path / "out")
    manifest = runtime.Manifest.read(tmp_path / "out")
    first, second = manifest.variants
    assert len(manifest.weights) == len(first.weights) > 0
    assert first.weights == second.weights
    assert built.report.variants[1].verify.code_ran == "natively"


def test_one_variant_that_misses_a_constraint_is_named() -> None:
    given = task()
    report = gcompile.compile(given.model, TARGETS, budget="1uJ", precision="fp32").report
    assert report.status == "budget_not_met"
    assert report.message.startswith("Variant x86-64-v3: The budget of 1.00 uJ binds")


@pytest.mark.parametrize(
    ("targets", "problem"),
    [
        ("x86-64-v3,x86-64-v3", "'x86-64-v3' is named twice"),
        ([], "No target is named"),
        ("x86-64-v3,", "Unknown target ''"),
    ],
)
def test_targets_must_differ_and_exist(targets: str | list[str], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        gcompile.compile(task().model, targets)
