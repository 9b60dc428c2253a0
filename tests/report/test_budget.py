from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcompile.energy.carbon import fixed_intensity
from gcompile.errors import UsageError
from gcompile.report import Budget, parse_drop, parse_duration


@pytest.mark.parametrize(
    ("text", "energy_j"),
    [
        ("50mJ", 0.05),
        ("50 mJ", 0.05),
        (" 800uJ ", 8e-4),
        ("50µJ/inference", 5e-5),
        ("50uJ/sample", 5e-5),
        ("3nJ", 3e-9),
        ("50J/1000", 0.05),
        ("50J / 1_000", 0.05),
        ("0.2Wh", 720.0),
        ("0.2Wh/1000", 0.72),
        (".5J", 0.5),
        ("1e-3J", 1e-3),
        ("1kJ/1000", 1.0),
    ],
)
def test_an_absolute_budget_is_joules_per_inference(text: str, energy_j: float) -> None:
    budget = Budget.parse(text)
    assert budget.limit_j(exact_j=123.0) == pytest.approx(energy_j)
    assert budget.saving is None


@pytest.mark.parametrize(("text", "saving"), [("-40%", 0.4), ("-2.5 %", 0.025), ("-99.9%", 0.999)])
def test_a_relative_budget_counts_from_the_exactly_compiled_model(
    text: str, saving: float
) -> None:
    budget = Budget.parse(text)
    assert budget.energy_j is None
    assert budget.limit_j(exact_j=2.0) == pytest.approx(2.0 * (1 - saving))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("50", "no unit"),
        ("", "not a number with a unit"),
        ("mJ", "not a number with a unit"),
        ("fifty mJ", "not a number with a unit"),
        ("0mJ", "more than zero"),
        ("-5mJ", "more than zero"),
        ("1e999J", "finite"),
        ("1e-999J", "more than zero"),
        ("50MJ", "far more"),
        ("50mj", "capital letters matter: 'mJ'"),
        ("50W", "power"),
        ("50mW", "power"),
        ("50ms", "time"),
        ("50cal", "unknown unit"),
        ("5gCO2", "emissions are written in ugCO2e"),
        ("5gco2e", "emissions are written in ugCO2e"),
        ("5tCO2e", "emissions are written in ugCO2e"),
        ("0gCO2e", "more than zero"),
        ("5gCO2e/h", "number of inferences"),
        ("40%", "no minus sign"),
        ("+40%", "no minus sign"),
        ("0%", "no minus sign"),
        ("-100%", "no energy at all"),
        ("-250%", "no energy at all"),
        ("50J/0", "number of inferences"),
        ("50J/-3", "number of inferences"),
        ("50J/s", "number of inferences"),
        ("50J/", "not a number with a unit"),
    ],
)
def test_a_bad_budget_is_refused_with_the_reason_and_an_example(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        Budget.parse(text)
    assert "-40%" in str(caught.value)
    assert "50mJ" in str(caught.value)


@settings(derandomize=True)
@given(st.floats(1e-6, 1e6), st.sampled_from(["nJ", "uJ", "mJ", "J", "Wh"]), st.integers(1, 10**6))
def test_a_denominator_divides(amount: float, unit: str, inferences: int) -> None:
    whole = Budget.parse(f"{amount!r}{unit}").limit_j(1.0)
    assert Budget.parse(f"{amount!r}{unit}/{inferences}").limit_j(1.0) == pytest.approx(
        whole / inferences
    )


@settings(derandomize=True)
@given(st.text(max_size=30))
def test_any_text_is_a_budget_or_a_usage_error(text: str) -> None:
    try:
        budget = Budget.parse(text)
    except UsageError:
        return
    assert 0 < budget.limit_j(1.0) < float("inf")


def test_the_echo_says_what_was_understood() -> None:
    assert Budget.parse("50J/1000").echo == "50.0 mJ per inference"
    assert Budget.parse("-40%").echo == "40.0 % less than the model compiled exactly"


@pytest.mark.parametrize(
    ("text", "grams"),
    [
        ("5gCO2e/1000", 5e-3),
        ("5 mgCO2e", 5e-3),
        ("2kgCO2e/1_000_000", 2e-3),
        ("70ugCO2e/inference", 7e-5),
        ("70µgCO2e", 7e-5),
    ],
)
def test_emissions_become_joules_on_a_grid(text: str, grams: float) -> None:
    budget = Budget.parse(text)
    assert budget.gco2e == pytest.approx(grams)
    assert budget.energy_j is None
    on_grid = budget.on(fixed_intensity(360.0))
    assert on_grid.limit_j(1.0) == pytest.approx(grams / 360.0 * 3.6e6)
    assert on_grid.requested == text
    assert on_grid.gco2e == budget.gco2e


def test_emissions_without_a_grid_are_no_limit() -> None:
    budget = Budget.parse("5gCO2e/1000")
    for ask in (lambda: budget.limit_j(1.0), lambda: budget.on(None)):
        with pytest.raises(UsageError, match="--carbon-zone DE or --carbon-intensity 350"):
            ask()


def test_emissions_on_a_clean_grid_are_no_limit_either() -> None:
    with pytest.raises(UsageError, match="give the budget in joules"):
        Budget.parse("5gCO2e/1000").on(fixed_intensity(0.0))


def test_a_grid_leaves_a_budget_in_joules_alone() -> None:
    for text in ("50mJ", "-40%"):
        budget = Budget.parse(text)
        assert budget.on(fixed_intensity(360.0)) is budget
        assert budget.on(None) is budget


def test_the_echo_of_emissions_says_the_joules_once_they_are_known() -> None:
    budget = Budget.parse("5gCO2e/1000")
    assert budget.echo == "5.00 mgCO2e per inference"
    assert budget.on(fixed_intensity(360.0)).echo == "5.00 mgCO2e, 50.0 J per inference"


def test_parsing_a_budget_again_changes_nothing() -> None:
    budget = Budget.parse("50mJ")
    assert Budget.parse(budget) is budget


@pytest.mark.parametrize(
    ("drop", "fraction"),
    [("1%", 0.01), ("0.01", 0.01), (0.01, 0.01), ("0", 0.0), (" 2.5 %", 0.025)],
)
def test_a_drop_is_a_percentage_or_a_fraction(drop: str | float, fraction: float) -> None:
    assert parse_drop(drop) == pytest.approx(fraction)


@pytest.mark.parametrize("drop", ["1", "100%", "-1%", "-0.1", "nan", "inf", "one", "", "1%%", 1.0])
def test_a_bad_drop_is_refused_with_an_example(drop: str | float) -> None:
    with pytest.raises(UsageError, match=r"1% or 0\.01"):
        parse_drop(drop)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90.0), ("10m", 600.0), ("2h", 7200.0), ("1.5", 1.5), (7, 7.0), (None, None)],
)
def test_durations(text: str | float | None, seconds: float | None) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0s", "-1m", "ten", "nan", "inf", "5d"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no time"):
        parse_duration(text)
