"""Find choices whose real estimate is within a limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from gcompile import ir
from gcompile.passes.precision import QuantizeStatic
from gcompile.search.budget_solver import Infeasible, Option, cheapest, picked, solve
from gcompile.search.choice import Choice, Setting
from gcompile.search.point import Point, Realize
from gcompile.search.price_regions import build_space
from gcompile.search.reductions import Reductions
from gcompile.search.sensitivity import Sensitivity

FAST = QuantizeStatic(bias_correction=False)
"""Quantizes quickly: the energy of a choice does not depend on how it is calibrated."""

_TRIES = 12
_SWEPT_REGIONS = 64
_SWEPT_WEIGHTS = 200_000_000


@dataclass
class Fitter:
    """Choices of one model, made real once each.

    The solver adds up regions; a real model also converts between precisions. So every answer of
    the solver is made real before it is believed.

    Attributes:
        space: The options of every region, and of what can be pruned.
        reductions: What may be pruned, if anything.
        uniform: The model in one precision wherever that is possible; fp32 first.
    """

    realize: Realize
    space: dict[str, list[Option]] = field(default_factory=dict)
    reductions: Reductions | None = None
    uniform: list[Point] = field(default_factory=list)
    _points: dict[tuple[tuple[str, Setting], ...], Point] = field(default_factory=dict)
    _lowest: Point | None = None

    @classmethod
    def start(
        cls,
        realize: Realize,
        precisions: Sequence[ir.Precision],
        sensitivity: Sensitivity,
        reductions: Reductions | None = None,
    ) -> Fitter:
        """Price the uniform choices, and every region from them."""
        fitter = cls(realize, reductions=reductions)
        uniform: dict[ir.Precision, Point] = {}
        whole = reductions.whole if reductions else {}
        for precision in (ir.Precision.FP32, *precisions):
            choice: dict[str, Setting] = {
                name: precision if precision in able else ir.Precision.FP32
                for name, able in sensitivity.items()
            }
            uniform[precision] = fitter.point({**choice, **whole})
        fitter.uniform = list(uniform.values())
        fitter.space = build_space({p: u.estimate for p, u in uniform.items()}, sensitivity)
        if reductions:
            fitter.space = reductions.combined(fitter.space)
        return fitter

    def point(self, choice: Choice) -> Point:
        """Make a choice real."""
        key = tuple(sorted(choice.items()))
        if key not in self._points:
            made = self.realize(choice, FAST)
            pruned = self.reductions.count(choice) if self.reductions else 0
            self._points[key] = Point(choice, FAST, made.model, made.estimate, pruned=pruned)
        return self._points[key]

    def fit(self, limit_j: float, forbidden: Sequence[Choice] = ()) -> Point | None:
        """The least sensitive choice whose real estimate is within the limit, or None.

        What agrees with a forbidden choice in all that it names is left out. Where conversions
        push the solver's choice over the limit, the solver's limit shrinks by as much.
        """
        allowed = limit_j
        for _ in range(_TRIES):
            found = solve(self.space, allowed, forbidden)
            if isinstance(found, Infeasible):
                break
            point = self.point(found.choice)
            if is_within(point.energy_j, limit_j):
                return point
            allowed = min(allowed, found.energy_j) - max(point.energy_j - limit_j, 1e-3 * limit_j)
        fitting = [
            point
            for point in (*self.uniform, self.cheapest())
            if is_within(point.energy_j, limit_j)
            and not any(each.items() <= point.choice.items() for each in forbidden)
        ]
        return min(fitting, key=self._sensitivity, default=None)

    def lightened(self, point: Point, limit_j: float) -> Point:
        """The point with what it prunes to no use put back, the most sensitive first.

        Prices of combined prunings are guesses until they are made real: one that took one part
        more than it had to gives it back.
        """
        if self.reductions is None:
            return point
        taken = picked(self.space, point.choice)
        pruned = [name for name in self.reductions.pruned(point.choice) if name in taken]
        for name in sorted(pruned, key=lambda name: (-taken[name].sensitivity, name)):
            whole = {**point.choice, name: self.reductions.whole[name]}
            trial = self.point(whole)
            if is_within(trial.energy_j, limit_j):
                point = trial
        return point

    def cheapest(self) -> Point:
        """The least real estimate found: the best start, then regions changed one by one.

        The dearest regions are changed first, as many as bounded work allows.
        """
        if self._lowest is None:
            starts = (*self.uniform, self.point(cheapest(self.space).choice))
            lowest = min(starts, key=lambda point: point.energy_j)
            for name in self._swept():
                settings = dict.fromkeys(option.setting for option in self.space[name])
                trials = [self.point({**lowest.choice, name: each}) for each in settings]
                lowest = min((lowest, *trials), key=lambda point: point.energy_j)
            self._lowest = lowest
        return self._lowest

    def raise_sensitivity(self, choice: Choice, gains: Mapping[str, float]) -> None:
        """Add to the sensitivity of the setting that each part named has in the choice."""
        for name, gain in gains.items():
            self.space[name] = [
                replace(option, sensitivity=option.sensitivity + gain)
                if option.setting == choice[name]
                else option
                for option in self.space[name]
            ]

    def _swept(self) -> list[str]:
        weights = sum(
            value.const_value.size
            for value in self.uniform[0].model.graph.initializers.values()
            if value.const_value is not None
        )
        count = min(_SWEPT_REGIONS, _SWEPT_WEIGHTS // max(weights, 1))
        dearest = sorted(self.space, key=lambda name: -max(o.energy_j for o in self.space[name]))
        return dearest[:count]

    def _sensitivity(self, point: Point) -> float:
        return sum(option.sensitivity for option in picked(self.space, point.choice).values())


def is_within(energy_j: float, limit_j: float) -> bool:
    """Compare energies, forgiving the last digits."""
    return energy_j <= limit_j * (1 + 1e-9)
