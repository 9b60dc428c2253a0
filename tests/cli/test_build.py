from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gcompile.errors import (
    CompileError,
    InvalidModelError,
    RunError,
    TargetError,
    UnsupportedNode,
    UnsupportedOperatorsError,
    UsageError,
    VerificationError,
)
from tests.cli.conftest import FakeCompiler, Outcome
from tests.report import examples

Call = Callable[..., Outcome]


def test_the_bare_form_is_a_build(call: Call, compiler: FakeCompiler) -> None:
    bare = call("tiny.onnx", "--target", "cpu", "-o", "one")
    full = call("build", "tiny.onnx", "--target", "cpu", "-o", "two")
    assert (bare.code, full.code) == (0, 0)
    first, second = ({k: v for k, v in c.items() if k != "output"} for c in compiler.calls)
    assert first.pop("progress")
    assert second.pop("progress")
    assert first == second


def test_options_may_come_before_the_model(call: Call, compiler: FakeCompiler) -> None:
    assert call("--target", "cpu", "tiny.onnx").code == 0
    assert compiler.calls[0]["model"] == "tiny.onnx"


def test_every_option_reaches_the_compiler(call: Call, compiler: FakeCompiler) -> None:
    arguments = (
        *("--target", "test-board", "--budget", "-40%", "--max-drop", "0.5%"),
        *("--metric", "mine:score", "--calib", "c.npz", "--eval", "e.npz"),
        *("--precision", "int8", "--shape", "x=1,4", "--shape", "a=b=2"),
        *("--threads", "2", "--seed", "7", "--passes", "fold-batch-norm"),
        *("--plugin", "one", "--plugin", "two", "--no-cache"),
        *("--emulator", "qemu-aarch64 python3", "--require-verified"),
        *("--dynamic", "batch=1..8", "--dynamic", "x[2]=4,6"),
        *("--max-evals", "3", "--search-time", "10m", "--quantization", "best"),
        *("--workers", "2"),
    )
    assert call("tiny.onnx", *arguments).code == 0
    seen = compiler.calls[0]
    assert seen.pop("output")
    assert seen.pop("progress")
    assert seen == {
        "model": "tiny.onnx",
        "example_inputs": None,
        "target": "test-board",
        "budget": "-40%",
        "max_drop": "0.5%",
        "metric": "mine:score",
        "calib": "c.npz",
        "evaluate": "e.npz",
        "precision": "int8",
        "shapes": {"x": (1, 4), "a=b": (2,)},
        "dynamic": {"batch": "1..8", "x[2]": "4,6"},
        "threads": 2,
        "seed": 7,
        "passes": "fold-batch-norm",
        "plugins": ["one", "two"],
        "carbon": None,
        "cache": False,
        "emulator": "qemu-aarch64 python3",
        "require_verified": True,
        "evaluations": 3,
        "search_time": "10m",
        "quantization": "best",
        "prune": False,
        "workers": "2",
    }


def test_the_artefact_is_named_after_model_and_target(
    call: Call, compiler: FakeCompiler, tmp_path: Path
) -> None:
    outcome = call("models/tiny.onnx", "--target", "raspberry-pi-4b")
    assert outcome.code == 0
    assert "wrote tiny-raspberry-pi-4b" in outcome.err
    assert [path.name for path in tmp_path.iterdir()] == ["tiny-raspberry-pi-4b"]


def test_json_is_all_there_is_on_standard_output(call: Call, compiler: FakeCompiler) -> None:
    outcome = call("tiny.onnx", "--budget", "-40%", "--format", "json")
    assert json.loads(outcome.out) == json.loads(compiler.report.model_dump_json())
    assert "building" in outcome.err
    assert "40.0 % less" in outcome.err


def test_text_has_the_ledger_and_the_layers(call: Call, compiler: FakeCompiler) -> None:
    outcome = call("tiny.onnx")
    assert "weight shared (2)" in outcome.out
    assert "10.0 uJ per inference (5.00 uJ to 20.0 uJ, board boundary)" in outcome.out
    assert "\x1b" not in outcome.out


def test_quiet_prints_nothing_and_gives_no_progress(call: Call, compiler: FakeCompiler) -> None:
    outcome = call("tiny.onnx", "--quiet")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")
    assert compiler.calls[0]["progress"] is None


@pytest.mark.parametrize("status", ["budget_not_met", "accuracy_not_met"])
def test_a_missed_constraint_exits_1_and_leaves_the_artefact(
    call: Call, compiler: FakeCompiler, tmp_path: Path, status: str
) -> None:
    message = "The closest reachable point is 6 uJ."
    compiler.report = examples.report().model_copy(update={"status": status, "message": message})
    outcome = call("tiny.onnx", "--quiet", "-o", "out")
    assert outcome.code == 1
    assert message in outcome.err
    assert (tmp_path / "out" / "report.json").is_file()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("Data file 'c.npz' does not exist."), 2),
        (InvalidModelError("The model is truncated."), 3),
        (
            UnsupportedOperatorsError([UnsupportedNode("crop_0", "Crop", "old", "cut")]),
            3,
        ),
        (TargetError("The target lacks a number."), 3),
        (CompileError("Code generation failed."), 3),
        (RunError("It did not run."), 4),
        (VerificationError("The outputs disagree."), 4),
        (KeyboardInterrupt(), 130),
        (ZeroDivisionError("division by zero"), 3),
    ],
)
def test_an_error_is_one_sentence_with_its_code_and_leaves_nothing(
    call: Call, compiler: FakeCompiler, tmp_path: Path, error: BaseException, code: int
) -> None:
    compiler.error = error
    outcome = call("tiny.onnx")
    assert outcome.code == code
    assert outcome.out == ""
    assert str(error) in outcome.err
    assert "Traceback" not in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_where_an_unexpected_error_came_from(
    call: Call, compiler: FakeCompiler
) -> None:
    compiler.error = ZeroDivisionError("division by zero")
    assert "--debug" in call("tiny.onnx").err
    assert "Traceback" in call("tiny.onnx", "--debug").err


def test_strict_refuses_fallbacks_and_writes_nothing(
    call: Call, compiler: FakeCompiler, tmp_path: Path
) -> None:
    outcome = call("tiny.onnx", "--strict")
    assert outcome.code == 3
    assert "b (no kernel for Add of these shapes)" in outcome.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--budget", "50"), "has no unit"),
        (("--budget", "40%"), "no minus sign"),
        (("--max-drop", "5"), "1% or 0.01"),
        (("--shape", "x"), "--shape input=1,3,224,224"),
        (("--shape", "x=1,-3"), "--shape input=1,3,224,224"),
        (("--shape", "x=1", "--shape", "x=2"), "twice"),
        (("--threads", "0"), "less than one"),
        (("--seed", "-1"), "negative"),
        (("--precision", "fp4"), "fp4"),
        (("--format", "yaml"), "yaml"),
        (("--no-such-option",), "--no-such-option"),
        (("--config", "none.toml"), "cannot be read"),
    ],
)
def test_a_wrong_option_exits_2_before_any_work(
    call: Call, compiler: FakeCompiler, arguments: tuple[str, ...], part: str
) -> None:
    outcome = call("tiny.onnx", *arguments)
    assert outcome.code == 2
    assert part in outcome.err
    assert outcome.out == ""
    assert compiler.calls == []


def test_a_build_without_a_model_says_so(call: Call, compiler: FakeCompiler) -> None:
    outcome = call("build", "--target", "cpu")
    assert outcome.code == 2
    assert "No model was given" in outcome.err


def test_an_output_folder_of_something_else_is_refused_before_any_work(
    call: Call, compiler: FakeCompiler, tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    outcome = call("tiny.onnx", "-o", "photos")
    assert outcome.code == 2
    assert compiler.calls == []
    assert (tmp_path / "photos" / "cat.jpg").exists()


def test_the_resolved_configuration_runs_again_as_it_is(
    call: Call, compiler: FakeCompiler, tmp_path: Path
) -> None:
    call("tiny.onnx", "--budget", "-40%", "--shape", "x=1,4", "--seed", "3", "-o", "out")
    assert call("build", "--config", tmp_path / "out" / "config.resolved.toml").code == 0
    first, second = ({**c, "progress": None, "output": None} for c in compiler.calls)
    assert Path(str(second.pop("model"))).resolve() == Path(str(first.pop("model"))).resolve()
    assert first == second


def test_the_command_line_wins_over_the_configuration(
    call: Call, compiler: FakeCompiler, tmp_path: Path
) -> None:
    (tmp_path / "c.toml").write_text('model = "tiny.onnx"\nseed = 1\nthreads = 2\n')
    assert call("build", "--config", "c.toml", "--seed", "5").code == 0
    assert (compiler.calls[0]["seed"], compiler.calls[0]["threads"]) == (5, 2)


def test_an_unknown_key_in_the_configuration_exits_2(
    call: Call, compiler: FakeCompiler, tmp_path: Path
) -> None:
    (tmp_path / "c.toml").write_text('model = "tiny.onnx"\nbugdet = "1J"\n')
    outcome = call("build", "--config", "c.toml")
    assert outcome.code == 2
    assert "Unknown key 'bugdet'" in outcome.err
