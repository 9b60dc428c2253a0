from __future__ import annotations

import json
from pathlib import Path

import pytest

from gcompile.energy.meters import MeterError, Plan, ReplayClock, ReplayMeter, measure
from tests.energy.meters.devices import work


def test_a_recording_replays_through_the_same_interface(tmp_path: Path) -> None:
    path = tmp_path / "recording.json"
    data = {"boundary": "chip", "method": "a laptop", "readings": [[0, 0], [100, 700]]}
    path.write_text(json.dumps(data))
    clock = ReplayClock()
    measured = measure(work(clock, 0.5), ReplayMeter.read(path, clock), Plan(repeats=2), clock)
    assert measured.joules_per_inference == pytest.approx(3.5)
    assert (measured.boundary, measured.method) == ("chip", "a laptop")


def test_a_recording_without_a_clock_begins_with_its_first_reading(tmp_path: Path) -> None:
    path = tmp_path / "recording.json"
    path.write_text('{"readings": [[50, 0], [60, 10]]}')
    assert ReplayMeter.read(path).mark().at_s == 50


def test_a_recorded_counter_may_wrap() -> None:
    clock = ReplayClock()
    meter = ReplayMeter([(0.0, 0.0), (100.0, 1000.0)], clock, wraps_at_j=64.0)
    clock.sleep(6.0)
    start = meter.mark()
    clock.sleep(2.0)
    end = meter.mark()
    assert end.readings["counter"] < start.readings["counter"]
    assert meter.energy_j(start, end) == pytest.approx(20.0)


def test_a_recording_that_is_too_short_says_so() -> None:
    clock = ReplayClock(200.0)
    with pytest.raises(MeterError, match="record for longer"):
        ReplayMeter([(0.0, 0.0), (100.0, 1000.0)], clock).mark()
