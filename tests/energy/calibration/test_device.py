"""Micro-benchmarks under a meter, replayed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from gcompile import energy
from gcompile.compiler.micro import Micro, calibrate_by_meter, micro_benchmarks
from gcompile.energy import Cost, Roofline, meters
from gcompile.energy.calibration import Reading, calibrated_device
from gcompile.errors import MeterError, UsageError
from gcompile.targets import Target, load_target

_BASE = load_target("generic-x86-avx512-vnni")
_IDLE_W = 7.0
_PLAN = meters.Plan(window_s=1.0, repeats=2, warmup_s=0.1)


class _Device:
    """A machine whose true costs are a target's, with a clock and a meter."""

    def __init__(self, truth: Target, reason: str | None = None) -> None:
        self.truth = truth
        self.clock = meters.ReplayClock()
        self.joules = 0.0
        self.last_s = 0.0
        self.power_w = _IDLE_W
        self.reason = reason

    name = "fake"
    method = "a fake device"
    boundary: meters.Boundary = "board"
    update_s = 0.0
    reads_live = True

    def why_unavailable(self) -> str | None:
        return self.reason

    def mark(self) -> meters.Mark:
        self._pass()
        return meters.Mark(self.clock.now(), {"counter": self.joules})

    def energy_j(self, start: meters.Mark, end: meters.Mark) -> float:
        return end.readings["counter"] - start.readings["counter"]

    def prepare(self, micro: Micro, base: Target) -> tuple[Callable[[], None], Cost]:
        model = micro.model
        predicted, true = (energy.estimate(model, t, Roofline()).total for t in (base, self.truth))

        def run() -> None:
            self._pass()
            self.clock.sleep(true.time_s * 1e3)
            self.last_s = self.clock.now()
            self.joules += true.energy_j * 1e3

        # A thousand inferences at once: the clock of the replay has no room for nanoseconds.
        return run, predicted.times(1e3)

    def _pass(self) -> None:
        """Idle joules of the time that nothing ran."""
        self.joules += _IDLE_W * (self.clock.now() - self.last_s)
        self.last_s = self.clock.now()


def test_the_suite_isolates_launch_units_and_every_level() -> None:
    suite = list(micro_benchmarks(_BASE))
    isolated = {micro.isolates for micro in suite}
    assert {f"level {memory.name}" for memory in _BASE.memories} < isolated
    assert {"launch", "vector", "unit avx512", "unit avx512-vnni"} < isolated
    assert {"gemm", "conv", "softmax"} < {micro.name for micro in suite}
    assert all(micro.model.graph.outputs for micro in suite[:4])


def test_a_device_is_told_by_its_meter() -> None:
    truth = dataclasses.replace(
        _BASE,
        static_w=_IDLE_W,
        is_shared=False,
        core_w=2 * _BASE.core_w,
        units=tuple(dataclasses.replace(u, op_j=2 * u.op_j) for u in _BASE.units),
        memories=tuple(dataclasses.replace(m, byte_j=3 * m.byte_j) for m in _BASE.memories),
    )
    device = _Device(truth)
    found = calibrate_by_meter(_BASE, device, _PLAN, device.clock, device.prepare)
    assert found.static_w == pytest.approx(_IDLE_W)
    assert found.boundary == "board"
    assert found.calibrated
    for micro in micro_benchmarks(_BASE):
        here, there = (
            energy.estimate(micro.model, t, Roofline()).total.energy_j for t in (found, truth)
        )
        assert here == pytest.approx(there, rel=0.3), micro.name


def test_a_gpu_is_told_by_its_meter() -> None:
    base = load_target("nvidia-a100-sxm-80")
    truth = dataclasses.replace(
        base,
        static_w=_IDLE_W,
        launch_s=2 * base.launch_s,
        units=tuple(dataclasses.replace(u, op_j=1.5 * u.op_j) for u in base.units),
        memories=tuple(dataclasses.replace(m, byte_j=1.5 * m.byte_j) for m in base.memories),
    )
    device = _Device(truth)
    found = calibrate_by_meter(base, device, _PLAN, device.clock, device.prepare)
    assert found.launch_s == pytest.approx(truth.launch_s, rel=0.05)
    for micro in micro_benchmarks(base):
        here, there = (
            energy.estimate(micro.model, t, Roofline()).total.energy_j for t in (found, truth)
        )
        assert here == pytest.approx(there, rel=0.3), micro.name


def test_the_suite_of_a_gpu_isolates_what_lasts_longer_than_a_launch() -> None:
    base = load_target("nvidia-a100-sxm-80")
    isolated = {micro.isolates for micro in micro_benchmarks(base)}
    assert isolated == {
        *("launch", "vector", "level DRAM", ""),
        *("unit cuda-core", "unit tensor-core-bf16", "unit tensor-core-int8"),
    }
    for micro in micro_benchmarks(base):
        seconds = energy.estimate(micro.model, base, Roofline()).total.time_s
        assert micro.isolates == "launch" or seconds > 3 * base.launch_s, micro.name


def test_without_a_meter_nothing_is_calibrated() -> None:
    device = _Device(_BASE, reason="the counter cannot be read; run as root")
    with pytest.raises(MeterError, match="run as root"):
        calibrate_by_meter(_BASE, device, _PLAN, device.clock, device.prepare)


def test_readings_below_idle_power_are_refused() -> None:
    readings = [
        Reading(str(i), "", Cost(compute_j=1.0, time_s=1.0), energy_j=1.0, time_s=1.0)
        for i in range(5)
    ]
    with pytest.raises(UsageError, match="No micro-benchmark drew more than the 7 W"):
        calibrated_device(_BASE, _IDLE_W, readings, "board")
    with pytest.raises(UsageError, match="too few"):
        calibrated_device(_BASE, _IDLE_W, readings[:2], "board")
