"""Whether a GPU here can run code, asked before anything of an artefact is loaded."""

from __future__ import annotations

from collections.abc import Sequence

from gcompile.errors import BackendUnavailableError
from gcompile.runtime.cuda.driver import Device, driver
from gcompile.runtime.cuda.plan import Code


def why_no_gpu(arch: int, needed: int = 0) -> str:
    """Why no GPU here runs machine code or PTX of an architecture; empty where one does.

    Args:
        arch: 80 for sm_80.
        needed: The oldest driver that will do, as CUDA numbers it: 12000 for 12.0.
    """
    codes = [Code("", "cubin", arch, ()), Code("", "ptx", arch, ())]
    try:
        found = driver()
        devices = [found.device(index) for index in range(found.count)]
    except BackendUnavailableError as error:
        return _continued(error)
    if not devices:
        return "the NVIDIA driver counts no GPU here"
    reasons = [why_not_on(device, codes, found.version, needed) for device in devices]
    return "" if "" in reasons else reasons[0]


def gpus() -> str:
    """The GPUs of this machine and its driver, or why there are none, as one line."""
    try:
        found = driver()
    except BackendUnavailableError as error:
        return _continued(error)
    devices = [found.device(index) for index in range(found.count)]
    names = ", ".join(f"{d.index}: {d.name} (sm_{d.major}{d.minor})" for d in devices)
    return f"{names or 'none'}; driver for CUDA {_dotted(found.version)}"


def why_not_on(device: Device, codes: Sequence[Code], version: int, needed: int) -> str:
    """Why one GPU cannot run any of these pieces of code; empty where it can.

    Args:
        device: The GPU.
        codes: What the artefact holds.
        version: Of the driver, as CUDA numbers it.
        needed: The oldest that will do.
    """
    if version < needed:
        return (
            f"it needs a driver for CUDA {_dotted(needed)} and this one is for {_dotted(version)}"
        )
    if any(code.runs_on(device.major, device.minor) for code in codes):
        return ""
    held = ", ".join(sorted({f"sm_{code.arch}" for code in codes}))
    return (
        f"it was compiled for {held} and GPU {device.index}, {device.name}, is "
        f"sm_{device.major}{device.minor}"
    )


def _dotted(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"


def _continued(error: BackendUnavailableError) -> str:
    text = str(error)
    return text[:1].lower() + text[1:]
