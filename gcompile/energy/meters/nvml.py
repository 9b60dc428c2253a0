"""NVML: the energy counter of one NVIDIA card, which needs nothing but the driver.

The counter covers the whole card and is in millijoules. It is updated some ten times a second, so
a window of seconds is known to a few hundredths, and its ends err alike: both are late by up to
one update.
"""

from __future__ import annotations

from functools import cached_property

from gcompile.energy.meters.meter import Boundary, Clock, Mark, SystemClock
from gcompile.errors import BackendUnavailableError, MeterError, RunError
from gcompile.runtime.cuda.driver import driver
from gcompile.runtime.cuda.nvml import Card, nvml


class NvmlMeter:
    """Reads the card that a CUDA device number names, whatever order NVML counts in."""

    name = "nvml"
    update_s = 0.1
    reads_live = True
    boundary: Boundary = "board"

    def __init__(self, device: int = 0, clock: Clock | None = None) -> None:
        """Prepare to read GPU number `device`, as the CUDA driver counts; nothing is loaded."""
        self._device = device
        self._clock = clock or SystemClock()

    @property
    def method(self) -> str:
        """Which counter is read."""
        return f"NVML's energy counter of GPU {self._device}"

    def why_unavailable(self) -> str | None:
        """Return why the counter cannot be read, else None."""
        try:
            self.mark()
        except MeterError as error:
            return str(error)
        return None

    def mark(self) -> Mark:
        """Read the counter, in joules.

        Raises:
            MeterError: It cannot be read.
        """
        try:
            return Mark(self._clock.now(), {self.name: self._card.energy_j})
        except (BackendUnavailableError, RunError) as error:
            raise MeterError(str(error).rstrip(".")) from error

    def energy_j(self, start: Mark, end: Mark) -> float:
        """Return the joules between two marks.

        Raises:
            MeterError: The counter went back.
        """
        grown = end.readings[self.name] - start.readings[self.name]
        if grown < 0:
            raise MeterError("NVML's energy counter went back: the GPU was reset; measure again")
        return grown

    @cached_property
    def _card(self) -> Card:
        return nvml().card(driver().bus_id(self._device))
