"""The log of an external power analyser: a CSV file of timestamps and watts.

    E = sum of (w[i] + w[i+1]) / 2 · (t[i+1] - t[i])

The window is cut out of the log with the power at its ends interpolated, and a log that does not
cover it, or has a hole in it, is refused.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

from gcompile.energy.meters.meter import Boundary, Clock, Mark, SystemClock
from gcompile.energy.meters.power_log import PowerLog, read_power_log
from gcompile.errors import MeterError

MIN_SAMPLES = 10
"""Fewer samples in a window say too little about it."""

_HOLE = 10.0
"""A gap of this many usual intervals is a hole."""
_POLL_S = 0.5


@dataclass(frozen=True)
class LogOptions:
    """How a log relates to this machine.

    Attributes:
        offset_s: Seconds by which the analyser's clock is ahead of this machine's.
        boundary: Where the analyser sits.
        wait_s: How long to wait, at the end, for the log to cover the last window.
        may_start_late: The file need not exist yet when measuring begins.
    """

    offset_s: float = 0.0
    boundary: Boundary = "wall"
    wait_s: float = 5.0
    may_start_late: bool = False


class AnalyserMeter:
    """Integrates the power that an external analyser logs while this machine runs."""

    name = "csv"
    update_s = 0.0
    reads_live = False

    def __init__(
        self, path: Path, options: LogOptions | None = None, clock: Clock | None = None
    ) -> None:
        """Read `path` when the joules are asked for."""
        self._path = path
        self._options = options or LogOptions()
        self._clock = clock or SystemClock()
        self._log: PowerLog | None = None

    @property
    def method(self) -> str:
        """Which file is integrated, and how."""
        offset = f", clock offset {self._options.offset_s:+g} s" if self._options.offset_s else ""
        return f"power log {self._path.name} of an external analyser, trapezoids{offset}"

    @property
    def boundary(self) -> Boundary:
        """Where the analyser sits."""
        return self._options.boundary

    def why_unavailable(self) -> str | None:
        """Return why the log cannot be used, with the remedy, else None."""
        if self._options.may_start_late:
            return None
        if not self._path.exists():
            return (
                f"the power log {str(self._path)!r} does not exist; start the analyser's log "
                "first, or add `,wait=60` to have it awaited after the run"
            )
        try:
            read_power_log(self._path)
        except MeterError as error:
            return str(error)
        return None

    def mark(self) -> Mark:
        """Remember the time."""
        return Mark(self._clock.now())

    def energy_j(self, start: Mark, end: Mark) -> float:
        """Integrate the log from one mark to the other.

        Raises:
            MeterError: The log is damaged, ends too early, begins too late, or has a hole.
        """
        begin_s, end_s = (mark.at_s + self._options.offset_s for mark in (start, end))
        return integrate(self._covering(end_s), begin_s, end_s)

    def _covering(self, until_s: float) -> PowerLog:
        """Read the log until it covers the time or the patience ends."""
        deadline_s = self._clock.now() + self._options.wait_s
        while not self._covers(until_s) and self._clock.now() < deadline_s:
            self._clock.sleep(_POLL_S)
        return self._log or read_power_log(self._path)

    def _covers(self, until_s: float) -> bool:
        if self._log is None or self._log.times_s[-1] < until_s:
            with suppress(MeterError):  # It may not be written yet.
                self._log = read_power_log(self._path)
        return self._log is not None and self._log.times_s[-1] >= until_s


def integrate(log: PowerLog, begin_s: float, end_s: float) -> float:
    """Return the joules between two moments of the log's own clock.

    Raises:
        MeterError: The samples do not cover that time well enough.
    """
    times, watts = log.times_s, log.power_w
    if times[0] > begin_s or times[-1] < end_s:
        raise MeterError(_uncovered(log, begin_s, end_s))
    first, last = bisect_right(times, begin_s), bisect_left(times, end_s)
    inner = range(first, last)
    if len(inner) < MIN_SAMPLES:
        raise MeterError(
            f"The power log {log.name} has {len(inner)} samples in a window of "
            f"{end_s - begin_s:.3g} s, and {MIN_SAMPLES} are needed; sample faster, or measure "
            "longer windows with --window."
        )
    _refuse_hole(log, times[first - 1 : last + 1])
    points = [
        (begin_s, _at(log, begin_s)),
        *((times[i], watts[i]) for i in inner),
        (end_s, _at(log, end_s)),
    ]
    return sum((w0 + w1) / 2 * (t1 - t0) for (t0, w0), (t1, w1) in pairwise(points))


def _at(log: PowerLog, moment_s: float) -> float:
    """Interpolate the power between the two samples around a moment."""
    i = max(bisect_left(log.times_s, moment_s), 1)
    (t0, t1), (w0, w1) = log.times_s[i - 1 : i + 1], log.power_w[i - 1 : i + 1]
    return w0 + (w1 - w0) * (moment_s - t0) / (t1 - t0)


def _refuse_hole(log: PowerLog, times: Sequence[float]) -> None:
    gaps = [after - before for before, after in pairwise(times)]
    usual = median(gaps)
    if max(gaps) > _HOLE * usual:
        raise MeterError(
            f"The power log {log.name} has a hole of {max(gaps):.3g} s where samples come every "
            f"{usual:.3g} s; check the analyser's connection and measure again."
        )


def _uncovered(log: PowerLog, begin_s: float, end_s: float) -> str:
    early, late = log.times_s[0] - begin_s, end_s - log.times_s[-1]
    if early > end_s - begin_s or late > end_s - begin_s:
        far = f"by {max(early, late):.3g} s, so its clock may be off: add `,offset=SECONDS`"
    else:
        far = "in part: start the log before the measurement and stop it after, or add `,wait=60`"
    side = "begins after" if early > 0 else "ends before"
    return f"The power log {log.name} {side} the measured window {far}."
