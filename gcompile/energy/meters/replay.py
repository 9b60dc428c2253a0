"""A meter that plays back recorded readings, with a clock that only moves when told to.

With it everything above a meter is tested without one: windows, settling, outliers, summaries.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gcompile.energy.meters.meter import Boundary, Mark
from gcompile.errors import MeterError


class ReplayClock:
    """Time that passes when something sleeps, or when a test says so."""

    def __init__(self, at_s: float = 0.0) -> None:
        """Begin at a Unix time."""
        self._at_s = at_s

    def now(self) -> float:
        """Return the time it has been moved to."""
        return self._at_s

    def sleep(self, seconds: float) -> None:
        """Move on."""
        self._at_s += seconds


@dataclass(frozen=True)
class ReplayMeter:
    """Plays back a counter: between two readings it grows evenly.

    Attributes:
        readings: Unix seconds and joules counted since some moment, in the order of time.
        wraps_at_j: Where the counter begins again at zero; None for one that never does.
        reason: What `why_unavailable` says.
    """

    readings: Sequence[tuple[float, float]]
    clock: ReplayClock
    name: str = "replay"
    method: str = "recorded readings"
    boundary: Boundary = "board"
    update_s: float = 0.0
    reads_live: bool = True
    wraps_at_j: float | None = None
    reason: str | None = None

    @classmethod
    def read(cls, path: Path, clock: ReplayClock | None = None) -> ReplayMeter:
        """Read a recording: `{"boundary": "chip", "readings": [[unix_s, joules], …]}`.

        The clock begins at the first reading unless one is given.
        """
        data = json.loads(path.read_text(encoding="utf-8"))
        readings = tuple((float(at_s), float(total_j)) for at_s, total_j in data.pop("readings"))
        return cls(readings, clock or ReplayClock(readings[0][0]), **data)

    def why_unavailable(self) -> str | None:
        """Return the reason it was made with."""
        return self.reason

    def mark(self) -> Mark:
        """Read the counter at the clock's time."""
        return Mark(self.clock.now(), {"counter": self._counted_j(self.clock.now())})

    def energy_j(self, start: Mark, end: Mark) -> float:
        """Return the joules between two marks, across one wrap."""
        grown = end.readings["counter"] - start.readings["counter"]
        return grown + (self.wraps_at_j or 0.0) if grown < 0 else grown

    def _counted_j(self, at_s: float) -> float:
        times = [time_s for time_s, _ in self.readings]
        if not times[0] <= at_s <= times[-1]:
            raise MeterError(f"The recording has no reading at {at_s:g} s; record for longer.")
        i = min(bisect_right(times, at_s), len(times) - 1)
        (t0, j0), (t1, j1) = self.readings[i - 1], self.readings[i]
        total_j = j0 + (j1 - j0) * (at_s - t0) / (t1 - t0)
        return total_j % self.wraps_at_j if self.wraps_at_j else total_j
