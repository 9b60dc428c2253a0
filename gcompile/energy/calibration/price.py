"""Price a region of a calibrated device: amounts times the coefficients that were measured."""

from __future__ import annotations

from collections.abc import Mapping

from gcompile import ir
from gcompile.energy.calibration.terms import TERMS, terms_of
from gcompile.energy.cost import Cost
from gcompile.targets import Coefficient, CoefficientSet

MOVEMENT = "all levels"
"""Rows of whole inferences cannot tell one level of memory from another."""

_COMPUTE = frozenset(term for term, unit in TERMS.items() if unit == "MAC")


def measured_cost(region: ir.Region, coefficients: CoefficientSet) -> Cost:
    """Return what the region adds to a whole-system measurement; `time_s` is 0 if not measured.

    Static power is not a cause of its own here: the joules of each term include what the whole
    system drew during it.
    """
    amounts = terms_of(region, coefficients.precision)
    joules = {term: _cost(term, amount, coefficients.energy_j) for term, amount in amounts.items()}
    launch_j = joules.pop("operators", 0.0)
    compute_j = sum(joules.pop(term, 0.0) for term in _COMPUTE)
    return Cost(
        compute_j=compute_j,
        movement_j={MOVEMENT: sum(joules.values())},
        launch_j=launch_j,
        time_s=sum(_cost(term, n, coefficients.time_s) for term, n in amounts.items()),
    )


def _cost(term: str, amount: float, per_unit: Mapping[str, Coefficient]) -> float:
    coefficient = per_unit.get(term)
    return amount * coefficient.value if coefficient is not None else 0.0
