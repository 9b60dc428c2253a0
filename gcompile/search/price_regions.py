"""Price every region in every precision, from models converted as a whole."""

from __future__ import annotations

from collections.abc import Mapping

from gcompile import ir
from gcompile.energy import Estimate
from gcompile.search.budget_solver import Option
from gcompile.search.sensitivity import Sensitivity


def build_space(
    uniform: Mapping[ir.Precision, Estimate], sensitivity: Sensitivity
) -> dict[str, list[Option]]:
    """Join energies and sensitivities into the options of every region.

    Regions without a choice (pools, conversions, additions) cost something too, and their cost
    depends on the precision around them: each uniform model spreads it evenly over its regions
    with a choice, so that the sum of the options of a uniform choice is that model's estimate.

    Args:
        uniform: The estimate of the model with every region that can be in one precision.
        sensitivity: The error of each region in each precision it can have.
    """
    names = list(sensitivity)
    shares = {p: _share(estimate, names) for p, estimate in uniform.items()}
    return {
        name: [
            Option(p, _energy_j(uniform[p], name) + shares[p], error)
            for p, error in sensitivity[name].items()
            if p in uniform
        ]
        for name in names
    }


def _share(estimate: Estimate, names: list[str]) -> float:
    """What the regions without a choice cost, per region with one, in joules."""
    named = sum(_energy_j(estimate, name) for name in names)
    return (estimate.total.energy_j - named) / max(len(names), 1)


def _energy_j(estimate: Estimate, name: str) -> float:
    cost = estimate.per_region.get(name)
    return cost.energy_j if cost is not None else 0.0
