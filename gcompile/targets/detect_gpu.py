"""Describe the NVIDIA GPU of this machine as a target.

NVML tells which card it is and the limits it holds now; the shipped target of that card tells the
rest. A card without a target of its own is refused: nothing is known about its joules.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Protocol

from gcompile.errors import TargetError
from gcompile.targets.settings import with_clock, with_power_limit
from gcompile.targets.target import Source, Target

CARDS = {
    "Tesla T4": "nvidia-t4",
    "NVIDIA A10": "nvidia-a10",
    "NVIDIA A100-SXM4-40GB": "nvidia-a100-sxm-40",
    "NVIDIA A100-SXM4-80GB": "nvidia-a100-sxm-80",
    "NVIDIA A100 80GB PCIe": "nvidia-a100-pcie-80",
    "NVIDIA L4": "nvidia-l4",
    "NVIDIA L40S": "nvidia-l40s",
    "NVIDIA GeForce RTX 4090": "nvidia-rtx4090",
    "NVIDIA H100 80GB HBM3": "nvidia-h100-sxm",
    "NVIDIA H100 PCIe": "nvidia-h100-pcie",
    "NVIDIA H200": "nvidia-h200-sxm",
    "NVIDIA B200": "nvidia-b200",
}
"""Names as the driver gives them, and the target that describes each."""

_HZ_PER_MHZ = 1_000_000
_NVML = Source("NVML", "read")


class Loader(Protocol):
    """Reads the shipped target of a name."""

    def __call__(self, name: str) -> Target: ...


@dataclass(frozen=True)
class Card:
    """What the driver says of one GPU: its name, power limit in watts and highest clock."""

    name: str
    limit_w: float
    clock_hz: float


def detect_gpu(load: Loader, index: int = 0, nvml: ModuleType | None = None) -> Target:
    """Return the target `cuda`: GPU number `index` of this machine.

    Args:
        load: Reads the target that describes the card.
        index: Which GPU, in the driver's order.
        nvml: The module to ask instead of `pynvml`.

    Raises:
        TargetError: There is no GPU or no way to ask for it, or the card is not described; the
            message says what to do.
    """
    card = read_card(nvml or _pynvml(), index)
    if card.name not in CARDS:
        raise TargetError(
            f"The GPU here, {card.name!r}, has no target of its own. Describe it in a TOML file "
            "that begins with the base nearest to it, such as 'nvidia-h100-sxm', and give that "
            "file to --target."
        )
    target = load(CARDS[card.name])
    target = _at_limits(target, card)
    described = f"{card.name}, the GPU of this machine, at {card.limit_w:g} W; {target.name}"
    return replace(
        target,
        name="cuda",
        description=described,
        is_host=True,
        sources={**target.sources, "power.limit_w": _NVML, "clock_hz": _NVML},
    )


def why_no_gpu_is_known(nvml: ModuleType | None = None) -> str:
    """Why the driver tells of no GPU here; empty where it tells of one.

    Args:
        nvml: The module to ask instead of `pynvml`.
    """
    try:
        asked = nvml or _pynvml()
    except TargetError:
        return "NVML is not installed here, so no GPU is known"
    try:
        asked.nvmlInit()
        try:
            count = asked.nvmlDeviceGetCount()
        finally:
            asked.nvmlShutdown()
    except asked.NVMLError as error:
        return f"No NVIDIA GPU can be used here ({error})"
    return "" if count else "No NVIDIA GPU is here"


def read_card(nvml: ModuleType, index: int) -> Card:
    """Ask the driver for one GPU.

    Raises:
        TargetError: The driver is missing, or there is no such GPU.
    """
    try:
        nvml.nvmlInit()
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            name = nvml.nvmlDeviceGetName(handle)
            milliwatts = nvml.nvmlDeviceGetEnforcedPowerLimit(handle)
            megahertz = nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_SM)
        finally:
            nvml.nvmlShutdown()
    except nvml.NVMLError as error:
        raise TargetError(
            f"No NVIDIA GPU can be used here: {error}. Name the card instead, for example "
            "--target nvidia-a100-sxm-80; `gcompile targets list` has them all."
        ) from error
    text = name.decode() if isinstance(name, bytes) else str(name)
    return Card(text, milliwatts / 1e3, float(megahertz) * _HZ_PER_MHZ)


def _at_limits(target: Target, card: Card) -> Target:
    """The described card with the limits this one holds now, where it can hold them."""
    if target.power is not None and card.limit_w < target.power.limit_w:
        target = with_power_limit(target, card.limit_w)
    if card.clock_hz < target.clock_hz:
        target = with_clock(target, card.clock_hz)
    return target


def _pynvml() -> ModuleType:
    try:
        return importlib.import_module("pynvml")
    except ImportError as error:
        raise TargetError(
            "The target 'cuda' is the GPU of this machine, and asking for it needs NVML. Install "
            "it with `pip install 'gcompile[measure]'`, or name the card, for example "
            "--target nvidia-a100-sxm-80."
        ) from error
