"""Joules that a meter read, and everything needed to believe them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from gcompile.energy.meters.meter import Boundary

IdlePolicy = Literal["full", "marginal"]
"""`full` counts all joules of the time an inference takes, `marginal` those above idle."""


@dataclass(frozen=True)
class Measurement:
    """What one inference cost, as a meter read it.

    A measurement is no `Estimate`: the two types have no common base and neither converts into
    the other.

    Attributes:
        joules_per_inference: Mean over the windows that were kept, by the idle policy.
        stdev_j: Standard deviation of the joules per inference between those windows.
        repeats: Windows that were kept.
        discarded: Windows that were left out as outliers.
        window_s: Mean length of a window in seconds.
        inferences: Inferences in all windows that were kept.
        seconds_per_inference: Wall time of one inference, one after the other.
        power_w: Mean power while inferences ran, idle included.
        idle_w: Power of the same boundary while nothing ran here.
        idle_policy: Whether `idle_w` is part of the joules.
        boundary: What the joules include.
        method: Which meter read what.
        started_at: When the first window began, with its time zone.
        settled: Whether the drift between windows fell below the limit before they counted.
        drift: Relative change between the last two windows before they counted.
        windows_j: Joules per inference of every window, outliers included, in order.
    """

    joules_per_inference: float
    stdev_j: float
    repeats: int
    discarded: int
    window_s: float
    inferences: int
    seconds_per_inference: float
    power_w: float
    idle_w: float
    idle_policy: IdlePolicy
    boundary: Boundary
    method: str
    started_at: datetime
    settled: bool
    drift: float
    windows_j: tuple[float, ...] = ()
