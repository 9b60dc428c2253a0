"""Free dimensions on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from gcompile import ir
from gcompile.cli.options import parse_dynamic
from gcompile.errors import UsageError
from gcompile.report import read_report
from tests.cli.conftest import Outcome
from tests.compiler.task import free

Call = Callable[..., Outcome]

MODEL = "g (float[batch,6] x) => (float[batch,4] y) <float[6,4] w> { y = MatMul(x, w) }"


def test_an_artefact_runs_as_many_rows_as_there_are(call: Call, tmp_path: Path) -> None:
    onnx.save(ir.to_proto(free(MODEL)), tmp_path / "m.onnx")
    built = call("build", "m.onnx", "--dynamic", "batch=1..4", "-o", "out", "-q")
    assert built.code == 0, built.err
    again = call("build", "--config", "out/config.resolved.toml", "-o", "again", "-q")
    assert again.code == 0, again.err
    dynamic = read_report(tmp_path / "again").dynamic
    assert dynamic is not None
    assert dynamic.dimensions[0].sizes == [1, 2, 4]
    ledger = json.loads((tmp_path / "again" / "ledger.json").read_text(encoding="utf-8"))
    assert ledger["dynamic"] == dynamic.model_dump()

    np.savez(tmp_path / "rows.npz", x=np.ones((7, 6), np.float32))
    ran = call("run", "again", "--input", "rows.npz", "--format", "json")
    assert json.loads(ran.out)["outputs"][0]["shape"] == [7, 4]
    timed = call("bench", "again", "--entry", "batch4", "--repeats", "2", "--format", "json")
    assert json.loads(timed.out)["energy"]["joules_per_inference"] == dynamic.points[2].energy_j
    assert call("bench", "again", "--repeats", "2").code == 0


def test_wrong_names_list_the_free_dimensions(call: Call, tmp_path: Path) -> None:
    onnx.save(ir.to_proto(free(MODEL)), tmp_path / "m.onnx")
    built = call("build", "m.onnx", "--dynamic", "rows=1..4", "-o", "out", "-q")
    assert built.code == 2
    assert "Its free dimensions are: batch (axis 0 of x)" in built.err
    both = call("build", "m.onnx", "--dynamic", "batch=1..4", "--entry", "a=m.onnx", "-o", "out")
    assert both.code == 2
    assert "--dynamic is for one model" in both.err


def test_a_size_for_every_dimension_leaves_none_free(call: Call) -> None:
    outcome = call("build", "m:f", "--input-shape", "2,8", "--dynamic", "batch=1..4")
    assert outcome.code == 2
    assert "torch.export.export gives with dynamic_shapes" in " ".join(outcome.err.split())


@pytest.mark.parametrize("texts", [["batch"], ["=1..4"], ["batch="], ["a=1", "a=2"]])
def test_a_dimension_is_a_name_and_sizes(texts: list[str]) -> None:
    with pytest.raises(UsageError, match="--dynamic"):
        parse_dynamic(texts)
