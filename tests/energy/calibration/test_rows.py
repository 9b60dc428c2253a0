"""What is read from measurements, and what is refused with which remedy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from gcompile.energy.calibration import MeasuredRow, read_rows
from gcompile.errors import UsageError
from gcompile.ir import Precision


@dataclass(frozen=True)
class _Row:
    model: str
    energy_j: float


def _csv(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_rows_come_from_a_file_from_mappings_and_from_dataclasses(tmp_path: Path) -> None:
    path = _csv(
        tmp_path, "model,energy_j,time_s,batch,precision\na,0.5,,,\nb, 2.5 ,0.1,4,int8\n\n"
    )
    a, b = MeasuredRow("a", 0.5), MeasuredRow("b", 2.5, 0.1, 4, Precision.INT8)
    assert read_rows(path) == (a, b)
    assert read_rows([{"model": "a", "energy_j": "0.5"}, b]) == (a, b)
    assert read_rows([_Row("a", 0.5)]) == (a,)


def test_a_byte_order_mark_is_no_part_of_the_header(tmp_path: Path) -> None:
    assert len(read_rows(_csv(tmp_path, "\ufeffmodel,energy_j\na,1\n"))) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model,energy_mj\na,5\n", "column 'energy_mj' is in mJ. Convert it to joules"),
        (
            "model,energy_j,time_ms\na,5,1\n",
            "is in ms. Convert it to seconds and call it 'time_s'",
        ),
        ("model,energy_j,colour\na,5,red\n", "unknown column 'colour'. Columns: model,energy_j"),
        ("model,time_s\na,5\n", "column 'energy_j' is missing"),
        ("model,energy_j\na,-1\n", "line 2: energy_j is '-1', not a positive number of joules"),
        ("model,energy_j\na,nan\n", "not a positive number"),
        ("model,energy_j\na,inf\n", "not a positive number"),
        ("model,energy_j\na,0\n", "not a positive number"),
        ("model,energy_j\na,5 mJ\n", "not a positive number"),
        ("model,energy_j\na,\n", "energy_j of 'a' is empty"),
        ("model,energy_j\n,1\n", "the model has no name"),
        ("model,energy_j\na,1,2\n", "more values than columns"),
        ("model,energy_j,batch\na,1,0\n", "batch is '0'. Give a whole number"),
        ("model,energy_j,precision\na,1,int4\n", "unknown precision 'int4'. Known: fp32"),
        ("model,energy_j\n", "no measured rows"),
        ("model,energy_j\na,1\na.onnx,2\n", "'a.onnx' (batch 1) is measured twice"),
        ("model,energy_j\na,0.001\nb,9000000\n", "units are mixed up"),
    ],
)
def test_what_is_wrong_is_said_with_the_remedy(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_rows(_csv(tmp_path, text))
    assert message in str(caught.value)


def test_a_file_that_is_not_there_and_rows_that_are_no_rows(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read as text"):
        read_rows(tmp_path / "none.csv")
    with pytest.raises(UsageError, match="mapping or a dataclass"):
        read_rows([("a", 1.0)])


def test_the_same_model_may_be_measured_at_several_batches_and_precisions() -> None:
    rows = [MeasuredRow("a", 1.0), MeasuredRow("a", 2.0, batch=2)]
    rows.append(MeasuredRow("a", 0.5, precision=Precision.INT8))
    assert len(read_rows(rows)) == 3
