"""Several models on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gcompile import ir
from gcompile.cli.entries import parse_entries
from gcompile.errors import UsageError
from gcompile.report import BuildConfig, read_report
from tests.backends.tvm.lowering.compiling import parse
from tests.cli.conftest import Outcome

Call = Callable[..., Outcome]

MODEL = """
    g (int64[1,N] input_ids) => (float[1,N,7] logits) <float[9,7] table> {
        logits = Gather(table, input_ids)
    }"""


def save(path: Path, tokens: int) -> None:
    ir.save(parse(MODEL.replace("N", str(tokens))), path)


def test_models_become_entry_points(call: Call, tmp_path: Path) -> None:
    save(tmp_path / "decode.onnx", 1)
    save(tmp_path / "prefill.onnx", 4)
    built = call("build", "decode.onnx", "--entry", "prefill=prefill.onnx", "-o", "out", "-q")
    assert built.code == 0, built.err
    assert [entry.name for entry in read_report(tmp_path / "out").entries] == ["decode", "prefill"]
    again = call("build", "--config", "out/config.resolved.toml", "-o", "again", "-q")
    assert again.code == 0, again.err

    assert "several entry points, decode, prefill" in call("run", "out", "--random").err
    ran = call("run", "out", "--random", "--entry", "prefill", "--format", "json")
    assert json.loads(ran.out)["outputs"][0]["shape"] == [1, 4, 7]
    timed = call("bench", "again", "--entry", "decode", "--repeats", "2", "--format", "json")
    predicted = read_report(tmp_path / "out" / "decode.report.json").energy.after.energy_j
    assert json.loads(timed.out)["energy"]["joules_per_inference"] == predicted


def test_shapes_are_those_of_one_entry_point_or_of_all(call: Call, tmp_path: Path) -> None:
    model = parse(MODEL.replace("N", "1"))
    free = ir.to_proto(model)
    free.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "length"
    free.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "length"
    (tmp_path / "model.onnx").write_bytes(free.SerializeToString())
    entries = ("--entry", "prefill=model.onnx", "--entry", "decode=model.onnx")
    shapes = ("--shape", "input_ids=1,1", "--shape", "prefill:input_ids=1,5")
    built = call("build", *entries, *shapes, "-o", "out", "-q")
    assert built.code == 0, built.err
    report = read_report(tmp_path / "out")
    assert [entry.tokens for entry in report.entries] == [5, 1]


@pytest.mark.parametrize("texts", [["prefill"], ["=x"], ["a="], ["a=x", "a=y"]])
def test_entries_are_read_strictly(texts: list[str]) -> None:
    with pytest.raises(UsageError, match="--entry"):
        parse_entries(texts)


def test_model_cannot_be_called_like_another(call: Call, tmp_path: Path) -> None:
    save(tmp_path / "decode.onnx", 1)
    outcome = call("build", "decode.onnx", "--entry", "decode=decode.onnx")
    assert "both called 'decode'" in outcome.err


def test_paths_of_entries_count_from_the_file(tmp_path: Path) -> None:
    config = BuildConfig(entries={"a": "models/a.onnx", "b": "my.module:factory"})
    (tmp_path / "build.toml").write_text(config.to_toml(), encoding="utf-8")
    found = BuildConfig.read(tmp_path / "build.toml")["entries"]
    assert found == {"a": str(tmp_path / "models" / "a.onnx"), "b": "my.module:factory"}
