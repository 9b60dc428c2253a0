"""Fit the bias of a classifier to labelled rows: no weight moves, and no joule is spent more.

The scores of most classifiers lean towards some classes on the images or sounds they meet in use.
A constant per class takes that back, and a few hundred rows with labels say which.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gcompile import ir
from gcompile.errors import UsageError
from gcompile.passes.base import Numerics, Pass, PassContext
from gcompile.passes.labels.last_product import fit_last_product


@dataclass(frozen=True)
class FitBias(Pass):
    """Fit the bias of the scores of a classifier to labels given beside the calibration rows.

    Attributes:
        folds: In so many parts the rows are cut; each judges what was fitted to the others.
    """

    name: ClassVar[str] = "fit-bias"
    numerics: ClassVar[Numerics] = Numerics.LOSSY
    mark: ClassVar[str] = "gcompile.fitted_bias"
    with_weights: ClassVar[bool] = False

    folds: int = 5

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise UsageError(f"folds={self.folds} must be 2 or more.")

    def run(self, model: ir.Model, ctx: PassContext) -> int:
        if self.mark in model.graph.metadata_props:
            return 0
        if skip := fit_last_product(model, ctx, self.folds, with_weights=self.with_weights):
            ctx.skipped[self.name, skip.reason] += 1
            return 0
        model.graph.metadata_props[self.mark] = "1"
        return 1
