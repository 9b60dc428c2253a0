"""Predict what a model costs on a target, and say where it goes."""

from gcompile.energy.cold import ColdStart
from gcompile.energy.cost import Cost
from gcompile.energy.estimate import EnergyModel, Estimate, estimate
from gcompile.energy.kernel import is_blocked
from gcompile.energy.roofline import Roofline, best_filtering, best_tile, footprint_of

__all__ = [
    "ColdStart",
    "Cost",
    "EnergyModel",
    "Estimate",
    "Roofline",
    "best_filtering",
    "best_tile",
    "estimate",
    "footprint_of",
    "is_blocked",
]
