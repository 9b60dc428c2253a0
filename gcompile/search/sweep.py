"""The front of accuracy, energy and latency, measured in one run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from gcompile import ir
from gcompile.passes import PassContext
from gcompile.passes.precision import Histogram
from gcompile.search.fit import Fitter
from gcompile.search.journal import Journal
from gcompile.search.judge import Judge
from gcompile.search.point import Evaluate, Point, Realize
from gcompile.search.recalibrate import Recalibration
from gcompile.search.reductions import Reductions
from gcompile.search.sensitivity import Progress
from gcompile.search.start import PREPARED, is_over, measured, silent, start

POINTS = 12

_LEAST_STEP = 1.01
"""Neighbours whose energies are closer than this have no point between them."""

_FLAT = 0.05
"""What a gap counts where accuracy does not change, as a share of the whole range."""


def sweep(
    model: ir.Model,
    ctx: PassContext,
    precisions: tuple[ir.Precision, ...],
    realize: Realize,
    evaluate: Evaluate | None = None,
    *,
    points: int = POINTS,
    deadline_s: float | None = None,
    on_progress: Progress | None = None,
    histograms: Mapping[str, Histogram] | None = None,
    journal: Journal | None = None,
    reductions: Reductions | None = None,
    screen: Evaluate | None = None,
    prepared: Realize | None = None,
) -> tuple[Point, ...]:
    """Measure choices from the least energy to the model in its own precision. Deterministic.

    The uniform choices come first; each further point halves the gap of the front that promises
    most: a wide one, where accuracy changes much.

    Args:
        model: The float model after the exact passes, with its regions fused; not changed.
        ctx: Target, energy model, calibration rows and runner.
        precisions: The formats allowed beside fp32.
        realize: Makes a choice into a converted, fused, tiled and priced model.
        evaluate: Builds a model and measures its accuracy; without it the error of the outputs
            on calibration rows stands in.
        points: Most choices to measure.
        deadline_s: When to stop measuring, on `time.monotonic`'s clock; None never stops.
        on_progress: Told what is going on and the fraction of the sweep that is done.
        histograms: What `observe_ranges` returned for this model, to save observing again.
        journal: What earlier runs measured; takes what this one measures.
        reductions: What may be pruned; None prunes nothing.
        screen: Measures the accuracy of a model without building it: the most accurate points are
            tried in the ways of every preset by it, and built again where one does better.
        prepared: Like `realize`, from the model rewritten for integers; None where there is none.

    Returns:
        All points measured, by rising energy; `front` says which of them nothing beats.
    """
    tell, journal = on_progress or silent, journal or Journal()
    fitter, judge = start(
        model, ctx, precisions, realize, tell, histograms, journal, reductions=reductions
    )
    made = _Sweep(fitter, judge, evaluate, journal, tell, points, deadline_s)
    made.run()
    if screen is not None and evaluate is not None:
        made.recalibrate(
            Recalibration(
                model, realize, prepared, screen, journal, lambda: not is_over(deadline_s)
            )
        )
    return made.found


def front(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats in accuracy, energy and latency; by rising energy.

    Of points that are equal in all three, the first stays.
    """
    kept = [
        point
        for index, point in enumerate(points)
        if not any(
            _beats(other, point) or (_merits(other) == _merits(point) and place < index)
            for place, other in enumerate(points)
        )
    ]
    return sorted(kept, key=lambda point: point.energy_j)


@dataclass
class _Sweep:
    fitter: Fitter
    judge: Judge
    evaluate: Evaluate | None
    journal: Journal
    tell: Progress
    points: int
    deadline_s: float | None
    tried: list[Point] = field(default_factory=list)
    closed: set[tuple[float, float]] = field(default_factory=set)

    @property
    def found(self) -> tuple[Point, ...]:
        """All points measured, by rising energy."""
        return tuple(sorted(self.tried, key=lambda point: point.energy_j))

    def run(self) -> None:
        """Measure the uniform choices, the one of least energy, then the gaps between them."""
        for point in (*self.fitter.uniform, self.fitter.cheapest()):
            self._measure(point)
        while (gap := self._widest()) is not None and self._goes_on():
            middle = self.fitter.fit(math.sqrt(gap[0] * gap[1]))
            is_inside = middle is not None and gap[0] < middle.energy_j < gap[1]
            if middle is None or not is_inside or not self._measure(middle):
                self.closed.add(gap)

    def recalibrate(self, ways: Recalibration) -> None:
        """Measure points again, quantized in better ways: the front's and the most accurate first.

        Others follow: what is far behind in one way to quantize may lead in another.
        """
        assert self.evaluate is not None
        self.tell("comparing presets", self._done())
        leading = {id(point) for point in front(self.tried)}
        by_promise = sorted(
            self.tried, key=lambda point: (id(point) in leading, _quality(point)), reverse=True
        )
        for point in by_promise:
            better = ways.better(point, self.evaluate)
            if better is not None:
                self.tried.append(replace(better, error=self.judge.noise(better.model)))

    def _measure(self, point: Point) -> bool:
        """Measure the best calibration of a choice; say whether the choice was new."""
        if not self._goes_on() or any(known.choice == point.choice for known in self.tried):
            return False
        self.tell("measuring accuracy", self._done())
        best = self.judge.variants(point, self.fitter.realize)[0]
        if self.evaluate is not None:
            best = measured(best, self.evaluate, self.journal)
        self.tried.append(self.judge.with_error(best))
        return True

    def _widest(self) -> tuple[float, float] | None:
        """The energies on both sides of the gap that promises most; None where all are closed."""
        kept = front(self.tried)
        merits = [_quality(point) for point in kept]
        whole = (max(merits) - min(merits)) or 1.0
        gaps = {}
        for (low, worse), (high, better) in pairwise(zip(kept, merits, strict=True)):
            ends = low.energy_j, high.energy_j
            if ends not in self.closed and ends[1] > ends[0] * _LEAST_STEP:
                step = math.log(ends[1] / ends[0])
                gaps[ends] = step * (abs(better - worse) / whole + _FLAT)
        return max(gaps, key=lambda ends: gaps[ends]) if gaps else None

    def _goes_on(self) -> bool:
        return len(self.tried) < self.points and not is_over(self.deadline_s)

    def _done(self) -> float:
        return PREPARED + (1 - PREPARED) * len(self.tried) / self.points


def _quality(point: Point) -> float:
    """Accuracy; where it was not measured, the fewer bits of noise the better."""
    if point.accuracy is not None:
        return point.accuracy
    return -math.log10(max(point.error or 0.0, 1e-12))


def _merits(point: Point) -> tuple[float, float, float]:
    return _quality(point), -point.energy_j, -point.estimate.total.time_s


def _beats(one: Point, other: Point) -> bool:
    """Say whether one point is at least as good in everything and better in something."""
    pairs = list(zip(_merits(one), _merits(other), strict=True))
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)
