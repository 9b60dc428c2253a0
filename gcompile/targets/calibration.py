"""What measurements of the very device say: the cost of one unit of each term of a region."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from gcompile.ir import Precision


@dataclass(frozen=True, slots=True)
class Coefficient:
    """The cost of one unit, and the 5th and 95th percentile over resampled rows."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class CoefficientSet:
    """What was fitted to the rows of one precision.

    Attributes:
        rows: How many rows there were.
        fold_error: Mean relative error of rows predicted from the other four fifths.
        family_error: The same with a whole family of networks left out; None with one family.
        energy_j: Joules per unit of each term, whole system, static power included.
        time_s: Seconds per unit; empty when the rows had no time.
    """

    precision: Precision
    rows: int
    fold_error: float
    family_error: float | None
    energy_j: Mapping[str, Coefficient]
    time_s: Mapping[str, Coefficient]


@dataclass(frozen=True, slots=True)
class Calibration:
    """All fits of a device, with where the rows came from and when they were fitted."""

    source: str
    status: Literal["measured"]
    date: str
    sets: tuple[CoefficientSet, ...]

    def set_for(self, precision: Precision) -> CoefficientSet:
        """Return the set of the precision, or the nearest to it: of the same width, or the widest.

        The sets stand in the order of their width, widest first.
        """
        exact = [s for s in self.sets if s.precision is precision]
        same = [s for s in self.sets if s.precision.bits == precision.bits]
        return (exact or same or list(self.sets))[0]
