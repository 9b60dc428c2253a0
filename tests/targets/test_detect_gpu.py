from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gcompile.errors import TargetError
from gcompile.targets import list_targets, load_target
from gcompile.targets.detect_gpu import _CARDS, detect_gpu


class _NvmlError(Exception):
    pass


def driver(name: str | bytes, milliwatts: int = 700_000, megahertz: int = 1980) -> Any:
    """A driver with one card."""

    def handle(index: int) -> str:
        if index:
            raise _NvmlError("Invalid Argument")
        return "handle"

    return SimpleNamespace(
        NVMLError=_NvmlError,
        NVML_CLOCK_SM=1,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetHandleByIndex=handle,
        nvmlDeviceGetName=lambda _: name,
        nvmlDeviceGetEnforcedPowerLimit=lambda _: milliwatts,
        nvmlDeviceGetMaxClockInfo=lambda _, clock: megahertz,
    )


def test_a_known_card_is_the_target_that_describes_it() -> None:
    found = detect_gpu(load_target, nvml=driver(b"NVIDIA H200"))
    described = load_target("nvidia-h200-sxm")
    assert (found.name, found.is_host) == ("cuda", True)
    assert (found.units, found.power) == (described.units, described.power)
    assert found.sources["power.limit_w"].status == "read"


def test_the_limits_that_the_card_holds_now_are_priced() -> None:
    found = detect_gpu(load_target, nvml=driver("NVIDIA H200", 450_000, 990))
    described = load_target("nvidia-h200-sxm")
    assert found.power is not None
    assert found.power.limit_w == 450
    assert found.units[0].peak_ops_per_s == pytest.approx(described.units[0].peak_ops_per_s / 2)


def test_every_card_has_a_target() -> None:
    assert set(_CARDS.values()) <= set(list_targets())


def test_a_card_that_nothing_is_known_about_is_refused() -> None:
    with pytest.raises(TargetError, match=r"'Quadro K42', has no target.*TOML file"):
        detect_gpu(load_target, nvml=driver("Quadro K42"))


def test_a_machine_without_a_gpu_says_what_to_name_instead() -> None:
    broken = driver("NVIDIA H200")

    def init() -> None:
        raise _NvmlError("Driver Not Loaded")

    broken.nvmlInit = init
    with pytest.raises(TargetError, match=r"Driver Not Loaded.*--target nvidia-a100-sxm-80"):
        detect_gpu(load_target, nvml=broken)


def test_another_gpu_than_there_is_is_refused() -> None:
    with pytest.raises(TargetError, match="Invalid Argument"):
        detect_gpu(load_target, index=1, nvml=driver("NVIDIA H200"))


def test_without_nvml_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pynvml", None)
    with pytest.raises(TargetError, match=r"pip install 'gcompile\[measure\]'"):
        load_target("cuda")
