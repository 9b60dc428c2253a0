from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcompile.energy import Estimate
from gcompile.energy.meters import (
    Measurement,
    MeterError,
    Plan,
    ReplayClock,
    idle_power_w,
    measure,
)
from gcompile.energy.meters.measure import keep
from gcompile.errors import UsageError
from tests.energy.meters.devices import NOON_S, constant, steps, work

PLAN = Plan(window_s=5.0, repeats=5, warmup_s=2.0)


def test_joules_are_power_times_the_time_of_one_inference() -> None:
    clock = ReplayClock(NOON_S)
    measured = measure(work(clock, 0.1), constant(clock, 10.0), PLAN, clock)
    assert measured.joules_per_inference == pytest.approx(1.0)
    assert measured.stdev_j == pytest.approx(0.0, abs=1e-9)
    assert measured.power_w == pytest.approx(10.0)
    assert measured.seconds_per_inference == pytest.approx(0.1)
    assert (measured.repeats, measured.discarded) == (5, 0)
    assert measured.window_s == pytest.approx(5.0, rel=0.03)
    assert 250 <= measured.inferences <= 255
    assert len(measured.windows_j) == 5


def test_a_measurement_says_what_it_is() -> None:
    clock = ReplayClock(NOON_S)
    meter = constant(clock, boundary="wall", method="a known device")
    measured = measure(work(clock), meter, PLAN, clock)
    assert (measured.boundary, measured.method) == ("wall", "a known device")
    assert (measured.idle_policy, measured.settled) == ("full", True)
    assert measured.started_at > datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert not isinstance(measured, Estimate)
    assert not issubclass(Measurement, Estimate)


def _two_levels(clock: ReplayClock) -> tuple[object, Plan]:
    """Idle for 5 s at 4 W, then 37 s of 0.1 s inferences at 10 W, then idle again."""
    return steps(clock, [(5.0, 4.0), (2.0 + 7 * 5.0, 10.0), (100.0, 4.0)]), replace(PLAN)


def test_idle_power_is_read_while_nothing_runs() -> None:
    clock = ReplayClock(NOON_S)
    meter, plan = _two_levels(clock)
    full = measure(work(clock, 0.125), meter, plan, clock)  # type: ignore[arg-type]
    assert full.idle_w == pytest.approx(4.0)
    assert full.joules_per_inference == pytest.approx(1.25)


def test_marginal_joules_leave_out_what_is_drawn_anyway() -> None:
    clock = ReplayClock(NOON_S)
    meter, plan = _two_levels(clock)
    plan = replace(plan, idle="marginal")
    marginal = measure(work(clock, 0.125), meter, plan, clock)  # type: ignore[arg-type]
    assert marginal.joules_per_inference == pytest.approx(0.125 * 6.0)
    assert marginal.power_w == pytest.approx(10.0)


def test_a_load_that_disappears_in_the_idle_power_is_refused() -> None:
    clock = ReplayClock(NOON_S)
    with pytest.raises(MeterError, match="use --idle full"):
        measure(work(clock), constant(clock), replace(PLAN, idle="marginal"), clock)


def test_a_counter_that_stands_still_is_refused() -> None:
    clock = ReplayClock(NOON_S)
    with pytest.raises(MeterError, match="no joules at all"):
        measure(work(clock), constant(clock, 0.0), PLAN, clock)


def test_windows_repeat_until_a_warming_device_settles() -> None:
    clock = ReplayClock(NOON_S)
    warming = [(7.0, 5.0), (5.0, 5.0), (5.0, 7.0), (5.0, 8.0), (5.0, 8.05), (500.0, 8.05)]
    measured = measure(work(clock, 0.125), steps(clock, warming), PLAN, clock)
    assert measured.settled
    assert measured.power_w == pytest.approx(8.05)


def test_settling_is_bounded_and_what_did_not_settle_says_so() -> None:
    clock = ReplayClock(NOON_S)
    climbing = [(5.0, 2.0 + i) for i in range(40)]
    measured = measure(work(clock, 0.125), steps(clock, climbing), PLAN, clock)
    assert not measured.settled
    assert measured.drift > PLAN.drift_limit
    assert clock.now() - NOON_S < 5.0 * (2 + PLAN.settling_windows + PLAN.repeats) + 3


def test_a_window_that_something_disturbed_is_left_out() -> None:
    clock = ReplayClock(NOON_S)
    disturbed = [(7.0 + 3 * 5.0, 8.0), (5.0, 30.0), (500.0, 8.0)]
    measured = measure(work(clock, 0.125), steps(clock, disturbed), PLAN, clock)
    assert measured.joules_per_inference == pytest.approx(1.0)
    assert (measured.repeats, measured.discarded) == (4, 1)
    assert max(measured.windows_j) == pytest.approx(30 * 0.125)


def test_an_inference_longer_than_the_window_is_measured_whole() -> None:
    clock = ReplayClock(NOON_S)
    measured = measure(work(clock, 12.0), constant(clock), replace(PLAN, repeats=2), clock)
    assert measured.joules_per_inference == pytest.approx(120.0)
    assert measured.inferences == 2


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"repeats": 0}, "Give 1 or more"),
        ({"window_s": 0.5}, "Give 2 s to 120 s"),
        ({"window_s": 600.0}, "Give 2 s to 120 s"),
        ({"window_s": float("nan")}, "Give 2 s to 120 s"),
    ],
)
def test_a_plan_that_does_not_fit_the_meter_is_refused(
    change: dict[str, float], part: str
) -> None:
    clock = ReplayClock(NOON_S)
    with pytest.raises(UsageError, match=part):
        measure(work(clock), constant(clock, update_s=0.1), replace(PLAN, **change), clock)  # type: ignore[arg-type]


def test_an_unavailable_meter_measures_nothing() -> None:
    clock = ReplayClock(NOON_S)
    meter = constant(clock, reason="The plug is pulled.")
    with pytest.raises(MeterError, match="The plug is pulled"):
        measure(work(clock), meter, PLAN, clock)
    with pytest.raises(MeterError, match="The plug is pulled"):
        idle_power_w(meter, PLAN, clock)
    assert MeterError.exit_code == 4


def test_idle_power_can_be_measured_alone() -> None:
    clock = ReplayClock(NOON_S)
    assert idle_power_w(constant(clock, 3.5), PLAN, clock) == pytest.approx(3.5)


def test_the_system_clock_serves_where_no_other_is_given() -> None:
    clock = ReplayClock(NOON_S)
    plan = Plan(window_s=0.001, repeats=1, warmup_s=0.0, settling_windows=0)
    with pytest.raises(ZeroDivisionError):  # The meter's own clock stands still.
        measure(lambda: None, constant(clock), plan)


@settings(derandomize=True)
@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=15))
def test_more_than_half_of_the_windows_always_stay(values: list[float]) -> None:
    kept = keep(values)
    assert 2 * len(kept) >= len(values)
    assert kept == sorted(set(kept))
