from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gcompile.report import Report, write_report
from tests.cli.conftest import Outcome
from tests.report import examples

Call = Callable[..., Outcome]


def _write(folder: Path, factor: float, **changes: object) -> Path:
    report = examples.report()
    data = report.model_dump() | changes
    data["energy"]["after"]["energy_j"] *= factor
    write_report(Report.model_validate(data), folder)
    return folder


def test_equal_energy_passes_the_gate(call: Call, tmp_path: Path) -> None:
    outcome = call("compare", _write(tmp_path / "a", 1.0), _write(tmp_path / "b", 1.0))
    assert outcome.code == 0
    assert "10.0 uJ" in outcome.out


@pytest.mark.parametrize(("tolerance", "code"), [("1%", 1), ("0.04", 1), ("6%", 0), ("0.06", 0)])
def test_more_energy_than_tolerated_exits_1(
    call: Call, tmp_path: Path, tolerance: str, code: int
) -> None:
    old, new = _write(tmp_path / "a", 1.0), _write(tmp_path / "b", 1.05)
    outcome = call("compare", old, new, "--tolerance", tolerance)
    assert outcome.code == code
    assert ("energy rose by 5.00%" in outcome.err) == bool(code)


def test_less_energy_passes(call: Call, tmp_path: Path) -> None:
    old, new = _write(tmp_path / "a", 1.0), _write(tmp_path / "b", 0.5)
    data = json.loads(call("compare", old, new, "--format", "json").out)
    assert data["regressed"] is False
    assert data["new"]["energy_j"] == pytest.approx(data["old"]["energy_j"] / 2)


def test_different_devices_are_not_compared(call: Call, tmp_path: Path) -> None:
    old, new = _write(tmp_path / "a", 1.0), _write(tmp_path / "b", 1.0, target="other")
    outcome = call("compare", old, new)
    assert outcome.code == 2
    assert "target: test-board and other" in outcome.err


@pytest.mark.parametrize("tolerance", ["-1%", "much", "nan"])
def test_a_wrong_tolerance_is_refused(call: Call, tmp_path: Path, tolerance: str) -> None:
    assert call("compare", tmp_path, tmp_path, "--tolerance", tolerance).code == 2


def test_a_missing_report_is_an_artefact_error(call: Call, tmp_path: Path) -> None:
    assert call("compare", tmp_path / "none", tmp_path).code == 4
