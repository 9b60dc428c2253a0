"""Find the precision of every region: within the energy limit, at the least loss of accuracy.

Cheap things are done often and dear things seldom. Sensitivities and errors come from the
reference runner on a few calibration rows; energies from the estimate of models that are really
converted and fused; accuracy, which takes building the code, a bounded number of times.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from gcompile import ir
from gcompile.passes import PassContext
from gcompile.passes.precision import Histogram, Preset
from gcompile.search.choice import Choice
from gcompile.search.explain import explain
from gcompile.search.fit import Fitter, is_within
from gcompile.search.journal import Journal
from gcompile.search.judge import Judge
from gcompile.search.point import Evaluate, Point, Realize, SearchResult, Status
from gcompile.search.reductions import Reductions
from gcompile.search.refine import Refinement
from gcompile.search.sensitivity import Progress
from gcompile.search.start import PREPARED, is_over, measured, silent, start

EVALUATIONS = 8

_REFINED = 3
"""Evaluations that are kept for prunings that were compared closely."""

_LITTLE = 0.1
"""A share of the error of a choice that is not worth another choice of precisions."""


@dataclass(frozen=True)
class Goal:
    """What the search is asked for.

    Attributes:
        limit_j: Joules per inference allowed; None asks for the least energy.
        max_drop: Accuracy that may be lost against `baseline`; None allows any loss.
        baseline: Accuracy of the float model, measured as `evaluate` measures.
        precisions: The formats allowed beside fp32.
        evaluations: How often accuracy may be measured.
        deadline_s: When to stop measuring, on `time.monotonic`'s clock; None never stops.
        preset: How integers are arrived at.
    """

    limit_j: float | None
    max_drop: float | None = None
    baseline: float | None = None
    precisions: tuple[ir.Precision, ...] = (ir.Precision.INT8, ir.Precision.BF16)
    evaluations: int = EVALUATIONS
    deadline_s: float | None = None
    preset: Preset = Preset.BALANCED

    def accepts(self, point: Point) -> bool:
        """Say whether the accuracy keeps within the drop allowed; unmeasured counts as kept."""
        if point.accuracy is None or self.max_drop is None or self.baseline is None:
            return True
        return point.accuracy >= self.baseline - self.max_drop - 1e-9

    def fits(self, point: Point) -> bool:
        """Say whether the energy keeps within the limit."""
        return self.limit_j is None or is_within(point.energy_j, self.limit_j)


def search(
    model: ir.Model,
    ctx: PassContext,
    goal: Goal,
    realize: Realize,
    evaluate: Evaluate | None = None,
    on_progress: Progress | None = None,
    histograms: Mapping[str, Histogram] | None = None,
    journal: Journal | None = None,
    reductions: Reductions | None = None,
    screen: Evaluate | None = None,
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
        on_progress: Told what is going on and the fraction of the search that is done.
        histograms: What `observe_ranges` returned for this model, to save observing again.
        journal: What earlier runs of this search measured; takes what this one measures.
        reductions: What may be pruned; None prunes nothing.
        screen: Measures the accuracy of a model without building it, as the reference runtime
            computes it: choices are compared by it where those measured are not accurate enough.
    """
    tell, journal = on_progress or silent, journal or Journal()
    fitter, judge = start(
        model, ctx, goal.precisions, realize, tell, histograms, journal, goal.preset, reductions
    )
    return _Searcher(goal, fitter, judge, evaluate, tell, journal, screen).search()


@dataclass
class _Searcher:
    """Measures the most promising points one after the other."""

    goal: Goal
    fitter: Fitter
    judge: Judge
    evaluate: Evaluate | None
    tell: Progress
    journal: Journal
    screen: Evaluate | None = None
    tried: list[Point] = field(default_factory=list)

    def search(self) -> SearchResult:
        """Try choices within the limit, then look for the nearest one that keeps the accuracy."""
        start = self._fit()
        if start is not None:
            self._try_within_limit(start)
            self._refine()
        else:
            self._measure(self._variants(self.fitter.cheapest())[0])
        if not any(self.goal.accepts(point) for point in self.tried):
            self._approach_from_above()
        return self._conclude()

    def _fit(self, forbidden: Sequence[Choice] = ()) -> Point | None:
        """A choice within the limit that is not forbidden; None where there is no limit."""
        if self.goal.limit_j is None:
            return None
        return self.fitter.fit(self.goal.limit_j, forbidden)

    def _try_within_limit(self, start: Point) -> None:
        """Measure choices within the limit, each the best guess after what failed before."""
        spare = self._spare + (_REFINED if self._may_refine() else 0)
        for point in self._guesses(start):
            if self._is_met(self._measure(point)) or self._left() <= spare:
                return

    def _refine(self) -> None:
        """Where nothing met the goal, measure the best of what was looked at closely."""
        goal, screen = self.goal, self.screen
        if not self._may_refine() or any(map(self._is_met, self.tried)):
            return
        assert screen is not None
        assert goal.limit_j is not None
        assert goal.baseline is not None
        assert goal.max_drop is not None
        self._tell("comparing choices closely")
        refinement = Refinement(
            self.fitter, self.judge, screen, goal.limit_j, goal.baseline - goal.max_drop,
            self.journal, goal.deadline_s,
        )  # fmt: skip
        for point in refinement.points(self.tried):
            if self._left() <= self._spare or self._is_met(self._measure(point)):
                return

    def _may_refine(self) -> bool:
        """Whether choices can be compared by an accuracy that is asked for."""
        asks = self.goal.max_drop is not None and self.goal.baseline is not None
        can = self.screen is not None and bool(self.judge.rows)
        return asks and can and self.goal.limit_j is not None

    @property
    def _spare(self) -> int:
        """How many evaluations are kept to look above the limit."""
        return max(self.goal.evaluations // 3, 1)

    def _guesses(self, start: Point) -> Iterator[Point]:
        """The solver's choice, choices that spare its worst regions, and other calibrations.

        A choice that failed is forbidden, or its pruning in any precision (see `_to_avoid`), and
        its regions are measured again in its company: what one region costs there is what
        reverting it would gain.
        """
        forbidden: list[Choice] = []
        later: list[Point] = []
        point: Point | None = start
        while point is not None:
            first, *others = self._variants(point)
            yield first
            later += others[:1]
            self._tell("comparing regions in company")
            gains = self.judge.gains(first)
            self.fitter.raise_sensitivity(point.choice, gains)
            forbidden.append(_to_avoid(first, gains))
            if len(forbidden) % 2 == 0 and later:
                yield later.pop(0)
            point = self._fit(forbidden)
        yield from later

    def _approach_from_above(self) -> None:
        """Bisect the limit between what failed and fp32 for the least energy that is accurate."""
        low = max(self.goal.limit_j or 0.0, min(point.energy_j for point in self.tried))
        high = self.fitter.uniform[0].energy_j
        while self._left() > 0 and high > low * 1.02:
            middle = (low * high) ** 0.5
            point = self.fitter.fit(middle)
            if point is None or any(known.choice == point.choice for known in self.tried):
                low = middle
                continue
            measured = self._measure(self._variants(point)[0])
            if self.goal.accepts(measured):
                high = min(middle, measured.energy_j)
            else:
                low = middle

    def _variants(self, point: Point) -> list[Point]:
        """The choice with each calibration, best first.

        A corrected bias can be a new constant to read: calibrations that leave the limit for it
        are left out.
        """
        self._tell("comparing calibrations")
        made = self.judge.variants(point, self.fitter.realize)
        if self.goal.fits(point):
            made = [variant for variant in made if self.goal.fits(variant)]
        return made or [point]

    def _measure(self, point: Point) -> Point:
        """Measure the accuracy of a point and remember it."""
        if self.evaluate is not None:
            self._tell("measuring accuracy")
            point = measured(point, self.evaluate, self.journal)
        self.tried.append(point)
        return point

    def _conclude(self) -> SearchResult:
        goal, floating = self.goal, replace(self.fitter.uniform[0], accuracy=self.goal.baseline)
        known = [*self.tried, floating]
        met = [point for point in known if self._is_met(point)]
        accurate = [point for point in known if goal.accepts(point)] or [floating]
        within = [point for point in known if goal.fits(point)]
        closest = min(accurate, key=lambda point: point.energy_j)
        if goal.limit_j is None:
            status, best = Status.OK, closest
        elif met:
            status, best = Status.OK, max(met, key=_quality)
        elif within:
            status, best = Status.ACCURACY_NOT_MET, max(within, key=_quality)
        else:
            status, best = Status.BUDGET_NOT_MET, closest
        lowest_j = min(point.energy_j for point in (*known, self.fitter.cheapest()))
        explanation = explain(
            status, best, closest, lowest_j, goal.limit_j, goal.baseline, goal.max_drop
        )
        return SearchResult(
            status, best, explanation, closest, self.fitter.space, tuple(self.tried)
        )

    def _is_met(self, point: Point) -> bool:
        return self.goal.fits(point) and self.goal.accepts(point)

    def _left(self) -> int:
        """How often accuracy may still be measured."""
        if self.evaluate is None or is_over(self.goal.deadline_s):
            return 0
        return self.goal.evaluations - len(self.tried)

    def _tell(self, stage: str) -> None:
        share = min(len(self.tried) / self.goal.evaluations, 1.0)
        self.tell(stage, PREPARED + (1 - PREPARED) * share)


def _to_avoid(point: Point, gains: Mapping[str, float]) -> Choice:
    """What a choice that failed forbids: itself, or what it prunes, in whatever precisions.

    Where reverting the precisions one by one gains next to nothing of the error, others would not
    tell much from those that failed.
    """
    if not point.pruned or sum(gains.values()) > _LITTLE * (point.error or 0.0):
        return point.choice
    return {name: each for name, each in point.choice.items() if isinstance(each, int)}


def _quality(point: Point) -> tuple[float, float]:
    """Higher accuracy, then lower energy."""
    return point.accuracy if point.accuracy is not None else 0.0, -point.energy_j
