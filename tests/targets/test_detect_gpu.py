from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gcompile.errors import TargetError
from gcompile.targets import list_targets, load_build_target, load_target
from gcompile.targets.detect_gpu import CARDS, detect_gpu, why_no_gpu_is_known
from gcompile.targets.load import GPU_ELSEWHERE


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
        nvmlDeviceGetCount=lambda: 1,
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
    assert set(CARDS.values()) <= set(list_targets())


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


def test_a_build_without_a_gpu_takes_the_default_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gcompile.targets.load.why_no_gpu_is_known", lambda: "No GPU is here")
    target, note = load_build_target("cuda")
    assert target.name == GPU_ELSEWHERE
    assert note.startswith("No GPU is here, so 'cuda' stands for nvidia-a100-sxm-80 (sm_80).")
    assert load_build_target("nvidia-t4") == (load_target("nvidia-t4"), "")


def test_a_driver_that_fails_tells_of_no_gpu() -> None:
    nvml = driver("NVIDIA H200")
    assert why_no_gpu_is_known(nvml) == ""

    def fail() -> None:
        raise _NvmlError("Driver Not Loaded")

    nvml.nvmlInit = fail
    assert why_no_gpu_is_known(nvml) == "No NVIDIA GPU can be used here (Driver Not Loaded)"


@pytest.mark.parametrize("name", sorted(set(CARDS.values())))
def test_every_card_says_its_architecture(name: str) -> None:
    assert len([flag for flag in load_target(name).isa if flag.startswith("sm_")]) == 1
