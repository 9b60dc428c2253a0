"""Choose one setting per part of a model: the least total sensitivity within an energy limit.

    minimise    sum over r, o of s[r, o] · x[r, o]
    subject to  sum over r, o of e[r, o] · x[r, o] <= limit
                sum over o of x[r, o] = 1 for each part r,  x in {0, 1}
                sum over those o of r that need setting p of q of x[r, o]  <=  x[q, p]

A multiple-choice knapsack, solved exactly by HiGHS (scipy.optimize.milp). Some options need
others: what a region costs depends on how many channels the groups around it keep, so that it has
an option for each combination.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gcompile.search.choice import Choice, Setting

if TYPE_CHECKING:
    from scipy.optimize import LinearConstraint

_OBJECTIVE_SCALE = 1e4
"""HiGHS stops within 1e-6 of the best objective: scaled up, that is 1e-10 of the largest term."""


@dataclass(frozen=True, slots=True)
class Option:
    """One setting a part may have.

    Attributes:
        sensitivity: The error it causes; infinite where the part must not have it.
        needs: Settings that other parts must have for this option.
    """

    setting: Setting
    energy_j: float
    sensitivity: float
    needs: tuple[tuple[str, Setting], ...] = ()

    def fits(self, choice: Choice) -> bool:
        """Say whether a choice has what the option needs."""
        return all(choice.get(part) == setting for part, setting in self.needs)


Space = Mapping[str, Sequence[Option]]
"""The options of every part, by its name."""


@dataclass(frozen=True)
class Solution:
    """The best choice found: no other within the limit has a lower total sensitivity."""

    choice: dict[str, Setting]
    energy_j: float
    sensitivity: float


@dataclass(frozen=True)
class Infeasible:
    """No choice fits; `minimum_j` is the least energy any choice has."""

    minimum_j: float


def solve(space: Space, limit_j: float, forbidden: Sequence[Choice] = ()) -> Solution | Infeasible:
    """Solve exactly; what agrees with a choice in `forbidden` in all that it names is left out."""
    problem = _Problem.of(space)
    least = problem.cheapest()
    excluded = list(forbidden)
    if least.energy_j > limit_j:
        return Infeasible(least.energy_j)
    while (solution := problem.least_sensitive(limit_j, excluded)) is not None:
        if solution.energy_j <= limit_j * (1 + 1e-12):
            return solution
        excluded.append(solution.choice)  # within HiGHS's tolerance of the limit, not within it
    return Infeasible(least.energy_j)


def cheapest(space: Space) -> Solution:
    """The choice of least energy; among equals, of least sensitivity where no option needs any."""
    return _Problem.of(space).cheapest()


def picked(space: Space, choice: Choice) -> dict[str, Option]:
    """The option of each part that a choice takes, for parts that have one that fits."""
    return {
        name: option
        for name, options in space.items()
        for option in reversed(options)
        if option.setting == choice.get(name) and option.fits(choice)
    }


def _usable(options: Sequence[Option]) -> list[Option]:
    finite = [option for option in options if math.isfinite(option.sensitivity)]
    return finite or list(options)


@dataclass(frozen=True)
class _Problem:
    """Options one after the other, each with the part it belongs to: the program's variables."""

    parts: tuple[str, ...]
    flat: tuple[tuple[str, Option], ...]

    @classmethod
    def of(cls, space: Space) -> _Problem:
        flat = ((name, option) for name, found in space.items() for option in _usable(found))
        return cls(tuple(space), tuple(flat))

    def cheapest(self) -> Solution:
        """The choice of least energy."""
        if any(option.needs for _, option in self.flat):
            found = self._minimum(self._energies(), math.inf, ())
            assert found is not None
            return found
        best: dict[str, int] = {}
        for index, (name, option) in enumerate(self.flat):
            known = self.flat[best[name]][1] if name in best else None
            merit = option.energy_j, option.sensitivity
            if known is None or merit < (known.energy_j, known.sensitivity):
                best[name] = index
        return self._solution(best)

    def least_sensitive(self, limit_j: float, excluded: Sequence[Choice]) -> Solution | None:
        """The choice of least sensitivity within the limit, or None where nothing fits."""
        sensitivity = [
            o.sensitivity if math.isfinite(o.sensitivity) else 0.0 for _, o in self.flat
        ]
        return self._minimum(np.array(sensitivity), limit_j, excluded)

    def _minimum(
        self, objective: NDArray[np.float64], limit_j: float, excluded: Sequence[Choice]
    ) -> Solution | None:
        if not self.flat:
            return None if excluded else self._solution({})
        from scipy.optimize import Bounds, milp  # Most programs never solve: a third of a second.

        largest = float(np.abs(objective).max()) or 1.0
        result = milp(
            objective / largest * _OBJECTIVE_SCALE,
            constraints=self._constraints(limit_j, excluded),
            integrality=np.ones(len(self.flat), np.int64),
            bounds=Bounds(0, 1),
            options={"mip_rel_gap": 0.0},
        )
        if result.x is None:
            return None
        taken: dict[str, int] = {}
        for index, (name, _) in enumerate(self.flat):
            if name not in taken or result.x[index] > result.x[taken[name]]:
                taken[name] = index
        return self._solution(taken)

    def _constraints(self, limit_j: float, excluded: Sequence[Choice]) -> list[LinearConstraint]:
        from scipy.optimize import LinearConstraint
        from scipy.sparse import csr_array

        rows = {name: index for index, name in enumerate(self.parts)}
        columns = np.arange(len(self.flat))
        one_each = csr_array(
            (np.ones(len(columns)), ([rows[name] for name, _ in self.flat], columns))
        )
        found = [LinearConstraint(one_each, 1, 1), *self._needs()]
        if math.isfinite(limit_j):
            energies = self._energies()
            scale = limit_j or float(np.abs(energies).max()) or 1.0
            found.append(LinearConstraint(energies / scale, -np.inf, limit_j / scale))
        for choice in excluded:
            same = [float(choice.get(name) == option.setting) for name, option in self.flat]
            named = sum(name in rows for name in choice)
            found.append(LinearConstraint(np.array(same), -np.inf, named - 1))
        return found

    def _needs(self) -> list[LinearConstraint]:
        """Let the options of one part that need one setting add up to no more than that has."""
        from scipy.optimize import LinearConstraint
        from scipy.sparse import csr_array

        groups: dict[tuple[str, str, Setting], list[int]] = {}
        holders: dict[tuple[str, Setting], list[int]] = {}
        for index, (name, option) in enumerate(self.flat):
            holders.setdefault((name, option.setting), []).append(index)
            for part, setting in option.needs:
                groups.setdefault((name, part, setting), []).append(index)
        if not groups:
            return []
        lines: list[int] = []
        columns: list[int] = []
        factors: list[float] = []
        for line, ((_, part, setting), needing) in enumerate(groups.items()):
            held = holders.get((part, setting), [])
            lines += [line] * (len(needing) + len(held))
            columns += [*needing, *held]
            factors += [*([1.0] * len(needing)), *([-1.0] * len(held))]
        shape = len(groups), len(self.flat)
        return [LinearConstraint(csr_array((factors, (lines, columns)), shape=shape), -np.inf, 0)]

    def _energies(self) -> NDArray[np.float64]:
        return np.array([option.energy_j for _, option in self.flat])

    def _solution(self, taken: Mapping[str, int]) -> Solution:
        options = {name: self.flat[taken[name]][1] for name in self.parts}
        return Solution(
            {name: option.setting for name, option in options.items()},
            math.fsum(option.energy_j for option in options.values()),
            math.fsum(option.sensitivity for option in options.values()),
        )
