"""What a search looks at: choices made real, with what they cost and how good they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from gcompile import ir
from gcompile.energy import Estimate
from gcompile.passes.precision import QuantizeStatic
from gcompile.search.budget_solver import Space
from gcompile.search.choice import Choice, precisions_of


class Status(StrEnum):
    """Whether the search met what was asked."""

    OK = "ok"
    BUDGET_NOT_MET = "budget_not_met"
    ACCURACY_NOT_MET = "accuracy_not_met"


@dataclass(frozen=True)
class Realized:
    """A choice made into a model: converted, fused, tiled and priced."""

    model: ir.Model
    estimate: Estimate


Realize = Callable[[Choice, QuantizeStatic], Realized]
"""Makes a choice real, quantizing with the options given; does not build code.

Options without bias correction ask for a draft: its energy counts, the numbers it computes do not.
"""

Evaluate = Callable[[ir.Model], float]
"""Builds the model and measures its accuracy: expensive, so calls are counted."""


@dataclass(frozen=True)
class Point:
    """One choice that was made real.

    Attributes:
        accuracy: As `evaluate` measured it; None where it was not measured.
        error: Noise-to-signal ratio of the outputs on calibration rows; None without rows.
        pruned: How many groups of channels have fewer, and how many blocks are gone.
    """

    choice: Choice
    options: QuantizeStatic
    model: ir.Model
    estimate: Estimate
    accuracy: float | None = None
    error: float | None = None
    pruned: int = 0

    @property
    def energy_j(self) -> float:
        """Estimated joules per inference."""
        return self.estimate.total.energy_j


@dataclass(frozen=True)
class SearchResult:
    """The outcome.

    Attributes:
        best: What to build: it meets every constraint where `status` is ok.
        closest: Where not, the reachable point of least energy that keeps the accuracy.
        explanation: One sentence: what was found, and which constraint binds.
        space: The options each region had, with their energy and sensitivity.
        tried: Every point whose accuracy was measured, in order.
    """

    status: Status
    best: Point
    explanation: str
    closest: Point | None = None
    space: Space = field(default_factory=dict)
    tried: tuple[Point, ...] = ()


def precision_counts(choice: Choice) -> Mapping[ir.Precision, int]:
    """How many regions have each precision."""
    values = list(precisions_of(choice).values())
    return {p: values.count(p) for p in dict.fromkeys(values)}
