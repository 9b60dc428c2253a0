"""What a meter is: something that says how many joules passed between two moments."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

Boundary = Literal["chip", "board", "wall"]
"""What the joules include: the package, the board or card, or everything behind the plug."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment, as one meter saw it.

    Attributes:
        at_s: Unix time of the reading, in seconds.
        readings: What the meter's counters showed, by name; empty where a log is read later.
    """

    at_s: float
    readings: Mapping[str, float] = field(default_factory=dict)


class Meter(Protocol):
    """Something that counts joules. It predicts nothing: an `Estimate` comes from elsewhere."""

    @property
    def name(self) -> str:
        """What `--meter` calls it."""

    @property
    def method(self) -> str:
        """A phrase that says what is read, for people: the device, the counters, the file."""

    @property
    def boundary(self) -> Boundary:
        """What the joules include."""

    @property
    def update_s(self) -> float:
        """Seconds between two updates of what is read: windows must be much longer."""

    @property
    def reads_live(self) -> bool:
        """Whether joules are known at once, or only when the log has been written."""

    def why_unavailable(self) -> str | None:
        """Return a sentence with the remedy when it cannot measure here, else None.

        Permissions are probed by a reading, so that None means it works.
        """

    def mark(self) -> Mark:
        """Read the counters now."""

    def energy_j(self, start: Mark, end: Mark) -> float:
        """Return the joules between two marks.

        Raises:
            MeterError: They cannot be known; the message says why and what to do.
        """


class Clock(Protocol):
    """Time that passes; tests have one that they move themselves."""

    def now(self) -> float:
        """Return Unix time in seconds; it never steps back."""

    def sleep(self, seconds: float) -> None:
        """Let time pass without work."""


class SystemClock:
    """The machine's clock: Unix time at the start, carried on by the monotonic counter."""

    def __init__(self) -> None:
        """Start from the time of day."""
        self._offset_s = time.time() - time.perf_counter()

    def now(self) -> float:
        """Return Unix time in seconds."""
        return self._offset_s + time.perf_counter()

    def sleep(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(seconds)
