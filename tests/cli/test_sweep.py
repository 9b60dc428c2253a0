"""`gcompile sweep` and `gcompile sensitivity`, as their user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gcompile import ir
from gcompile.cli import main
from tests.compiler.task import task


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("task")
    given = task()
    ir.save(given.model, folder / "model.onnx")
    np.savez(folder / "calib.npz", allow_pickle=False, **given.calib)
    np.savez(folder / "eval.npz", allow_pickle=False, **given.evaluate)
    return folder


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(str(ended.value.code))


def test_a_sweep_prints_and_writes_the_front(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = call(
        "sweep", files / "model.onnx", "--calib", files / "calib.npz", "--eval",
        files / "eval.npz", "--points", 4, "-o", tmp_path / "out", "--no-cache",
    )  # fmt: skip
    printed = capsys.readouterr().out
    assert code == 0
    assert "front" in printed
    report = json.loads((tmp_path / "out" / "sweep.json").read_text())
    energies = [point["energy_j"] for point in report["points"]]
    assert energies == sorted(energies)
    assert 1 < len(energies) <= 4
    assert any(point["on_front"] for point in report["points"])
    assert all(0 <= point["accuracy"] <= 1 for point in report["points"])
    assert report["reference_accuracy"] == 1.0
    page = (tmp_path / "out" / "sweep.html").read_text()
    assert "<polyline" in page
    assert "<script" not in page


def test_a_sweep_that_may_prune_has_points_with_fewer_channels(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = call(
        "sweep", files / "model.onnx", "--calib", files / "calib.npz", "--points", 4, "--prune",
        "--format", "json", "--no-cache", "-q",
    )  # fmt: skip
    points = json.loads(capsys.readouterr().out)["points"]
    assert code == 0
    sizes = {point["choice"]["channels of Conv_c1"] for point in points}
    assert "32" in sizes
    assert len(sizes) > 1


def test_a_sweep_without_labels_shows_the_noise_of_the_outputs(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = call(
        "sweep", files / "model.onnx", "--calib", files / "calib.npz", "--points", 3,
        "--format", "json", "--no-cache", "-q",
    )  # fmt: skip
    report = json.loads(capsys.readouterr().out)
    assert code == 0
    assert report["metric"] is None
    assert any(point["sqnr_db"] is not None for point in report["points"])


def test_a_sweep_needs_rows(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("sweep", files / "model.onnx") == 2
    assert "A sweep needs rows to judge points by" in capsys.readouterr().err


def test_sensitivities_have_an_error_and_an_energy_for_every_format(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = call(
        "sensitivity", files / "model.onnx", "--calib", files / "calib.npz", "--rows", 8,
        "-o", tmp_path / "out", "--no-cache",
    )  # fmt: skip
    assert code == 0
    assert "error share" in capsys.readouterr().out
    report = json.loads((tmp_path / "out" / "sensitivity.json").read_text())
    assert report["rows"] == 8
    assert len(report["layers"]) == 3
    for precision in ("bf16", "int8"):
        found = [
            o for la in report["layers"] for o in la["options"] if o["precision"] == precision
        ]
        assert sum(option["error_share"] for option in found) == pytest.approx(1.0)
        assert all(option["error"] > 0 for option in found)
    assert (tmp_path / "out" / "sensitivity.html").is_file()


@pytest.mark.parametrize("option", [("--rows", 0), ("--calib", "missing.npz")])
def test_what_cannot_be_measured_is_refused(files: Path, option: tuple[object, ...]) -> None:
    given = {"--calib": files / "calib.npz"} | {str(option[0]): option[1]}
    pairs = [part for pair in given.items() for part in pair]
    assert call("sensitivity", files / "model.onnx", *pairs) == 2
