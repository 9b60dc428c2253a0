"""The comparison on a GPU: what is missing is a row, and without a GPU a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import peers_cuda
from benchmarks.gpu.bare.case import Case, Row, read_rows, write_rows
from benchmarks.gpu.bare.tables import tables
from gcompile.errors import CompileError
from gcompile.runtime.cuda.driver import LIBRARY_VARIABLE
from tests.fake_gpu import FakeDriver


def _main(monkeypatch: pytest.MonkeyPatch, *options: object) -> int:
    monkeypatch.setattr("sys.argv", ["peers_cuda", *map(str, options)])
    return peers_cuda.main()


def test_without_a_gpu_it_says_so_and_ends_with_4(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(LIBRARY_VARIABLE, str(tmp_path / "libcuda.so.1"))
    assert _main(monkeypatch, "--json", tmp_path / "out.json") == 4
    assert capsys.readouterr().out.startswith("Nothing is measured: No NVIDIA driver")
    assert not list(tmp_path.iterdir())


def test_who_is_missing_is_a_row_with_the_reason(
    fake: FakeDriver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: object, **__: object) -> Case:
        raise CompileError("no kernel for this")

    monkeypatch.setattr(peers_cuda, "build", refuse)
    out = tmp_path / "out.json"
    options = ("--networks", "mobilenet-v2", "--precisions", "bf16", "--batches", "1")
    named = ("--peers", "TensorRT", "--json", out, "--work", tmp_path / "work")
    assert _main(monkeypatch, *options, *named) == 1
    rows = {(row.case, row.item): row for row in read_rows(out)}
    ours = rows["artefact/mobilenet-v2-bf16-1-cuda", ""]
    assert (ours.status, ours.reason) == ("failed", "not built: CompileError: no kernel for this")
    theirs = rows["peer/TensorRT/mobilenet-v2-bf16", "batch 1"]
    assert (theirs.status, theirs.reason) == ("absent", "tensorrt is not installed")
    assert json.loads(out.read_text())["architecture"] == "sm_80"
    assert not (tmp_path / "work").exists()


def test_contenders_stand_beside_each_other_with_means() -> None:
    ours = {"network": "n", "precision": "bf16", "batch": 1}
    theirs = {"network": "n", "precision": "bf16", "peer": "torch eager", "batches": [1]}
    cases = [Case("a", "artefact", ours), Case("b", "peer", theirs)]
    rows = [
        Row("a", "speed", "passed", figures={"latency_s": 0.001, "queued_s": 0.001}),
        Row("a", "joules", "passed", figures={"energy_j": 0.2}),
        Row("b", "batch 1", "passed", figures={"latency_s": 0.003, "energy_j": 0.5}),
    ]
    text = tables(cases, rows)
    assert "n bf16 batch 1" in text
    line = next(line for line in text.splitlines() if line.split()[:2] == ["bf16", "torch"])
    assert line.split() == ["bf16", "torch", "eager", "1", "3.00", "-", "2.50"]


def test_results_survive_a_run_that_is_stopped(tmp_path: Path) -> None:
    rows = [Row("a", "x", "passed", figures={"n": 1.0}), Row("a", "", "left out", "no time")]
    write_rows(tmp_path / "r.json", {"gpu": "G"}, rows)
    assert read_rows(tmp_path / "r.json") == rows
    assert read_rows(tmp_path / "none.json") == []
