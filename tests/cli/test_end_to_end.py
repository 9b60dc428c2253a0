"""The commands on the example model: successes in processes of their own, errors in this one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from gcompile.report import Report, read_report
from gcompile.report.bench import BenchResult
from tests.backends.tvm.kernels.machine import skip_unless_runnable
from tests.cli.conftest import ROOT, Outcome, gcompile_process

Call = Callable[..., Outcome]

MODEL = ROOT / "examples" / "digits_cnn.onnx"
CALIB = ROOT / "examples" / "digits_calib.npz"
EVAL = ROOT / "examples" / "digits_eval.npz"


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example model, compiled as the demo compiles it."""
    folder = tmp_path_factory.mktemp("artefact")
    outcome = gcompile_process(
        *(MODEL, "--target", "cpu", "--budget", "-40%", "--max-drop", "1%"),
        *("--calib", CALIB, "--eval", EVAL, "-o", "out", "--format", "json"),
        folder=folder,
    )
    assert outcome.code == 0, outcome.err
    assert Report.model_validate_json(outcome.out) == read_report(folder / "out")
    return folder / "out"


def test_the_folder_holds_everything_it_should(artefact: Path) -> None:
    assert {path.name for path in artefact.iterdir()} >= {
        *("model.so", "model.onnx", "manifest.json", "report.json", "report.html"),
        *("report.md", "ledger.json", "config.resolved.toml"),
    }


def test_budget_and_accuracy_hold(artefact: Path) -> None:
    report = read_report(artefact)
    assert report.status == "ok"
    assert report.budget.met
    assert report.budget.energy_j is not None
    assert report.budget.energy_j == pytest.approx(report.energy.exact.energy_j * 0.6)
    assert report.energy.after.energy_j <= report.budget.energy_j
    assert report.accuracy is not None
    assert report.accuracy.reference - report.accuracy.compiled <= 0.01
    assert report.accuracy.rows == len(np.load(EVAL)["labels"])
    assert report.layers
    assert report.passes


def test_running_gives_the_accuracy_that_was_reported(artefact: Path, tmp_path: Path) -> None:
    outcome = gcompile_process("run", artefact, "--input", EVAL, "-o", "y.npz", folder=tmp_path)
    assert outcome.code == 0, outcome.err
    logits = np.load(tmp_path / "y.npz")["logits"]
    accuracy = float((logits.argmax(1) == np.load(EVAL)["labels"]).mean())
    report = read_report(artefact)
    assert report.accuracy is not None
    assert accuracy == pytest.approx(report.accuracy.compiled)


def test_data_is_never_made_up_unasked(artefact: Path, tmp_path: Path) -> None:
    assert gcompile_process("run", artefact, folder=tmp_path).code == 2
    assert gcompile_process("run", artefact, "--random", folder=tmp_path).code == 0


def test_an_input_the_model_lacks_exits_4(call: Call, artefact: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", picture=np.zeros((1, 1, 8, 8), "float32"))
    outcome = call("run", artefact, "--input", "x.npz", "-o", "y.npz")
    assert outcome.code == 4
    assert "'picture'" in outcome.err
    assert not (tmp_path / "y.npz").exists()


def test_without_a_report_the_joules_are_unavailable(
    call: Call, artefact: Path, tmp_path: Path
) -> None:
    bare = shutil.copytree(artefact, tmp_path / "bare")
    (bare / "report.json").unlink()
    outcome = call("bench", bare, "--repeats", "5", "--format", "json")
    result = BenchResult.model_validate_json(outcome.out)
    assert result.energy.provenance == "unavailable"
    assert result.energy.joules_per_inference is None


def test_a_benchmark_as_json_follows_its_schema(artefact: Path, tmp_path: Path) -> None:
    outcome = gcompile_process(
        "bench", artefact, "--repeats", "20", "--format", "json", folder=tmp_path
    )
    assert outcome.code == 0, outcome.err
    result = BenchResult.model_validate_json(outcome.out)
    assert 0 < result.latency_s.min <= result.latency_s.median <= result.latency_s.p95
    assert result.energy.provenance == "estimated"
    assert result.energy.joules_per_inference == read_report(artefact).energy.after.energy_j


def test_the_configuration_builds_the_same_code_again(artefact: Path, tmp_path: Path) -> None:
    outcome = gcompile_process(
        *(
            "build",
            "--config",
            artefact / "config.resolved.toml",
            "-o",
            "again",
            "--quiet",
            "--no-cache",
        ),
        folder=tmp_path,
    )
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "again" / "model.so").read_bytes() == (artefact / "model.so").read_bytes()


def test_a_variant_can_be_named_to_run_and_bench(call: Call, tmp_path: Path) -> None:
    skip_unless_runnable("avx512")
    built = call(MODEL, "--target", "x86-64-v3,x86-64-v4", "-o", "out", "--format", "json")
    assert built.code == 0, built.err
    report = read_report(tmp_path / "out")
    for section in report.variants:
        assert call("run", "out", "--random", "--variant", section.name).code == 0
        bench = ("bench", "out", "--repeats", "5", "--format", "json", "--variant", section.name)
        result = BenchResult.model_validate_json(call(*bench).out)
        assert result.target == section.target
        assert result.energy.joules_per_inference == section.energy.energy_j
    refused = call("run", "out", "--random", "--variant", "z80")
    assert refused.code == 2
    assert "Known variants: x86-64-v3, x86-64-v4" in refused.err
    config = (tmp_path / "out" / "config.resolved.toml").read_text()
    assert 'target = "x86-64-v3,x86-64-v4"' in config


def test_an_estimate_needs_no_device(call: Call, tmp_path: Path) -> None:
    outcome = call("estimate", MODEL, "--target", "nvidia-a100-sxm-80", "--format", "json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["energy"]["boundary"] == "board"


def test_an_impossible_budget_exits_1_and_writes_the_best_artefact(
    call: Call, tmp_path: Path
) -> None:
    outcome = call(
        *(MODEL, "--budget", "1nJ", "--calib", CALIB, "--eval", EVAL),
        *("-o", "out", "--quiet"),
    )
    assert outcome.code == 1, outcome.err
    report = read_report(tmp_path / "out")
    assert report.status == "budget_not_met"
    assert report.message in outcome.err
    assert (tmp_path / "out" / "model.so").is_file()


def _unsupported(path: Path) -> None:
    node = onnx.helper.make_node("Crop", ["x"], ["y"], name="crop_0", border=[0, 0, 0, 0])
    info = [
        onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, 1, 4, 4]) for n in "xy"
    ]
    graph = onnx.helper.make_graph([node], "g", info[:1], info[1:])
    opset = [onnx.helper.make_opsetid("", 10)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), path)


def test_unsupported_operators_exit_3_with_their_nodes(call: Call, tmp_path: Path) -> None:
    _unsupported(tmp_path / "crop.onnx")
    outcome = call("crop.onnx")
    assert outcome.code == 3
    assert "Crop" in outcome.err
    assert "crop_0" in outcome.err


def test_a_missing_file_exits_2(call: Call, tmp_path: Path) -> None:
    outcome = call("none.onnx")
    assert outcome.code == 2
    assert "none.onnx" in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_a_truncated_file_exits_3(call: Call, tmp_path: Path) -> None:
    (tmp_path / "half.onnx").write_bytes(MODEL.read_bytes()[:5000])
    outcome = call("half.onnx")
    assert outcome.code == 3
    assert "half.onnx" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--target", "toaster"), "Known targets"),
        (("--budget", "50"), "no unit"),
        (("--shape", "picture=1,1,8,8"), "image"),
        (("--shape", "image=1,3,8,8"), "image"),
        (("--calib", "none.npz"), "none.npz"),
        (("--eval", str(CALIB)), "labels"),
        (("--precision", "int8"), "--calib"),
    ],
)
def test_a_wrong_option_exits_2_with_the_remedy(
    call: Call, tmp_path: Path, arguments: tuple[str, ...], part: str
) -> None:
    outcome = call(MODEL, *arguments)
    assert outcome.code == 2, outcome.err
    assert part in outcome.err
    assert outcome.err.strip().splitlines()[-1].startswith("gcompile: ")
    assert "Traceback" not in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_calibration_rows_that_are_not_numbers_exit_2(call: Call, tmp_path: Path) -> None:
    rows = np.load(CALIB)["image"].copy()
    rows[3, 0, 0, 0] = np.nan
    np.savez(tmp_path / "nan.npz", image=rows)
    outcome = call(MODEL, "--budget", "-10%", "--calib", "nan.npz", "-o", "out")
    assert outcome.code == 2, outcome.err
    assert "image" in outcome.err


def test_a_folder_without_an_artefact_exits_4(call: Call, tmp_path: Path) -> None:
    for command in (("run", ".", "--random"), ("bench", ".")):
        outcome = call(*command)
        assert outcome.code == 4
        assert "not an artefact" in outcome.err


def test_an_equal_build_says_that_it_was_kept(artefact: Path, tmp_path: Path) -> None:
    config = artefact / "config.resolved.toml"
    for name in ("one", "two"):
        built = gcompile_process("build", "--config", config, "-o", name, folder=tmp_path)
        assert built.code == 0, built.err
    assert "as it was built before" in built.err
    assert (tmp_path / "two" / "model.so").read_bytes() == (artefact / "model.so").read_bytes()
