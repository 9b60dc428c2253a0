from __future__ import annotations

import pytest

from gcompile.energy.carbon import (
    INFERENCES,
    Accounting,
    Embodied,
    accounting,
    as_accounting,
    fixed_intensity,
    parse_embodied,
    zone_intensity,
)
from gcompile.errors import UsageError


def test_without_a_grid_nothing_is_counted() -> None:
    assert accounting() is None
    assert as_accounting(None) is None


def test_a_grid_is_a_zone_or_a_number() -> None:
    assert accounting(zone="SE") == Accounting(zone_intensity("SE"))
    assert accounting(g_per_kwh=350.0) == Accounting(fixed_intensity(350.0), INFERENCES)


def test_options_are_taken_over() -> None:
    counted = accounting(g_per_kwh=350.0, inferences=1000, embodied="150,4,0.25")
    assert counted == Accounting(fixed_intensity(350.0), 1000, Embodied(150.0, 4.0, 0.25))


def test_python_callers_may_give_less() -> None:
    grid = fixed_intensity(100.0)
    assert as_accounting("DE") == Accounting(zone_intensity("DE"))
    assert as_accounting(100.0) == as_accounting(grid) == Accounting(grid)
    assert as_accounting(Accounting(grid, 5)) == Accounting(grid, 5)


def test_the_share_of_embodied_carbon_is_the_time_of_use() -> None:
    half_a_year = 365.25 * 86400 / 2
    assert Embodied(100.0, 4.0).grams(half_a_year) == pytest.approx(12_500)
    assert Embodied(100.0, 4.0, 0.5).grams(half_a_year) == pytest.approx(6_250)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"zone": "DE", "g_per_kwh": 350.0}, "give one of them"),
        ({"g_per_kwh": 350.0, "provider": "uk"}, "give one of them"),
        ({"provider": "uk"}, "needs a zone"),
        ({"zone": "DE", "provider": "none"}, "Known carbon providers"),
        ({"inferences": 5}, "without a grid"),
        ({"embodied": "1,2"}, "without a grid"),
        ({"zone": "DE", "inferences": 0}, "less than one"),
        ({"zone": "Atlantis"}, "Unknown carbon zone"),
        ({"g_per_kwh": -3.0}, "between 0 and 5000"),
        ({"zone": "DE", "embodied": "much"}, "--carbon-embodied 150,4"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, object], part: str) -> None:
    with pytest.raises(UsageError) as caught:
        accounting(**options)  # type: ignore[arg-type]
    assert part in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "150", "150,4,1,1", "a,b", "-1,4", "150,0", "150,4,0", "1,4,2", "nan,4"]
)
def test_embodied_carbon_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--carbon-embodied 150,4"):
        parse_embodied(text)
