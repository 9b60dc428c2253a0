from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcompile.energy.meters import (
    AnalyserMeter,
    LogOptions,
    Mark,
    MeterError,
    Plan,
    ReplayClock,
    measure,
)
from gcompile.energy.meters.analyser import integrate
from gcompile.energy.meters.power_log import PowerLog, read_power_log
from tests.energy.meters.devices import NOON_S, work


def _log(path: Path, samples: list[tuple[float, float]], header: str = "time_s,power_w") -> Path:
    lines = [header, *(f"{time_s:.6f},{power_w}" for time_s, power_w in samples)]
    path.write_text("\n".join(lines) + "\n")
    return path


def _flat(power_w: float, seconds: float, start_s: float = NOON_S) -> list[tuple[float, float]]:
    return [(start_s + 0.1 * i, power_w) for i in range(round(seconds * 10) + 1)]


def test_the_window_is_cut_out_and_integrated(tmp_path: Path) -> None:
    path = _log(tmp_path / "p.csv", [(NOON_S + i / 10, float(i)) for i in range(101)])
    meter = AnalyserMeter(path)
    joules = meter.energy_j(Mark(NOON_S + 2.05), Mark(NOON_S + 7.05))
    assert joules == pytest.approx(5 * (2.05 + 7.05) / 2 * 10)
    assert (meter.boundary, meter.reads_live) == ("wall", False)


def test_the_analysers_clock_may_be_off(tmp_path: Path) -> None:
    path = _log(tmp_path / "p.csv", [*_flat(1.0, 9.9), *_flat(5.0, 10, NOON_S + 10)])
    options = LogOptions(offset_s=10.0, boundary="board")
    meter = AnalyserMeter(path, options)
    assert meter.energy_j(Mark(NOON_S), Mark(NOON_S + 2)) == pytest.approx(10.0)
    assert meter.boundary == "board"
    assert "clock offset +10 s" in meter.method


def test_a_whole_measurement_reads_the_log_afterwards(tmp_path: Path) -> None:
    clock = ReplayClock(NOON_S)
    meter = AnalyserMeter(_log(tmp_path / "p.csv", _flat(12.0, 60)), clock=clock)
    measured = measure(work(clock, 0.25), meter, Plan(repeats=3), clock)
    assert measured.joules_per_inference == pytest.approx(3.0)
    assert (measured.boundary, measured.settled) == ("wall", True)


class _Analyser(ReplayClock):
    """A clock in whose passing the log is written."""

    def __init__(self, path: Path) -> None:
        super().__init__(NOON_S)
        self.path = path

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        if self.now() >= NOON_S + 20:
            _log(self.path, _flat(3.0, 19))


def test_a_log_that_is_still_being_written_is_awaited(tmp_path: Path) -> None:
    clock = _Analyser(tmp_path / "late.csv")
    clock.sleep(12.0)
    meter = AnalyserMeter(clock.path, LogOptions(wait_s=30.0, may_start_late=True), clock)
    assert meter.why_unavailable() is None
    assert meter.energy_j(Mark(NOON_S + 1), Mark(NOON_S + 11)) == pytest.approx(30.0)
    assert clock.now() < NOON_S + 22


def test_patience_with_a_log_ends(tmp_path: Path) -> None:
    clock = ReplayClock(NOON_S)
    meter = AnalyserMeter(tmp_path / "never.csv", LogOptions(wait_s=3.0), clock)
    assert "start the analyser's log first" in str(meter.why_unavailable())
    with pytest.raises(MeterError, match="No such file"):
        meter.energy_j(Mark(NOON_S), Mark(NOON_S + 1))
    assert clock.now() == pytest.approx(NOON_S + 3.0)


@pytest.mark.parametrize(
    ("begin", "end", "part"),
    [
        (-1.0, 5.0, "begins after the measured window in part"),
        (5.0, 11.0, "ends before the measured window in part"),
        (-3600.0, -3595.0, "offset=SECONDS"),
        (7200.0, 7205.0, "offset=SECONDS"),
        (5.0, 5.35, "sample faster"),
    ],
)
def test_a_log_that_does_not_cover_the_window_is_refused(
    tmp_path: Path, begin: float, end: float, part: str
) -> None:
    clock = ReplayClock(NOON_S)
    path = _log(tmp_path / "p.csv", _flat(1.0, 10))
    meter = AnalyserMeter(path, LogOptions(wait_s=1.0), clock)
    with pytest.raises(MeterError, match=part):
        meter.energy_j(Mark(NOON_S + begin), Mark(NOON_S + end))


def test_a_hole_in_the_log_is_refused(tmp_path: Path) -> None:
    samples = [*_flat(1.0, 4), *_flat(1.0, 4, NOON_S + 8)]
    meter = AnalyserMeter(_log(tmp_path / "p.csv", samples))
    with pytest.raises(MeterError, match=r"hole of 4 s where samples come every 0\.1 s"):
        meter.energy_j(Mark(NOON_S + 1), Mark(NOON_S + 10))


@settings(derandomize=True)
@given(
    st.lists(st.floats(0, 500), min_size=40, max_size=80),
    st.floats(0.5, 1.0),
    st.floats(1.6, 2.0),
    st.floats(2.6, 3.8),
)
def test_windows_side_by_side_add_up(
    watts: list[float], first: float, middle: float, last: float
) -> None:
    log = PowerLog("log", [0.05 * i for i in range(len(watts) * 2)], watts * 2)
    whole = integrate(log, first, last)
    parts = integrate(log, first, middle) + integrate(log, middle, last)
    assert parts == pytest.approx(whole, rel=1e-9, abs=1e-9)
    assert min(watts) * (last - first) <= whole * (1 + 1e-9) + 1e-9
    assert whole <= max(watts) * (last - first) * (1 + 1e-9) + 1e-9


@pytest.mark.parametrize(
    "text",
    [
        "time_s,power_w\n100,1\n101,2\n",
        "# from the lab\n\ntime_ms,power_mw\n100000,1000\n101000,2000\n",
        "Timestamp;Watts;note\n100,0;1,0;a\n101,0;2,0;b\n",
        "power\ttime\n1\t100\n2\t101\n",
        "timestamp,power\n1970-01-01T00:01:40Z,1\n1970-01-01T01:01:41+01:00,2\n",
        "\ufefftime_s,power_w\n100,1\n101,2\n102,",
    ],
)
def test_logs_come_in_several_forms(tmp_path: Path, text: str) -> None:
    path = tmp_path / "p.csv"
    path.write_text(text, encoding="utf-8")
    log = read_power_log(path)
    assert list(log.times_s) == pytest.approx([100, 101])
    assert list(log.power_w) == pytest.approx([1, 2])


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "0 samples"),
        ("time_s,power_w\n100,1\n", "1 samples"),
        ("seconds,joules\n1,2\n", "must name a time column"),
        ("time_s,power_w,watts\n1,2,3\n", "one of each"),
        ("time_s,power_w\n100,1\n101\n", "Line 3"),
        ("time_s,power_w\n100,1\n101,much\n", "1735689600.25,12.5"),
        ("time_s,power_w\n100,1\n2026-01-01T12:00:00,1\n", "no zone"),
        ("time_s,power_w\n100,1\n99,1\n", "sort the log"),
        ("time_s,power_w\n100,1\n100,1\n", "sort the log"),
        ("time_s,power_w\n100,-3\n101,1\n", "not negative"),
        ("time_s,power_w\n100,nan\n101,1\n", "not negative"),
        ("time_s,power_w\n100,9e9\n101,1\n", "power_mw"),
        ("time_s,power_w\n1767268800000,9\n1767268800100,1\n", "time_ms"),
    ],
)
def test_a_bad_log_is_refused_with_the_reason(tmp_path: Path, text: str, part: str) -> None:
    path = tmp_path / "p.csv"
    path.write_text(text)
    reason = AnalyserMeter(path).why_unavailable()
    assert reason is not None
    assert part in reason


def test_a_log_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_bytes(b"\xff\xfe\x00time")
    assert "it is not text" in str(AnalyserMeter(path).why_unavailable())
