from __future__ import annotations

import dataclasses

import pytest

from gcompile import ir
from gcompile.energy import Estimate
from gcompile.report import Budget, Report, Verify, make_estimate_report, make_report
from gcompile.report.text import as_plain_text, render_estimate
from tests.report import examples


def test_the_names_other_programs_rely_on_are_there() -> None:
    data = examples.report().model_dump()
    assert data["status"] == "ok"
    assert set(data["budget"]) == {"requested", "energy_j", "met"}
    for moment in ("before", "exact", "after"):
        section = data["energy"][moment]
        assert {"energy_j", "low_j", "high_j", "time_s", "boundary"} <= set(section)
    assert {"metric", "reference", "compiled", "rows"} <= set(data["accuracy"])
    assert set(data["passes"][0]) == {
        *("name", "changed", "seconds", "before_j", "after_j", "kept", "skipped"),
    }
    assert set(data["layers"][0]) == {
        "name", "op", "precision", "energy_j", "time_s", "error", "module", "source"
    }  # fmt: skip
    assert set(data["verify"]) == {
        *("max_abs_error", "cosine", "tolerance", "rows", "code_ran", "reason"),
    }


def test_pipelines_are_unfolded_into_single_passes() -> None:
    names = [entry.name for entry in examples.report().passes]
    assert names == ["fold-batch-norm", "remove-dead-nodes", "convert-bfloat16"]


def test_layers_are_the_regions_of_the_final_model_with_their_cost() -> None:
    layers = {layer.name: layer for layer in examples.report().layers}
    assert list(layers) == ["a", "b"]
    assert layers["a"].op == "Relu"
    assert layers["a"].precision == "fp32"
    assert layers["a"].energy_j == pytest.approx(8e-6)


def test_errors_become_shares_of_their_sum() -> None:
    shares = [layer.error for layer in examples.report().layers]
    assert shares == [0.75, 0.25]


def test_layers_say_where_in_a_pytorch_module_they_are() -> None:
    a, b = examples.report(module="block.conv").layers
    assert (a.module, a.source) == (None, None)
    assert (b.module, b.source) == ("block.conv", "/home/me/net.py:7")


def test_an_estimate_says_it_too() -> None:
    places = {"b": ir.Place("block.conv", "net.py:7")}
    found = dataclasses.replace(examples.estimate(), places=places)
    report = make_estimate_report(found, model_name="m", target="t")
    a, b = report.layers
    assert (a.module, b.module, b.source) == (None, "block.conv", "net.py:7")
    assert "net.py:7" in as_plain_text(render_estimate(report))


def test_the_energy_of_the_layers_adds_up_to_the_total() -> None:
    report = examples.report()
    assert sum(layer.energy_j for layer in report.layers) == pytest.approx(
        report.energy.after.energy_j
    )


def test_a_relative_budget_is_judged_against_the_exact_passes() -> None:
    report = examples.report(budget="-40%")
    assert report.budget.energy_j == pytest.approx(12e-6)
    assert report.budget.met is True
    assert examples.report(budget="-60%").budget.met is False


def test_without_a_budget_its_values_are_null() -> None:
    budget = examples.report(budget=None).budget
    assert (budget.requested, budget.energy_j, budget.met) == (None, None, None)


def test_a_message_is_written_where_none_is_given() -> None:
    assert examples.report().message == "The energy budget is met."
    assert examples.report(message="As close as 5 uJ.").message == "As close as 5 uJ."


def test_a_report_survives_json() -> None:
    report = examples.report()
    assert Report.model_validate_json(report.model_dump_json()) == report


def test_infinite_sqnr_means_identical_and_becomes_null() -> None:
    data = examples.report().model_dump() | {
        "fidelity": {"sqnr_db": float("inf"), "cosine": 1.0, "rows": 1}
    }
    fidelity = Report.model_validate(data).fidelity
    assert fidelity is not None
    assert fidelity.sqnr_db is None


def test_a_number_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        Verify(max_abs_error=float("nan"), cosine=1.0, tolerance=1e-4, rows=1)


def test_every_energy_total_has_its_band_boundary_and_idle_policy() -> None:
    energy = examples.report().energy.after
    assert energy.low_j == pytest.approx(energy.energy_j / 2)
    assert energy.high_j == pytest.approx(energy.energy_j * 2)
    assert (energy.boundary, energy.idle_policy) == ("board", "full")


def test_a_region_without_a_price_is_left_out() -> None:
    after = examples.estimate()
    only_a = dataclasses.replace(after, per_region={"a": after.per_region["a"]})
    report = make_report(
        model=examples.tiny_model(),
        model_name="tiny",
        target=examples.target(),
        before=after,
        exact=after,
        after=only_a,
        passes=(),
        verify=Verify(max_abs_error=0.0, cosine=1.0, tolerance=0.0, rows=1),
        budget=Budget.parse("1J"),
        limit_j=0.5,
    )
    assert [layer.name for layer in report.layers] == ["a"]
    assert report.budget.energy_j == 0.5


def test_an_estimate_reports_every_region() -> None:
    predicted: Estimate = examples.estimate()
    report = make_estimate_report(predicted, model_name="tiny", target="test-board")
    assert [layer.name for layer in report.layers] == ["a", "b"]
    assert report.energy.movement_j == pytest.approx({"L1": 2e-6, "DRAM": 2e-6})
