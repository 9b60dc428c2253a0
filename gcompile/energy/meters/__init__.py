"""Meters: joules as hardware counts them, never mixed with predictions."""

from gcompile.energy.meters.analyser import AnalyserMeter, LogOptions
from gcompile.energy.meters.measure import Plan, check_plan, idle_power_w, measure
from gcompile.energy.meters.measurement import IdlePolicy, Measurement
from gcompile.energy.meters.meter import Boundary, Clock, Mark, Meter, SystemClock
from gcompile.energy.meters.nvml import NvmlMeter
from gcompile.energy.meters.pick import METERS, parse_meter, pick_meter
from gcompile.energy.meters.rapl import RaplMeter
from gcompile.energy.meters.replay import ReplayClock, ReplayMeter
from gcompile.energy.meters.zeus import ZeusMeter
from gcompile.errors import MeterError

__all__ = [
    "METERS",
    "AnalyserMeter",
    "Boundary",
    "Clock",
    "IdlePolicy",
    "LogOptions",
    "Mark",
    "Measurement",
    "Meter",
    "MeterError",
    "NvmlMeter",
    "Plan",
    "RaplMeter",
    "ReplayClock",
    "ReplayMeter",
    "SystemClock",
    "ZeusMeter",
    "check_plan",
    "idle_power_w",
    "measure",
    "parse_meter",
    "pick_meter",
]
