"""Zeus: the counters of NVIDIA and AMD cards, Apple and Jetson systems, and RAPL by a daemon.

Zeus (https://ml.energy/zeus) is an extra: `pip install 'gcompile[measure]'`. Its device layer is
used, `zeus.device.get_gpus`, `get_cpus` and `get_soc`, whose counters are in millijoules.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, Literal

from gcompile.energy.meters.meter import Boundary, Clock, Mark, SystemClock
from gcompile.errors import MeterError

Counter = Callable[[], float]
"""Reads joules since some moment."""


class ZeusMeter:
    """Reads what Zeus finds: cards for a GPU target, else the system on chip or the packages.

    Of several cards those count that `CUDA_VISIBLE_DEVICES` shows.
    """

    name = "zeus"
    update_s = 0.1
    reads_live = True

    def __init__(self, device: Literal["cpu", "gpu"] = "cpu", clock: Clock | None = None) -> None:
        """Prepare to read the counters of `device`; nothing is imported yet."""
        self._device = device
        self._clock = clock or SystemClock()

    @property
    def method(self) -> str:
        """Which counters are summed."""
        return f"Zeus counters of {', '.join(self._counters)}"

    @property
    def boundary(self) -> Boundary:
        """A card and a Jetson's input rail are boards; packages and Apple's rails are chips."""
        is_board = all(name.startswith(("GPU", "Jetson")) for name in self._counters)
        return "board" if is_board else "chip"

    def why_unavailable(self) -> str | None:
        """Return why Zeus reads nothing here, with the remedy, else None."""
        try:
            importlib.import_module("zeus.device")
        except ImportError:
            return "Zeus is not installed; install it with `pip install 'gcompile[measure]'`"
        try:
            self.mark()
        except MeterError as error:
            return str(error)
        return None

    def mark(self) -> Mark:
        """Read every counter, in joules.

        Raises:
            MeterError: A counter cannot be read.
        """
        counters = self._counters
        try:
            readings = {name: read() for name, read in counters.items()}
        except Exception as error:  # Vendors' libraries raise whatever they like.
            raise MeterError(
                f"Zeus could not read {', '.join(counters)}: {_why(error)}"
            ) from error
        return Mark(self._clock.now(), readings)

    def energy_j(self, start: Mark, end: Mark) -> float:
        """Return the joules of all counters.

        Raises:
            MeterError: A counter went back.
        """
        grown = {name: end.readings[name] - j for name, j in start.readings.items()}
        if backward := [name for name, j in grown.items() if j < 0]:
            raise MeterError(
                f"Zeus: the counter of {backward[0]} went back, so the device was reset; "
                "measure again"
            )
        return sum(grown.values())

    @cached_property
    def _counters(self) -> dict[str, Counter]:
        devices: Any = importlib.import_module("zeus.device")
        find = {"gpu": (_cards, _systems), "cpu": (_systems, _packages)}[self._device]
        reasons = []
        for counters in find:
            try:
                if found := dict(counters(devices)):
                    return found
            except Exception as error:  # Vendors' libraries raise whatever they like.
                reasons.append(_why(error))
        said = "; ".join(dict.fromkeys(reasons)) or "no device has an energy counter"
        raise MeterError(
            f"Zeus finds nothing to read for a {self._device} ({said}); its page "
            "https://ml.energy/zeus/getting_started says what each device needs"
        )


def _cards(devices: Any) -> Iterator[tuple[str, Counter]]:
    cards = devices.get_gpus()
    for i in range(len(cards)):
        if cards.supports_get_total_energy_consumption(i):
            yield f"GPU {i}", _joules(cards.get_total_energy_consumption, i)


def _packages(devices: Any) -> Iterator[tuple[str, Counter]]:
    packages = devices.get_cpus()
    for i in range(len(packages)):
        yield f"package {i}", _joules(packages.get_total_energy_consumption, i, field="cpu_mj")


def _systems(devices: Any) -> Iterator[tuple[str, Counter]]:
    """Yield a Jetson's input rail, or the rails of an Apple chip that Zeus names."""
    read = devices.get_soc().get_total_energy_consumption
    kind = type(devices.get_soc()).__name__
    reading = read()
    for field in ("total_energy_mj",) if kind == "Jetson" else _APPLE_RAILS:
        if getattr(reading, field, None) is not None:
            yield f"{kind} {field.removesuffix('_mj')}", _joules(read, field=field)


def _joules(read: Callable[..., Any], *arguments: int, field: str | None = None) -> Counter:
    """Wrap a reading in millijoules, or one field of it."""

    def counter() -> float:
        reading = read(*arguments)
        return float(reading if field is None else getattr(reading, field)) / 1e3

    return counter


_APPLE_RAILS = ("cpu_total_mj", "dram_mj", "gpu_mj", "gpu_sram_mj", "ane_mj")


def _why(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
