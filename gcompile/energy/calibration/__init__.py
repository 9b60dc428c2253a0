"""Fit the cost of a board to measured rows, and price with what was fitted."""

from gcompile.energy.calibration.calibrate import Observation, calibrated
from gcompile.energy.calibration.device import Reading, calibrated_device
from gcompile.energy.calibration.price import measured_cost
from gcompile.energy.calibration.rows import MeasuredRow, read_rows
from gcompile.energy.calibration.terms import TERMS, terms_of

__all__ = [
    "TERMS",
    "MeasuredRow",
    "Observation",
    "Reading",
    "calibrated",
    "calibrated_device",
    "measured_cost",
    "read_rows",
    "terms_of",
]
