from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gcompile.energy.meters import MeterError, NvmlMeter, Plan, ReplayClock, measure, pick_meter
from gcompile.runtime.cuda import nvml as runtime_nvml
from tests.energy.meters.devices import NOON_S
from tests.fake_gpu import FakeCard, FakeDriver
from tests.report import examples


def test_the_counter_is_read_in_joules(fake_card: FakeCard) -> None:
    meter = NvmlMeter()
    assert meter.why_unavailable() is None
    start, end = meter.mark(), meter.mark()
    drawn = meter.energy_j(start, end)
    assert 0 <= drawn <= 120 * (end.at_s - start.at_s) + 0.01
    assert meter.boundary == "board"
    assert "GPU 0" in meter.method


def test_a_gpu_is_measured_by_nvml_where_it_works(fake_card: FakeCard) -> None:
    target = replace(examples.target(), kind="gpu")
    assert isinstance(pick_meter(target), NvmlMeter)
    fake_card.state.has_counter = 0
    with pytest.raises(MeterError, match="nvml: The GPU does not support nvmlDeviceGetTotalEnerg"):
        pick_meter(target)


def test_joules_per_inference_come_from_windows(
    fake_card: FakeCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NvmlMeter, "update_s", 0.0)
    clock = ReplayClock(NOON_S)
    counted = [0.0]

    def drawn(card: object) -> float:
        return counted[0]

    def run() -> None:
        counted[0] += 30.0
        clock.sleep(0.1)

    monkeypatch.setattr(runtime_nvml.Card, "energy_j", property(drawn))
    found = measure(run, NvmlMeter(clock=clock), Plan(1.0, 3, warmup_s=0.0), clock)
    assert found.joules_per_inference == pytest.approx(30.0)
    assert found.idle_w == 0.0


def test_a_counter_that_goes_back_is_refused(fake_card: FakeCard) -> None:
    meter = NvmlMeter()
    start = meter.mark()
    fake_card.state.power_w = 1.0
    with pytest.raises(MeterError, match="the GPU was reset"):
        meter.energy_j(start, meter.mark())


def test_without_nvml_one_sentence_says_so(
    fake: FakeDriver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(runtime_nvml.LIBRARY_VARIABLE, str(tmp_path / "libnvidia-ml.so.1"))
    assert "NVML is not installed here" in str(NvmlMeter().why_unavailable())


def test_a_gpu_that_is_not_there_is_named(fake_card: FakeCard) -> None:
    assert "There is no GPU 3 here" in str(NvmlMeter(3).why_unavailable())


def test_a_card_that_nvml_does_not_show_is_refused(fake_card: FakeCard, fake: FakeDriver) -> None:
    fake.become(devices=2)
    assert "NVML refused nvmlDeviceGetHandleByPciBusId_v2" in str(NvmlMeter(1).why_unavailable())
