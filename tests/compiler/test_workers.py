from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gcompile import ir
from gcompile.compiler.sweep import sensitivity, sweep
from gcompile.compiler.workers import Processes, RayCluster, parse_workers
from gcompile.errors import BackendUnavailableError, RunError, UsageError
from gcompile.report import SensitivityReport
from tests.compiler.task import task


def measured(folder: Path, workers: str | None) -> SensitivityReport:
    return sensitivity(task().model, calib=task().calib, workers=workers, cache=folder)


def test_processes_measure_what_one_measures(tmp_path: Path) -> None:
    alone = measured(tmp_path / "alone", None)
    assert measured(tmp_path / "spread", "2") == alone
    assert any((option.error or 0.0) > 0 for layer in alone.layers for option in layer.options)


def test_what_workers_measured_is_known_to_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = measured(tmp_path, "2")

    def refuse(*_: object) -> Iterator[object]:
        raise AssertionError("measured again")

    monkeypatch.setattr(Processes, "each", refuse)
    assert measured(tmp_path, "2") == first


def test_a_sweep_with_workers_finds_the_same_points(tmp_path: Path) -> None:
    reports = [
        sweep(task().model, calib=task().calib, points=3, workers=workers, cache=tmp_path / name)
        for name, workers in (("alone", None), ("spread", "2"))
    ]
    energies = [[point.energy_j for point in report.points] for report in reports]
    assert energies[0] == energies[1]


def _ends(number: int) -> int:
    if number:
        os._exit(1)
    return number


def test_a_process_that_dies_is_a_sentence() -> None:
    with pytest.raises(RunError, match="ended before its measurement"):
        list(Processes(1).each(_ends, [0, 1]))


@pytest.mark.parametrize("text", ["0", "-1", "many", "ray://", "host", "ray://host:port"])
def test_workers_that_are_neither_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--workers 4"):
        parse_workers(text)


def test_workers_are_read() -> None:
    assert parse_workers(None) is None
    assert parse_workers("3") == Processes(3)
    assert parse_workers("ray") == RayCluster("auto")
    assert parse_workers("ray://head:10001") == RayCluster("ray://head:10001")
    assert parse_workers("10.0.0.1:6379") == RayCluster("10.0.0.1:6379")


def test_without_ray_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BackendUnavailableError, match=r"pip install 'gcompile\[ray\]'"):
        RayCluster("auto").count()


def test_a_model_goes_to_a_worker_and_back() -> None:
    model = ir.from_bytes(ir.to_bytes(task().model))
    assert ir.to_bytes(model) == ir.to_bytes(task().model)
