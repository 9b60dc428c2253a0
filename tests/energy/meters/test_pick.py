from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gcompile.energy.meters import (
    AnalyserMeter,
    MeterError,
    RaplMeter,
    ZeusMeter,
    parse_meter,
    pick_meter,
)
from gcompile.errors import UsageError
from tests.report import examples


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without RAPL and without Zeus."""
    monkeypatch.setattr("gcompile.energy.meters.rapl.ROOT", tmp_path / "powercap")
    monkeypatch.setitem(sys.modules, "zeus.device", None)
    return tmp_path / "powercap"


def test_the_first_that_works_is_taken(bare_machine: Path) -> None:
    package = bare_machine / "intel-rapl:0"
    package.mkdir(parents=True)
    for name, text in (("name", "package-0"), ("energy_uj", "1"), ("max_energy_range_uj", "2")):
        (package / name).write_text(text)
    assert isinstance(pick_meter(), RaplMeter)
    assert isinstance(pick_meter(examples.target(), "rapl"), RaplMeter)


def test_where_none_works_every_reason_is_listed() -> None:
    with pytest.raises(MeterError) as caught:
        pick_meter(examples.target())
    message = str(caught.value)
    for part in ("rapl: ", "modprobe", "zeus: ", "pip install", "--meter csv:FILE"):
        assert part in message
    assert message.count("\n") == 0


def test_what_was_asked_for_is_not_replaced() -> None:
    with pytest.raises(MeterError, match="zeus: Zeus is not installed") as caught:
        pick_meter(requested="zeus")
    assert "rapl" not in str(caught.value)


def test_a_gpu_is_not_measured_by_the_processors_counters() -> None:
    with pytest.raises(MeterError) as caught:
        pick_meter(replace(examples.target(), kind="gpu"))
    assert "rapl" not in str(caught.value)


def test_an_accelerator_that_is_only_described_cannot_be_measured() -> None:
    with pytest.raises(MeterError, match="estimates only"):
        pick_meter(replace(examples.target(), kind="accelerator"))


def test_a_meter_is_read_from_text() -> None:
    assert isinstance(parse_meter("rapl"), RaplMeter)
    assert isinstance(parse_meter("zeus", "gpu"), ZeusMeter)
    meter = parse_meter("csv:a=b.csv,offset=-0.5,boundary=board,wait=60")
    assert isinstance(meter, AnalyserMeter)
    assert meter.boundary == "board"
    assert meter.why_unavailable() is None
    assert "a=b.csv" in meter.method
    assert "-0.5 s" in meter.method


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "Known meters: csv:FILE, nvml, rapl, zeus"),
        ("watts", "Known meters"),
        ("csv:", "names no file"),
        ("csv:p.csv,offset", "csv:power.csv,offset=0.35"),
        ("csv:p.csv,color=red", "csv:power.csv,offset=0.35"),
        ("csv:p.csv,wait=1,wait=2", "csv:power.csv,offset=0.35"),
        ("csv:p.csv,wait=-1", "not a number of seconds"),
        ("csv:p.csv,offset=nan", "not a number of seconds"),
        ("csv:p.csv,offset=soon", "not a number of seconds"),
        ("csv:p.csv,boundary=room", "chip, board or wall"),
    ],
)
def test_a_bad_request_is_a_usage_error(text: str, part: str) -> None:
    with pytest.raises(UsageError) as caught:
        pick_meter(requested=text)
    assert part in str(caught.value)
