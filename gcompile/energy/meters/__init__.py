"""Meters: joules as hardware counts them, never mixed with predictions."""

from gcompile.energy.meters.measure import Plan, idle_power_w, measure
from gcompile.energy.meters.measurement import IdlePolicy, Measurement
from gcompile.energy.meters.meter import (
    Boundary,
    Clock,
    Mark,
    Meter,
    MeterError,
    SystemClock,
)

__all__ = [
    "Boundary",
    "Clock",
    "IdlePolicy",
    "Mark",
    "Measurement",
    "Meter",
    "MeterError",
    "Plan",
    "SystemClock",
    "idle_power_w",
    "measure",
]
