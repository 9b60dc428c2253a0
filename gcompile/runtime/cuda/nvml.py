"""NVML, as far as joules, watts and power limits need it, through `libnvidia-ml.so.1` and ctypes.

It comes with the driver, so that metering needs nothing to be installed. See
https://docs.nvidia.com/deploy/nvml-api, "Device Queries" and "Device Commands".
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from functools import cache

from gcompile.errors import BackendUnavailableError, RunError

LIBRARY = "libnvidia-ml.so.1"
LIBRARY_VARIABLE = "GCOMPILE_LIBNVML"
"""Names another library with NVML's functions, such as one outside the loader's path."""

_NOT_SUPPORTED, _NO_PERMISSION = 3, 4
_SM_CLOCK = 1


class NotPermittedError(RunError):
    """The driver lets administrators alone do this."""


@dataclass(frozen=True)
class PowerLimits:
    """Of one card, in watts.

    Attributes:
        now: What holds.
        default: What the card starts with.
        lowest: The least it takes.
        highest: The most it takes.
    """

    now: float
    default: float
    lowest: float
    highest: float


class Nvml:
    """The library, initialized. Made by `nvml`."""

    def __init__(self, path: str) -> None:
        """Load and initialize the library.

        Raises:
            BackendUnavailableError: It is not there, or finds no driver.
        """
        try:
            self._library = ctypes.CDLL(path)
        except OSError as error:
            raise BackendUnavailableError(
                f"NVML is not installed here ({path} cannot be loaded)"
            ) from error
        result = self._library.nvmlInit_v2()
        if result:
            raise BackendUnavailableError(f"NVML finds no GPU here ({self._message(result)})")

    def card(self, bus_id: str) -> Card:
        """The card at a PCI bus id, such as `0000:3B:00.0`.

        NVML and CUDA count GPUs in different orders; the bus id is the same for both.

        Raises:
            RunError: There is none.
        """
        handle = ctypes.c_void_p()
        self.call("nvmlDeviceGetHandleByPciBusId_v2", bus_id.encode(), ctypes.byref(handle))
        return Card(self, handle)

    def call(self, name: str, *arguments: object) -> None:
        """Call a function.

        Raises:
            NotPermittedError: It is for administrators.
            RunError: It fails.
        """
        try:
            function = getattr(self._library, name)
        except AttributeError:
            raise RunError(f"The NVIDIA driver is too old: its NVML has no {name}.") from None
        result = function(*arguments)
        if result == _NO_PERMISSION:
            raise NotPermittedError(
                f"The driver lets administrators alone do this ({name}); run as root."
            )
        if result == _NOT_SUPPORTED:
            raise RunError(f"The GPU does not support {name}.")
        if result:
            raise RunError(f"NVML refused {name}: {self._message(result)}.")

    def _message(self, result: int) -> str:
        text = self._library.nvmlErrorString
        text.restype = ctypes.c_char_p
        return f"{(text(result) or b'error').decode(errors='replace')}, code {result}"


class Card:
    """One GPU, as NVML sees it. Made by `Nvml.card`."""

    def __init__(self, library: Nvml, handle: ctypes.c_void_p) -> None:
        """Wrap a handle."""
        self._nvml = library
        self._handle = handle

    @property
    def energy_j(self) -> float:
        """Joules since the driver was loaded: of the card, at NVML's resolution of a millijoule.

        GPUs from Volta on have this counter. It is updated some ten times a second.
        """
        found = ctypes.c_ulonglong()
        self._nvml.call("nvmlDeviceGetTotalEnergyConsumption", self._handle, ctypes.byref(found))
        return found.value / 1e3

    @property
    def clock_hz(self) -> float:
        """What the multiprocessors run at now."""
        return 1e6 * self._whole("nvmlDeviceGetClockInfo", _SM_CLOCK)

    @property
    def limits(self) -> PowerLimits:
        """The power limits."""
        low, high = ctypes.c_uint(), ctypes.c_uint()
        self._nvml.call(
            "nvmlDeviceGetPowerManagementLimitConstraints",
            self._handle,
            ctypes.byref(low),
            ctypes.byref(high),
        )
        return PowerLimits(
            now=self._whole("nvmlDeviceGetPowerManagementLimit") / 1e3,
            default=self._whole("nvmlDeviceGetPowerManagementDefaultLimit") / 1e3,
            lowest=low.value / 1e3,
            highest=high.value / 1e3,
        )

    def set_limit(self, watts: float) -> None:
        """Make the driver hold a power limit, until it is set again or the machine restarts.

        Raises:
            NotPermittedError: The process is not an administrator's.
            RunError: The card does not take this limit.
        """
        milliwatts = ctypes.c_uint(round(watts * 1e3))
        self._nvml.call("nvmlDeviceSetPowerManagementLimit", self._handle, milliwatts)

    def _whole(self, name: str, *which: int) -> int:
        found = ctypes.c_uint()
        self._nvml.call(name, self._handle, *which, ctypes.byref(found))
        return found.value


def nvml() -> Nvml:
    """NVML of this machine.

    Raises:
        BackendUnavailableError: There is none, or no driver; the message has no remedy.
    """
    return opened(os.environ.get(LIBRARY_VARIABLE, LIBRARY))


@cache
def opened(path: str) -> Nvml:
    """The library at a path, opened once."""
    return Nvml(path)
