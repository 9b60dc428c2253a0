"""Find the precision of every region: within the energy limit, at the least loss of accuracy.

Cheap things are done often and dear things seldom. Sensitivities and errors come from the
reference runner on a few calibration rows; energies from the estimate of models that are really
converted and fused; accuracy, which takes building the code, a bounded number of times.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from gcompile import ir
from gcompile.passes import Arrays, PassContext
from gcompile.passes.precision import (
    Choice,
    Histogram,
    QuantizeStatic,
    RangeMethod,
    WeightRange,
    normalised_error,
    observe_ranges,
)
from gcompile.passes.precision.run_rows import run_rows
from gcompile.search.budget_solver import Infeasible, Option, cheapest, solve
from gcompile.search.explain import explain
from gcompile.search.point import Evaluate, Point, Realize, Realized, SearchResult, Status
from gcompile.search.price_regions import build_space
from gcompile.search.sensitivity import (
    Progress,
    choice_error,
    measure_sensitivity,
    sample,
)

EVALUATIONS = 8
_FIT_TRIES = 12
_SWEPT_REGIONS = 64

_FAST = QuantizeStatic(bias_correction=False)
_VARIANTS = (
    QuantizeStatic(calibration=RangeMethod.MINMAX),
    QuantizeStatic(calibration=RangeMethod.MSE),
    QuantizeStatic(calibration=RangeMethod.PERCENTILE),
    QuantizeStatic(calibration=RangeMethod.MSE, weights=WeightRange.MSE),
)
"""Ways to calibrate, tried in the order of the error they leave on calibration rows."""


@dataclass(frozen=True)
class Goal:
    """What the search is asked for.

    Attributes:
        limit_j: Joules per inference allowed; None asks for the least energy.
        max_drop: Accuracy that may be lost against `baseline`; None allows any loss.
        baseline: Accuracy of the float model, measured as `evaluate` measures.
        precisions: The formats allowed beside fp32.
        evaluations: How often accuracy may be measured.
    """

    limit_j: float | None
    max_drop: float | None = None
    baseline: float | None = None
    precisions: tuple[ir.Precision, ...] = (ir.Precision.INT8, ir.Precision.BF16)
    evaluations: int = EVALUATIONS

    def accepts(self, accuracy: float | None) -> bool:
        """Say whether an accuracy keeps within the drop allowed; unmeasured counts as kept."""
        if accuracy is None or self.max_drop is None or self.baseline is None:
            return True
        return accuracy >= self.baseline - self.max_drop - 1e-9

    def fits(self, energy_j: float) -> bool:
        """Say whether an energy keeps within the limit."""
        return self.limit_j is None or energy_j <= self.limit_j * (1 + 1e-9)


def search(
    model: ir.Model,
    ctx: PassContext,
    goal: Goal,
    realize: Realize,
    evaluate: Evaluate | None = None,
    on_progress: Progress | None = None,
) -> SearchResult:
    """Choose the precision of every region of a fused float model. Deterministic.

    int8 is considered only where `ctx` has calibration rows and a runner. Among the points that
    meet the goal the most accurate one is returned, then the one of least energy.

    Args:
        model: The float model after the exact passes, with its regions fused; not changed.
        ctx: Target, energy model, calibration rows and runner.
        goal: The constraints.
        realize: Makes a choice into a converted, fused, tiled and priced model.
        evaluate: Builds a model and measures its accuracy; None leaves accuracy unmeasured.
        on_progress: Told the stage and the fraction done.
    """
    searcher = _Searcher.start(model, ctx, goal, realize, evaluate, on_progress)
    return searcher.search()


@dataclass
class _Searcher:
    """The state of one search."""

    model: ir.Model
    ctx: PassContext
    goal: Goal
    realize: Realize
    evaluate: Evaluate | None
    report: Progress
    histograms: Mapping[str, Histogram] | None
    space: dict[str, list[Option]]
    rows: Arrays | None
    expected: Arrays
    uniform: list[Point]
    tried: list[Point] = field(default_factory=list)
    lowest: Point | None = None
    realized: dict[tuple[tuple[str, ir.Precision], ...], Realized] = field(default_factory=dict)

    @classmethod
    def start(
        cls,
        model: ir.Model,
        ctx: PassContext,
        goal: Goal,
        realize: Realize,
        evaluate: Evaluate | None,
        on_progress: Progress | None,
    ) -> _Searcher:
        """Observe ranges, price the uniform choices and measure sensitivities."""
        report = on_progress or _silent
        can_observe = bool(ctx.calibration) and ctx.run is not None
        wanted = tuple(p for p in goal.precisions if can_observe or p is not ir.Precision.INT8)
        report("observing ranges", 0.0)
        has_int8 = ir.Precision.INT8 in wanted
        histograms = observe_ranges(model, ctx) if has_int8 else None
        sensitivity = measure_sensitivity(
            model, ctx, wanted, histograms=histograms, on_progress=report
        )
        uniform = []
        for precision in (ir.Precision.FP32, *wanted):
            choice = {
                name: precision if precision in able else ir.Precision.FP32
                for name, able in sensitivity.items()
            }
            made = realize(choice, _FAST)
            uniform.append(Point(choice, _FAST, made.model, made.estimate))
        by_precision = dict(zip((ir.Precision.FP32, *wanted), uniform, strict=True))
        space = build_space({p: u.estimate for p, u in by_precision.items()}, sensitivity)
        rows = sample(model, ctx.calibration, len(space)) if ctx.calibration else None
        expected = (
            run_rows(model, rows, ctx.run) if rows is not None and ctx.run is not None else {}
        )
        return cls(
            model, ctx, goal, realize, evaluate, report, histograms, space, rows, expected, uniform
        )

    def search(self) -> SearchResult:
        """Try choices within the limit, then look for the nearest one that keeps the accuracy."""
        start = self._fit(self.goal.limit_j)
        if start is not None:
            self._try_within_limit(start)
        else:
            self._measure(self._best_variant(self._cheapest()))
        if not any(self.goal.accepts(point.accuracy) for point in self.tried):
            self._approach_from_above()
        return self._conclude()

    def _try_within_limit(self, start: Point) -> None:
        """Measure choices within the limit, each the best guess after what failed before."""
        spare = 0 if self.evaluate is None else max(self.goal.evaluations // 3, 1)
        for point in self._guesses(start):
            if self._is_met(self._measure(point)) or self._left() <= spare:
                return

    def _guesses(self, start: Point) -> Iterator[Point]:
        """The solver's choice with each calibration, between choices that spare its worst regions.

        A choice that failed is forbidden, and its regions are measured again in its company: what
        one region costs there is what reverting it would gain.
        """
        forbidden: list[Choice] = []
        point: Point | None = start
        later: list[Point] = []
        while point is not None:
            first, *others = self._variants(point)
            yield first
            later += others[:1]
            forbidden.append(point.choice)
            self._penalise(point)
            point = self._fit(self.goal.limit_j, forbidden)
            if len(forbidden) % 2 == 0 and later:
                yield later.pop(0)
        yield from later

    def _penalise(self, failed: Point) -> None:
        """Raise the sensitivity of regions by what reverting them alone would gain."""
        if self.rows is None:
            return
        error = self._error(failed.choice, failed.options)
        narrow = [name for name, p in failed.choice.items() if p is not ir.Precision.FP32]
        for index, name in enumerate(narrow):
            self.report(f"sensitivity of {name} among the others", index / len(narrow))
            reverted = {**failed.choice, name: ir.Precision.FP32}
            gain = max(error - self._error(reverted, failed.options), 0.0)
            self.space[name] = [
                replace(option, sensitivity=option.sensitivity + gain)
                if option.precision is failed.choice[name]
                else option
                for option in self.space[name]
            ]

    def _approach_from_above(self) -> None:
        """Bisect the limit between what failed and fp32 for the least energy that is accurate."""
        floor = min((p.energy_j for p in self.tried), default=self._cheapest().energy_j)
        low = max(self.goal.limit_j or 0.0, floor)
        high = self.uniform[0].energy_j
        while self._left() > 0 and high > low * 1.02:
            middle = (low * high) ** 0.5
            point = self._fit(middle)
            if point is None or any(p.choice == point.choice for p in self.tried):
                low = middle
                continue
            measured = self._measure(self._best_variant(point))
            if self.goal.accepts(measured.accuracy):
                high = min(middle, measured.energy_j)
            else:
                low = middle

    def _conclude(self) -> SearchResult:
        floating = replace(self.uniform[0], accuracy=self.goal.baseline)
        known = [*self.tried, floating]
        met = [point for point in known if self._is_met(point)]
        accurate = [point for point in known if self.goal.accepts(point.accuracy)]
        within = [point for point in known if self.goal.fits(point.energy_j)]
        closest = min(accurate or [floating], key=lambda point: point.energy_j)
        if self.goal.limit_j is None:
            status, best = Status.OK, closest
        elif met:
            status, best = Status.OK, max(met, key=_quality)
        elif within:
            status, best = Status.ACCURACY_NOT_MET, max(within, key=_quality)
        else:
            status, best = Status.BUDGET_NOT_MET, closest
        lowest_j = min(point.energy_j for point in (*known, *self.uniform, self._cheapest()))
        text = explain(status, best, closest, lowest_j, self.goal.limit_j, self.goal.baseline,
                       self.goal.max_drop)  # fmt: skip
        return SearchResult(status, best, text, closest, self.space, tuple(self.tried))

    def _is_met(self, point: Point) -> bool:
        return self.goal.fits(point.energy_j) and self.goal.accepts(point.accuracy)

    def _left(self) -> int:
        return self.goal.evaluations - len(self.tried) if self.evaluate is not None else 0

    def _measure(self, point: Point) -> Point:
        """Measure the accuracy of a point and remember it."""
        if self.evaluate is not None:
            self.report("measuring accuracy", len(self.tried) / self.goal.evaluations)
            point = replace(point, accuracy=self.evaluate(point.model))
        self.tried.append(point)
        return point

    def _fit(self, limit_j: float | None, forbidden: list[Choice] | None = None) -> Point | None:
        """The least sensitive choice whose real estimate is within the limit.

        The solver does not see conversions between precisions; where they push a choice over the
        limit, the solver's limit shrinks by as much.
        """
        if limit_j is None:
            return None
        allowed = limit_j
        for _ in range(_FIT_TRIES):
            found = solve(self.space, allowed, forbidden or [])
            if isinstance(found, Infeasible):
                break
            point = self._point(found.choice)
            if point.energy_j <= limit_j * (1 + 1e-9):
                return point
            allowed = min(allowed, found.energy_j) - max(point.energy_j - limit_j, 1e-3 * limit_j)
        return self._uniform_within(limit_j, forbidden or [])

    def _uniform_within(self, limit_j: float, forbidden: list[Choice]) -> Point | None:
        """A choice that needs no solver, where it fits: the least sensitive one of those."""
        points = [*self.uniform, self._cheapest()]
        fitting = [
            point
            for point in points
            if point.energy_j <= limit_j * (1 + 1e-9) and point.choice not in forbidden
        ]
        return min(fitting, key=lambda point: self._sensitivity(point.choice), default=None)

    def _cheapest(self) -> Point:
        """The least real estimate found: the best start, then each region changed in turn."""
        if self.lowest is None:
            starts = (*self.uniform, self._point(cheapest(self.space).choice))
            point = min(starts, key=lambda p: p.energy_j)
            for name, options in list(self.space.items())[:_SWEPT_REGIONS]:
                trials = [self._point({**point.choice, name: o.precision}) for o in options]
                point = min((point, *trials), key=lambda p: p.energy_j)
            self.lowest = point
        return self.lowest

    def _sensitivity(self, choice: Choice) -> float:
        return sum(
            option.sensitivity
            for name, options in self.space.items()
            for option in options
            if option.precision is choice[name]
        )

    def _point(self, choice: Choice) -> Point:
        """Make a choice real with fast options: the energy does not depend on them."""
        key = tuple(sorted(choice.items()))
        if key not in self.realized:
            self.realized[key] = self.realize(choice, _FAST)
        made = self.realized[key]
        return Point(choice, _FAST, made.model, made.estimate)

    def _best_variant(self, point: Point) -> Point:
        return self._variants(point)[0]

    def _variants(self, point: Point) -> list[Point]:
        """The same choice with each calibration, the one with the least error first.

        A corrected bias can be a new constant to read: calibrations that leave the limit for it
        are left out.
        """
        if ir.Precision.INT8 not in point.choice.values() or self.rows is None:
            return [point]
        made = []
        for index, options in enumerate(_VARIANTS):
            self.report("comparing calibrations", index / len(_VARIANTS))
            realized = self.realize(point.choice, options)
            error = self._outputs_error(realized.model)
            made.append(
                Point(point.choice, options, realized.model, realized.estimate, None, error)
            )
        fitting = [
            p for p in made if self.goal.fits(p.energy_j) or not self.goal.fits(point.energy_j)
        ]
        return sorted(fitting, key=lambda p: p.error or 0.0) or [point]

    def _outputs_error(self, model: ir.Model) -> float:
        if self.ctx.run is None or self.rows is None:
            return 0.0
        return normalised_error(self.expected, run_rows(model, self.rows, self.ctx.run))

    def _error(self, choice: Choice, options: QuantizeStatic) -> float:
        if self.rows is None:
            return 0.0
        quick = replace(options, bias_correction=False)
        return choice_error(
            self.model, choice, self.ctx, quick, self.histograms, self.rows, self.expected
        )


def _quality(point: Point) -> tuple[float, float]:
    """Higher accuracy, then lower energy."""
    return point.accuracy if point.accuracy is not None else 0.0, -point.energy_j


def _silent(stage: str, done: float) -> None:
    """Report nothing."""
