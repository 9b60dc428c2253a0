from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import onnx

from gcompile import ir
from tests.cli.conftest import FakeCompiler, Outcome

Call = Callable[..., Outcome]


def test_an_estimate_as_json_has_total_and_layers(call: Call, compiler: FakeCompiler) -> None:
    outcome = call("estimate", "tiny.onnx", "--target", "test-board", "--format", "json")
    data = json.loads(outcome.out)
    assert {"energy_j", "low_j", "high_j", "time_s", "boundary"} <= set(data["energy"])
    assert [layer["name"] for layer in data["layers"]] == ["a", "b"]


def test_an_estimate_as_text_names_band_boundary_and_policy(
    call: Call, compiler: FakeCompiler
) -> None:
    outcome = call("estimate", "tiny.onnx")
    assert "10.0 uJ per inference (5.00 uJ to 20.0 uJ, board boundary)" in outcome.out
    assert "not a measurement" in outcome.out


def test_options_reach_the_estimator(call: Call, compiler: FakeCompiler) -> None:
    call("estimate", "tiny.onnx", "--precision", "int8", "--batch", "8", "--shape", "x=8,4")
    seen = compiler.calls[0]
    assert (seen["precision"], seen["batch"], seen["shapes"]) == ("int8", 8, {"x": (8, 4)})


def test_a_batch_below_one_is_refused(call: Call, compiler: FakeCompiler) -> None:
    assert call("estimate", "tiny.onnx", "--batch", "0").code == 2


def test_free_dimensions_are_bound_one_size_after_the_other(
    call: Call, compiler: FakeCompiler
) -> None:
    outcome = call("estimate", "tiny.onnx", "--dynamic", "batch=1..4")
    assert outcome.code == 2
    assert "--shape or --batch, once for each" in " ".join(outcome.err.split())
    assert not compiler.calls


def test_inputs_are_frozen_before_anything_else(
    call: Call, compiler: FakeCompiler, tmp_path: Path
) -> None:
    header = '<ir_version: 10, opset_import: ["" : 21]> '
    text = header + "g (float[2] x) => (float[2] y) { y = Neg(x) }"
    onnx.save(onnx.parser.parse_model(text), tmp_path / "tiny.onnx")
    outcome = call("estimate", "tiny.onnx", "--freeze", "rate=16000")
    assert outcome.code == 2
    assert "--freeze names an input the model does not have: rate" in outcome.err
    assert call("estimate", "tiny.onnx", "--freeze", "rate").code == 2
    call("estimate", "tiny.onnx", "--freeze", "x=0.5")
    model = compiler.calls[-1]["model"]
    assert isinstance(model, ir.Model)
    assert (model.graph.name, len(model.graph.inputs)) == ("tiny", 0)
