"""Choose one precision per region: the least total sensitivity within an energy limit.

    minimise    sum over r, p of s[r, p] · x[r, p]
    subject to  sum over r, p of e[r, p] · x[r, p] <= limit
                sum over p of x[r, p] = 1 for each region r,  x in {0, 1}

A multiple-choice knapsack, solved exactly by HiGHS (scipy.optimize.milp).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from gcompile.ir import Precision
from gcompile.passes.precision import Choice

_OBJECTIVE_SCALE = 1e4
"""HiGHS stops within 1e-6 of the best objective: scaled up, that is 1e-10 of the largest term."""


@dataclass(frozen=True, slots=True)
class Option:
    """One precision a region may have.

    Attributes:
        sensitivity: The error it causes; infinite where the region must not have it.
    """

    precision: Precision
    energy_j: float
    sensitivity: float


Space = Mapping[str, Sequence[Option]]
"""The options of every region, by region name."""


@dataclass(frozen=True)
class Solution:
    """The best choice found: no other within the limit has a lower total sensitivity."""

    choice: dict[str, Precision]
    energy_j: float
    sensitivity: float


@dataclass(frozen=True)
class Infeasible:
    """No choice fits; `minimum_j` is the least energy any choice has."""

    minimum_j: float


def solve(space: Space, limit_j: float, forbidden: Sequence[Choice] = ()) -> Solution | Infeasible:
    """Solve exactly; choices in `forbidden` are left out."""
    usable = {name: _usable(options) for name, options in space.items()}
    minimum_j = sum(min(o.energy_j for o in options) for options in usable.values())
    excluded = list(forbidden)
    if minimum_j > limit_j:
        return Infeasible(minimum_j)
    while (picked := _optimum(usable, limit_j, excluded)) is not None:
        solution = _solution(usable, picked)
        if solution.energy_j <= limit_j * (1 + 1e-12):
            return solution
        excluded.append(solution.choice)  # within HiGHS's tolerance of the limit, not within it
    return Infeasible(minimum_j)


def cheapest(space: Space) -> Solution:
    """The choice of least energy; among equals, of least sensitivity."""
    picked = [
        min(range(len(options)), key=lambda i: (options[i].energy_j, options[i].sensitivity))
        for options in (_usable(found) for found in space.values())
    ]
    return _solution({name: _usable(options) for name, options in space.items()}, picked)


def _usable(options: Sequence[Option]) -> list[Option]:
    finite = [option for option in options if math.isfinite(option.sensitivity)]
    return finite or list(options)


def _optimum(
    space: Mapping[str, Sequence[Option]], limit_j: float, excluded: Sequence[Choice]
) -> list[int] | None:
    """The index of the option picked for each region, or None where nothing fits."""
    if not space:
        return None if excluded else []
    flat = [(name, option) for name, options in space.items() for option in options]
    sensitivity = np.array([o.sensitivity if math.isfinite(o.sensitivity) else 0 for _, o in flat])
    largest = float(np.abs(sensitivity).max()) or 1.0
    energy = np.array([option.energy_j for _, option in flat]) / (limit_j or 1.0)
    rows = {name: index for index, name in enumerate(space)}
    columns = np.arange(len(flat))
    one_each = csr_array((np.ones(len(flat)), ([rows[name] for name, _ in flat], columns)))
    constraints = [LinearConstraint(one_each, 1, 1), LinearConstraint(energy, -np.inf, 1)]
    for choice in excluded:
        same = np.array([float(choice.get(name) is o.precision) for name, o in flat])
        constraints.append(LinearConstraint(same, -np.inf, len(space) - 1))
    result = milp(
        sensitivity / largest * _OBJECTIVE_SCALE,
        constraints=constraints,
        integrality=np.ones(len(flat), np.int64),
        bounds=Bounds(0, 1),
        options={"mip_rel_gap": 0.0},
    )
    if result.x is None:
        return None
    starts = np.cumsum([0, *(len(options) for options in space.values())])
    return [int(np.argmax(result.x[a:b])) for a, b in pairwise(starts)]


def _solution(space: Mapping[str, Sequence[Option]], picked: Sequence[int]) -> Solution:
    options = [found[i] for found, i in zip(space.values(), picked, strict=True)]
    return Solution(
        {name: option.precision for name, option in zip(space, options, strict=True)},
        math.fsum(option.energy_j for option in options),
        math.fsum(option.sensitivity for option in options),
    )
