from __future__ import annotations

import tomllib
from importlib.resources import files

import pytest

from gcompile.energy.carbon import fixed_intensity, zone_intensity
from gcompile.errors import UsageError


def test_a_country_has_three_spellings() -> None:
    spellings = ("DE", "de", "DEU", "Germany", " germany ")
    found = {zone_intensity(spelling) for spelling in spellings}
    assert len(found) == 1
    germany = found.pop()
    assert germany.g_per_kwh == pytest.approx(380.9, abs=0.1)
    assert (germany.zone, germany.at, germany.signal) == ("DE", "2023", "average")


def test_the_source_is_named_as_its_licence_asks() -> None:
    for part in ("Our World in Data", "Ember", "CC BY 4.0"):
        assert part in zone_intensity("FR").source


def test_the_world_has_an_average() -> None:
    assert zone_intensity("World").g_per_kwh == 475


def test_every_country_of_the_table_is_found_and_sane() -> None:
    path = files("gcompile.energy.carbon") / "data" / "countries.toml"
    countries = tomllib.loads(path.read_text(encoding="utf-8"))["countries"]
    assert len(countries) == 213
    assert len({country["code"] for country in countries.values()}) == 213
    for code3, country in countries.items():
        for spelling in (code3, country["code"], country["name"]):
            assert zone_intensity(spelling).g_per_kwh == country["g_per_kwh"]
        assert 0 <= country["g_per_kwh"] < 1500
        assert 2000 <= country["year"] <= 2023


def test_an_unknown_zone_gets_a_suggestion_and_the_form() -> None:
    with pytest.raises(UsageError, match=r"Did you mean DE\? Give a country as DE"):
        zone_intensity("germny")
    with pytest.raises(UsageError, match="--carbon-provider"):
        zone_intensity("US-CAL-CISO")


@pytest.mark.parametrize("grams", [-1.0, 1e6, float("nan"), float("inf")])
def test_an_impossible_intensity_is_refused(grams: float) -> None:
    with pytest.raises(UsageError, match="--carbon-intensity 350"):
        fixed_intensity(grams)


def test_grams_and_joules_convert_both_ways() -> None:
    grid = fixed_intensity(360.0)
    assert grid.grams(3.6e6) == pytest.approx(360.0)
    assert grid.energy_j(grid.grams(0.05)) == pytest.approx(0.05)


def test_clean_electricity_makes_no_budget() -> None:
    with pytest.raises(UsageError, match="give the budget in joules"):
        fixed_intensity(0.0).energy_j(1.0)
