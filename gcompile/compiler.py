"""The whole story of a compilation, from top to bottom."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gcompile import ir
from gcompile.backends import Artifact
from gcompile.energy import Estimate
from gcompile.passes import Arrays
from gcompile.report import Budget, Report
from gcompile.targets import Target

Metric = Callable[[Mapping[str, object], object], float]


@dataclass(frozen=True)
class Compiled:
    """What a compilation gives back."""

    model: ir.Model
    artifact: Artifact
    report: Report


def compile(
    model: ir.Model | str | Path,
    target: Target | str = "cpu",
    *,
    budget: Budget | str | None = None,
    max_drop: float | str = 0.01,
    metric: str | Metric = "top1",
    calib: Arrays | str | Path | None = None,
    evaluate: Arrays | str | Path | None = None,
    precision: ir.Precision | str | None = None,
    passes: str | None = None,
    shapes: ir.Shapes | None = None,
    threads: int = 1,
    seed: int = 0,
    output: str | Path | None = None,
    plugins: Sequence[str] = (),
    progress: Callable[[str, float], None] | None = None,
) -> Compiled:
    """Optimise a model for a target under a budget, build it, verify it, and report."""
    raise NotImplementedError


def estimate(
    model: ir.Model | str | Path,
    target: Target | str = "cpu",
    *,
    precision: ir.Precision | str | None = None,
    batch: int | None = None,
    shapes: ir.Shapes | None = None,
    threads: int = 1,
) -> Estimate:
    """Predict what one inference costs, without building anything."""
    raise NotImplementedError
