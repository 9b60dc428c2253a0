from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcompile.energy.carbon import (
    Accounting,
    BuildEnergy,
    Embodied,
    assess,
    build_energy,
    cpu_seconds,
    fixed_intensity,
)
from gcompile.energy.meters import Measurement
from tests.report import examples

GRID = fixed_intensity(360.0)
"""A joule emits 0.1 mg."""

MEASURED = Measurement(
    joules_per_inference=2.0,
    stdev_j=0.1,
    repeats=5,
    discarded=0,
    window_s=5.0,
    inferences=100,
    seconds_per_inference=0.25,
    power_w=8.0,
    idle_w=3.0,
    idle_policy="full",
    boundary="wall",
    method="a known device",
    started_at=datetime(2026, 1, 1, tzinfo=UTC),
    settled=True,
    drift=0.0,
)


def test_an_estimate_emits_its_joules_and_keeps_its_band() -> None:
    carbon = assess(examples.estimate(), Accounting(GRID, 1000))
    assert carbon.inference_g == pytest.approx(10e-6 * 1e-4)
    assert carbon.low_g == pytest.approx(5e-6 * 1e-4)
    assert carbon.high_g == pytest.approx(20e-6 * 1e-4)
    assert carbon.inferences_g == pytest.approx(10e-6 * 1e-4 * 1000)
    assert (carbon.provenance, carbon.boundary, carbon.build) == ("estimated", "board", None)


def test_a_measurement_emits_what_was_metered() -> None:
    carbon = assess(MEASURED, Accounting(GRID))
    assert carbon.inference_g == pytest.approx(2e-4)
    assert carbon.low_g == pytest.approx(1.8e-4)
    assert carbon.high_g == pytest.approx(2.2e-4)
    assert (carbon.provenance, carbon.boundary) == ("measured", "wall")


def test_a_spread_wider_than_the_mean_does_not_go_below_zero() -> None:
    assert assess(replace(MEASURED, stdev_j=5.0), Accounting(GRID)).low_g == 0.0


def test_the_software_carbon_intensity_shows_its_terms() -> None:
    embodied = Embodied(kg=126.23, lifetime_years=1.0)
    sci = assess(MEASURED, Accounting(GRID, embodied=embodied)).sci
    assert sci.energy_kwh == pytest.approx(2.0 / 3.6e6)
    assert sci.g_per_kwh == 360.0
    assert sci.embodied_g is not None
    assert sci.embodied_g == pytest.approx(126.23e3 * 0.25 / 31_557_600)
    assert sci.score_g == pytest.approx(sci.energy_kwh * sci.g_per_kwh + sci.embodied_g)


def test_embodied_carbon_that_was_not_given_is_said_to_be_missing() -> None:
    sci = assess(MEASURED, Accounting(GRID)).sci
    assert sci.embodied_g is None
    assert sci.score_g == pytest.approx(2e-4)


def test_a_build_emits_too_and_stays_outside_the_sci() -> None:
    build = BuildEnergy(cpu_s=10.0, power_w=5.0, low_j=25.0, high_j=100.0)
    carbon = assess(MEASURED, Accounting(GRID), build)
    assert build.energy_j == 50.0
    assert carbon.build_g == pytest.approx(50.0 * 1e-4)
    assert carbon.sci == assess(MEASURED, Accounting(GRID)).sci


def test_a_build_draws_the_power_of_one_busy_core() -> None:
    host = replace(examples.target(), core_w=2.0)  # 1 W static on 2 cores, 1 W of arithmetic
    build = build_energy(10.0, host)
    assert build.power_w == pytest.approx(0.5 + 2.0 + 1.0)
    assert build.low_j == pytest.approx(17.5)
    assert build.high_j == pytest.approx(70.0)


def test_a_host_without_a_launch_time_still_has_a_power() -> None:
    host = replace(examples.target(), core_w=2.0, launch_s=0.0)
    assert build_energy(1.0, host).power_w == pytest.approx(2.5)


def test_cpu_seconds_grow_with_work() -> None:
    before, end = cpu_seconds(), time.process_time() + 0.03
    while time.process_time() < end:
        pass
    assert cpu_seconds() - before >= 0.02


@settings(derandomize=True)
@given(st.floats(0, 2000), st.floats(1.01, 10))
def test_emissions_grow_with_the_intensity(grams: float, factor: float) -> None:
    low = assess(MEASURED, Accounting(fixed_intensity(grams)))
    high = assess(MEASURED, Accounting(fixed_intensity(min(grams * factor, 5000))))
    assert low.inference_g <= high.inference_g
    assert low.sci.score_g <= high.sci.score_g
