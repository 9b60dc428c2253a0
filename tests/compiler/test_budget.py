"""Budgets: met at the least loss, missed with the closest point, and never by quiet means."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

import gcompile
from gcompile import ir
from gcompile.errors import UsageError
from gcompile.passes import PassContext
from gcompile.passes.precision import Histogram, observe_ranges
from tests.compiler.task import closeness, task, with_outputs_as_labels


def test_a_relative_budget_counts_from_the_exact_model_and_is_met() -> None:
    given = task()
    built = gcompile.compile(
        given.model, budget="-40%", max_drop=0.05, calib=given.calib, evaluate=given.evaluate
    )
    report = built.report
    assert report.status == "ok"
    assert report.budget.energy_j == pytest.approx(0.6 * report.energy.exact.energy_j)
    assert report.budget.met
    assert report.energy.after.energy_j <= 0.6 * report.energy.exact.energy_j
    assert report.accuracy is not None
    assert report.accuracy.reference == 1.0
    assert report.accuracy.compiled >= 0.95
    assert report.accuracy.rows == 48
    assert report.fidelity is not None
    outputs = [built.artifact.run({"x": row[None]})["y"].argmax() for row in given.evaluate["x"]]
    right = [int(a == b) for a, b in zip(outputs, given.evaluate["labels"], strict=True)]
    assert sum(right) / len(right) == pytest.approx(report.accuracy.compiled)


def test_a_budget_the_exact_model_meets_changes_no_precision() -> None:
    given = task()
    report = gcompile.compile(given.model, budget="1J", calib=given.calib).report
    assert report.status == "ok"
    assert report.energy.after.energy_j <= report.energy.exact.energy_j
    assert {layer.precision for layer in report.layers} == {"fp32"}


def test_an_impossible_budget_gives_the_closest_point_and_names_it(tmp_path: Path) -> None:
    given = task()
    report = gcompile.compile(
        given.model, budget="1nJ", calib=given.calib, evaluate=given.evaluate,
        max_drop=0.5, output=tmp_path / "out",
    ).report  # fmt: skip
    assert report.status == "budget_not_met"
    assert report.budget.met is False
    assert "budget of 1 nJ binds" in report.message
    reached = f"{report.energy.after.energy_j * 1e6:.3g} uJ"
    assert reached in report.message
    assert report.energy.after.energy_j < report.energy.exact.energy_j
    assert (tmp_path / "out" / "model.so").is_file()


def test_a_budget_out_of_reach_of_the_precision_asked_for() -> None:
    given = task()
    report = gcompile.compile(
        given.model, budget="1nJ", precision="int8", calib=given.calib
    ).report
    assert report.status == "budget_not_met"
    assert "precision int8" in report.message
    assert f"{report.energy.after.energy_j * 1e6:.1f}" in report.message
    assert not any("accuracy is unknown" in note for note in report.notes)


def test_an_accuracy_out_of_reach_within_the_budget() -> None:
    given = task()
    report = gcompile.compile(
        given.model, budget="-70%", max_drop=1e-7, metric=closeness, calib=given.calib,
        evaluate=with_outputs_as_labels(given),
    ).report  # fmt: skip
    assert report.status == "accuracy_not_met"
    assert report.message.startswith("The accuracy binds")
    assert report.budget.met
    assert report.accuracy is not None
    assert report.accuracy.metric == "closeness"
    assert report.accuracy.compiled < 1.0


def test_an_accuracy_out_of_reach_of_the_precision_asked_for() -> None:
    given = task()
    report = gcompile.compile(
        given.model, precision="int8", max_drop=1e-7, metric=closeness, calib=given.calib,
        evaluate=with_outputs_as_labels(given),
    ).report  # fmt: skip
    assert report.status == "accuracy_not_met"
    assert "closeness falls from" in report.message


def test_without_evaluation_rows_there_is_only_fidelity() -> None:
    given = task()
    report = gcompile.compile(given.model, budget="-40%", calib=given.calib).report
    assert report.accuracy is None
    assert report.fidelity is not None
    assert report.fidelity.cosine > 0.999
    assert any("accuracy is unknown" in note for note in report.notes)


def test_without_calibration_rows_only_float_precisions_are_considered() -> None:
    report = gcompile.compile(task().model, budget="1nJ").report
    assert "int8" not in {layer.precision for layer in report.layers}
    assert report.fidelity is None
    assert any("only float precisions" in note for note in report.notes)


def test_a_metric_sees_every_row_and_is_asked_a_bounded_number_of_times() -> None:
    given = task()
    seen: list[tuple[int, ...]] = []

    def metric(outputs: dict[str, ir.Array], labels: ir.Array) -> float:
        seen.append((*outputs["y"].shape, len(labels)))
        return 1.0

    gcompile.compile(
        given.model, budget="-40%", calib=given.calib, evaluate=given.evaluate, metric=metric
    )
    assert set(seen) == {(48, 5, 48)}
    assert len(seen) <= 8 + 2


def test_ranges_are_observed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    given = task()
    count = 0

    def counted(model: ir.Model, ctx: PassContext) -> dict[str, Histogram]:
        nonlocal count
        count += 1
        return observe_ranges(model, ctx)

    for name in ("gcompile.compiler.stages", "gcompile.search.start"):
        monkeypatch.setattr(importlib.import_module(name), "observe_ranges", counted)
    gcompile.compile(given.model, budget="-60%", calib=given.calib)
    assert count == 1


def test_a_budget_below_int8_is_met_by_pruning() -> None:
    given = task()
    integer = gcompile.compile(given.model, precision="int8", calib=given.calib)
    limit = f"{0.9 * integer.report.energy.after.energy_j}J"
    alone, pruned = (
        gcompile.compile(
            given.model, budget=limit, max_drop=0.9, evaluations=1, calib=given.calib,
            evaluate=given.evaluate, prune=prune,
        ).report
        for prune in (False, True)
    )  # fmt: skip
    assert alone.status == "budget_not_met"
    assert pruned.status == "ok"
    assert "pruned in" in pruned.message
    assert any("prune-channels" in entry.name for entry in pruned.passes)
    with pytest.raises(UsageError, match="Pruning needs calibration rows"):
        gcompile.compile(given.model, budget=limit, prune=True)
