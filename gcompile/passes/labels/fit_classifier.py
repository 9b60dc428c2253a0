"""Fit the last product of a classifier to labelled rows: its bias, and how it weighs its inputs.

A few hundred rows with labels say more than how often a class is chosen too often: which of its
inputs it trusts too much.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gcompile.passes.labels.fit_bias import FitBias


@dataclass(frozen=True)
class FitClassifier(FitBias):
    """Fit the last product of a classifier to labels given beside the calibration rows.

    Attributes:
        folds: In so many parts the rows are cut; each judges what was fitted to the others.
    """

    name: ClassVar[str] = "fit-classifier"
    mark: ClassVar[str] = "gcompile.fitted_classifier"
    with_weights: ClassVar[bool] = True
