"""Fit the bias of a classifier to labelled rows: no weight moves, and no joule is spent more.

The scores of most classifiers lean towards some classes on the images or sounds they meet in use.
A constant per class takes that back, and a few hundred rows with labels say which. Rows left out
in turn decide how hard it is held back; it is fitted only where it makes their labels more likely,
by more than the standard error of that, and no fewer of them the largest score.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gcompile import ir
from gcompile.errors import UsageError
from gcompile.passes.base import Numerics, Pass, PassContext, Skip
from gcompile.passes.labels.logistic import Labels, Scores, fit_bias
from gcompile.passes.labels.scores import (
    NO_BIAS,
    NO_CLASSES,
    NO_GAIN,
    NO_LABELS,
    add_bias,
    checked_labels,
    folds,
    scores_of,
)
from gcompile.passes.precision.run_rows import run_rows

_FITTED = "gcompile.fitted_bias"
_PENALTIES = (math.inf, 1e-1, 1e-2, 1e-3)


@dataclass(frozen=True)
class FitBias(Pass):
    """Fit the bias of the scores of a classifier to labels given beside the calibration rows.

    Attributes:
        folds: In so many parts the rows are cut; each judges what was fitted to the others.
    """

    name: ClassVar[str] = "fit-bias"
    numerics: ClassVar[Numerics] = Numerics.LOSSY

    folds: int = 5

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise UsageError(f"folds={self.folds} must be 2 or more.")

    def run(self, model: ir.Model, ctx: PassContext) -> int:
        if _FITTED in model.graph.metadata_props:
            return 0
        found = self._fit(model, ctx)
        if isinstance(found, Skip):
            ctx.skipped[self.name, found.reason] += 1
            return 0
        model.graph.metadata_props[_FITTED] = "1"
        return 1

    def _fit(self, model: ir.Model, ctx: PassContext) -> Skip | None:
        """Change the bias, or say why not."""
        if ctx.labels is None or not ctx.calibration or ctx.run is None:
            return Skip(NO_LABELS)
        value, place = scores_of(model)
        classes = math.prod(ir.static_shape(value)[1:]) if value is not None else 0
        if value is None or classes < 2:
            return Skip(NO_CLASSES)
        old = ir.constant_array(place.constant) if place is not None else None
        if place is None or (old is not None and old.size not in (1, classes)):
            return Skip(NO_BIAS)
        labels = checked_labels(ctx.labels, classes)
        piece = ir.extract(model, [str(v.name) for v in model.graph.inputs], [str(value.name)])
        outputs = run_rows(piece, ctx.calibration, ctx.run, model)[str(value.name)]
        scores = np.asarray(outputs, np.float64).reshape(-1, classes)
        if len(scores) != len(labels):
            return Skip(NO_CLASSES)
        penalty = self._penalty(scores, labels, ctx.seed)
        if not math.isfinite(penalty):
            return Skip(NO_GAIN)
        add_bias(model, place, fit_bias(scores, labels, penalty).shift)
        return None

    def _penalty(self, scores: Scores, labels: Labels, seed: int) -> float:
        """Under which the labels left out are most likely; infinite where none is clearly so."""
        losses = {penalty: np.zeros(len(labels)) for penalty in _PENALTIES}
        right = dict.fromkeys(_PENALTIES, 0)
        for seen, left_out in folds(len(labels), self.folds, seed):
            for penalty in _PENALTIES:
                found = fit_bias(scores[seen], labels[seen], penalty)
                losses[penalty][left_out] = found.losses(scores[left_out], labels[left_out])
                chosen = (scores[left_out] + found.shift).argmax(axis=1)
                right[penalty] += int((chosen == labels[left_out]).sum())
        best = min(losses, key=lambda penalty: float(losses[penalty].mean()))
        gains = losses[math.inf] - losses[best]
        is_clear = gains.mean() > gains.std() / math.sqrt(len(gains))
        return best if is_clear and right[best] >= right[math.inf] else math.inf
