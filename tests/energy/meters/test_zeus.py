from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from gcompile.energy.meters import MeterError, ZeusMeter


class Cards:
    """Two cards of which the second has no counter."""

    def __init__(self) -> None:
        self.total_mj = 1000.0

    def __len__(self) -> int:
        return 2

    def supports_get_total_energy_consumption(self, i: int) -> bool:
        return i == 0

    def get_total_energy_consumption(self, i: int) -> float:
        assert i == 0
        return self.total_mj


class Packages:
    """One package."""

    def __len__(self) -> int:
        return 1

    def get_total_energy_consumption(self, i: int) -> SimpleNamespace:
        return SimpleNamespace(cpu_mj=5000.0, dram_mj=None)


class Jetson:
    """A Jetson, of which the input rail counts."""

    def get_total_energy_consumption(self) -> SimpleNamespace:
        return SimpleNamespace(cpu_energy_mj=1.0, gpu_energy_mj=2.0, total_energy_mj=9000.0)


class AppleSilicon:
    """An Apple chip that does not count its GPU's memory."""

    def get_total_energy_consumption(self) -> SimpleNamespace:
        return SimpleNamespace(cpu_total_mj=100, dram_mj=20, gpu_mj=5, gpu_sram_mj=None, ane_mj=0)


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Zeus, finding nothing until a test says otherwise."""
    module = ModuleType("zeus.device")

    def nothing() -> None:
        raise RuntimeError("Nothing here.\nSecond line")

    for name in ("get_gpus", "get_cpus", "get_soc"):
        setattr(module, name, nothing)
    monkeypatch.setitem(sys.modules, "zeus", ModuleType("zeus"))
    monkeypatch.setitem(sys.modules, "zeus.device", module)
    return module


def test_cards_count_in_joules_at_the_board(devices: ModuleType) -> None:
    cards = Cards()
    devices.get_gpus = lambda: cards  # type: ignore[attr-defined]
    meter = ZeusMeter("gpu")
    assert meter.why_unavailable() is None
    start = meter.mark()
    cards.total_mj += 2500
    assert meter.energy_j(start, meter.mark()) == pytest.approx(2.5)
    assert (meter.boundary, meter.method) == ("board", "Zeus counters of GPU 0")


def test_a_card_that_was_reset_is_refused(devices: ModuleType) -> None:
    cards = Cards()
    devices.get_gpus = lambda: cards  # type: ignore[attr-defined]
    meter = ZeusMeter("gpu")
    start = meter.mark()
    cards.total_mj = 0.0
    with pytest.raises(MeterError, match="went back"):
        meter.energy_j(start, meter.mark())


def test_a_processor_counts_at_the_chip(devices: ModuleType) -> None:
    devices.get_cpus = Packages  # type: ignore[attr-defined]
    meter = ZeusMeter("cpu")
    assert meter.mark().readings == {"package 0": 5.0}
    assert meter.boundary == "chip"


def test_a_jetson_counts_its_input_rail_for_cpu_and_gpu(devices: ModuleType) -> None:
    devices.get_soc = Jetson  # type: ignore[attr-defined]
    for device in (ZeusMeter("cpu"), ZeusMeter("gpu")):
        assert device.mark().readings == {"Jetson total_energy": 9.0}
        assert device.boundary == "board"


def test_an_apple_chip_counts_the_rails_it_has(devices: ModuleType) -> None:
    devices.get_soc = AppleSilicon  # type: ignore[attr-defined]
    meter = ZeusMeter("cpu")
    assert sum(meter.mark().readings.values()) == pytest.approx(0.125)
    assert (len(meter.mark().readings), meter.boundary) == (4, "chip")


def test_a_machine_without_devices_says_what_zeus_said(devices: ModuleType) -> None:
    reason = ZeusMeter("gpu").why_unavailable()
    assert reason is not None
    assert "(Nothing here)" in reason
    assert "getting_started" in reason


def test_a_reading_that_fails_is_one_sentence(devices: ModuleType) -> None:
    cards = Cards()
    devices.get_gpus = lambda: cards  # type: ignore[attr-defined]
    meter = ZeusMeter("gpu")
    meter.mark()
    del cards.total_mj
    with pytest.raises(MeterError, match="Zeus could not read GPU 0"):
        meter.mark()


def test_zeus_that_is_not_installed_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zeus.device", None)
    assert "pip install 'gcompile[measure]'" in str(ZeusMeter().why_unavailable())
