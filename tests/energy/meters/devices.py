"""Devices whose power is known, metered by replay: joules come out as they went in."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gcompile.energy.meters import ReplayClock, ReplayMeter

NOON_S = 1_767_268_800.0
"""2026-01-01T12:00:00Z."""


def constant(clock: ReplayClock, power_w: float = 10.0, **options: object) -> ReplayMeter:
    """A device that always draws the same."""
    return steps(clock, [(10_000.0, power_w)], **options)


def steps(
    clock: ReplayClock, stretches: Sequence[tuple[float, float]], **options: object
) -> ReplayMeter:
    """A device that draws each power for some seconds, beginning at noon."""
    at_s, total_j = NOON_S, 0.0
    readings = [(at_s, total_j)]
    for seconds, power_w in stretches:
        at_s, total_j = at_s + seconds, total_j + seconds * power_w
        readings.append((at_s, total_j))
    return ReplayMeter(readings, clock, **options)  # type: ignore[arg-type]


def work(clock: ReplayClock, seconds: float = 0.1) -> Callable[[], None]:
    """An inference that takes so long."""
    return lambda: clock.sleep(seconds)
