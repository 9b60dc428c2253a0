"""Look around what a search chose, with real evaluations in place of sums of sensitivities.

What parts cost together is not the sum of what each costs alone, and the outputs may move as much
in two ways of which one suits the task better. So several choices within the limit are made real,
quantized, and run by the reference runtime on the evaluation rows, which takes no code: prunings
that the solver likes best, then the ones nearest to the best of these, with windows of kernels at
other places; good ones also with biases corrected otherwise. What moves the outputs clearly more
than others do is not built, that luck on the evaluation rows may not decide alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from gcompile import ir
from gcompile.passes import Arrays
from gcompile.passes.precision import Rounding, normalised_error
from gcompile.passes.precision.run_rows import run_rows
from gcompile.search.choice import Choice
from gcompile.search.fit import Fitter, is_within
from gcompile.search.journal import Journal, name_of
from gcompile.search.judge import Judge
from gcompile.search.point import Evaluate, Point
from gcompile.search.reductions import Reductions
from gcompile.search.start import is_over

_SEEDS = 6
"""Prunings that the solver is asked for."""

_MOST = 24
_OPERATIONS = 1e14
_RUNS_OF_A_REFIT = 10
"""Prunings that are looked at: so many, or as many as bounded work allows."""

_MARGIN = 0.002
"""What only just meets a goal on the evaluation rows may miss it on others: the solver's prunings
are looked at until one exceeds it by this."""

_WORSE = 1.3
"""Noise that so many times exceeds the least there is speaks against a pruning."""


@dataclass(frozen=True)
class _Look:
    """A point as the reference runtime sees it.

    Attributes:
        noise: Of its outputs, or of those of the same choice with the calibration that errs least.
    """

    point: Point
    accuracy: float
    noise: float

    @property
    def quality(self) -> tuple[float, float]:
        """Higher accuracy, then less noise."""
        return self.accuracy, -self.noise


@dataclass
class Refinement:
    """Points within a limit, the most accurate first.

    Attributes:
        fitter: Knows the options and prices them.
        judge: Calibrates.
        screen: Runs a model on the evaluation rows without building code.
        limit_j: Joules per inference allowed.
        wanted: An accuracy that is enough.
        deadline_s: When to stop, on `time.monotonic`'s clock; None never stops.
    """

    fitter: Fitter
    judge: Judge
    screen: Evaluate
    limit_j: float
    wanted: float
    journal: Journal
    deadline_s: float | None = None
    looks: list[_Look] = field(default_factory=list)

    def points(self, tried: Sequence[Point]) -> list[Point]:
        """Points that a search has not tried, as accurate as the reference runtime says.

        Args:
            tried: What the search measured.
        """
        for look in self._looks(tried):
            self.looks.append(look)
            if self._is_over() or self._is_enough(self.wanted + _MARGIN):
                break
        known = [(point.choice, point.options) for point in tried]
        found = sorted(self._faithful(), key=lambda look: look.quality, reverse=True)
        return [
            look.point for look in found if (look.point.choice, look.point.options) not in known
        ]

    def _looks(self, tried: Sequence[Point]) -> Iterator[_Look]:
        """What was tried with its biases corrected otherwise, then other prunings."""
        for point in tried:
            if is_within(point.energy_j, self.limit_j):
                yield from self._otherwise(self._look(point))
        if self.fitter.reductions is None:
            return
        for point in self._candidates(tried):
            look = self._look(self._calibrated(point))
            yield look
            if look in self._faithful() and look.accuracy >= self._third_best():
                yield from self._otherwise(look)

    def _candidates(self, tried: Sequence[Point]) -> Iterator[Point]:
        """What the solver likes, then what is next to the best of what was looked at."""
        yield from self._seeds(tried)
        expanded: list[Choice] = []
        while not self._is_enough(self.wanted):
            open_ = [look for look in self._faithful() if look.point.choice not in expanded]
            if not open_:
                return
            best = max(open_, key=lambda look: look.quality).point
            expanded.append(best.choice)
            for choice in self._reductions.moved(best.choice):
                point = self.fitter.point(choice)
                is_new = all(choice != look.point.choice for look in self.looks)
                if is_new and is_within(point.energy_j, self.limit_j):
                    yield point

    def _seeds(self, tried: Sequence[Point]) -> Iterator[Point]:
        """Prunings that were tried, and others of the solver; each once, in any precision."""
        seen: list[dict[str, int]] = []
        for point in tried:
            pruned = self._reductions.pruned(point.choice)
            if pruned and pruned not in seen and is_within(point.energy_j, self.limit_j):
                seen.append(pruned)
                yield point
        forbidden: list[Choice] = [*seen]
        while len(forbidden) < len(seen) + _SEEDS:
            found = self.fitter.fit(self.limit_j, forbidden)
            if found is None:
                return
            pruning = {n: each for n, each in found.choice.items() if isinstance(each, int)}
            forbidden.append(pruning)
            lighter = self.fitter.lightened(found, self.limit_j)
            pruned = self._reductions.pruned(lighter.choice)
            if pruned and pruned not in seen:
                seen.append(pruned)
                yield lighter

    def _calibrated(self, point: Point) -> Point:
        """The point with the calibration that errs least within the limit."""
        made = self.judge.variants(point, self.fitter.realize)
        return next((each for each in made if is_within(each.energy_j, self.limit_j)), point)

    def _otherwise(self, look: _Look) -> Iterator[_Look]:
        """The point with biases corrected as other quantizers do.

        That moves more than quantization did: only rows with labels can tell whether it is for
        the better, and its noise says nothing.
        """
        point = look.point
        if ir.Precision.INT8 not in point.choice.values() or point.options.channel_means:
            return
        options = replace(point.options, channel_means=True, rounding=Rounding.NEAREST)
        made = self.fitter.realize(point.choice, options)
        found = replace(point, options=options, model=made.model, estimate=made.estimate)
        if is_within(found.energy_j, self.limit_j):
            yield self._look(replace(found, accuracy=None, error=None), look.noise)

    def _look(self, point: Point, noise: float | None = None) -> _Look:
        name = name_of(point.choice, point.options)
        accuracy = self.journal.get(f"screened {name}", lambda: self.screen(point.model))
        if noise is None:
            noise = self.journal.get(f"noise {name}", lambda: self._noise(point.model))
        return _Look(replace(point, accuracy=None), accuracy, noise)

    def _noise(self, model: ir.Model) -> float:
        """Of the outputs, on all rows that weights are refitted to."""
        rows, run = self._rows, self.judge.ctx.run
        assert run is not None
        return normalised_error(self._expected, run_rows(model, rows, run))

    @property
    def _rows(self) -> Arrays:
        reductions = self.fitter.reductions
        return self.judge.rows if reductions is None else reductions.rows

    @cached_property
    def _expected(self) -> Arrays:
        """The outputs of the whole model on these rows."""
        assert self.judge.ctx.run is not None
        return run_rows(self.judge.model, self._rows, self.judge.ctx.run)

    def _faithful(self) -> list[_Look]:
        """Those whose outputs move hardly more than others' do."""
        least = min((look.noise for look in self.looks), default=0.0)
        return [look for look in self.looks if look.noise <= _WORSE * least]

    def _is_enough(self, accuracy: float) -> bool:
        """Whether one of them has so much."""
        return any(look.accuracy >= accuracy for look in self._faithful())

    def _third_best(self) -> float:
        """The accuracy of the third best, or 0 where there are fewer."""
        found = sorted((look.accuracy for look in self._faithful()), reverse=True)
        return found[2] if len(found) > 2 else 0.0

    def _is_over(self) -> bool:
        model = self.judge.model
        operations = sum(ir.work_of(region).product_ops for region in ir.regions(model.graph))
        rows = max((len(array) for array in self._rows.values()), default=1)
        work = max(operations * rows * _RUNS_OF_A_REFIT, 1)
        return len(self.looks) >= min(_MOST, _OPERATIONS / work) or is_over(self.deadline_s)

    @property
    def _reductions(self) -> Reductions:
        assert self.fitter.reductions is not None
        return self.fitter.reductions
