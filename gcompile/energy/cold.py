"""The first inference: no weight is in any cache yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from gcompile import ir
from gcompile.energy.cost import Cost
from gcompile.energy.roofline import Roofline
from gcompile.targets import Target

_NEVER_STAYS = 2**60
"""Bytes touched between two uses of a weight, more than any cache holds."""


@dataclass(frozen=True)
class ColdStart:
    """Price every region as `steady` would, its weights coming from main memory.

    What activations cost does not change: a consumer follows its producer in the first inference
    as in every other.
    """

    steady: Roofline = field(default_factory=Roofline)
    name: str = "roofline, cold start"

    def for_model(self, model: ir.Model) -> ColdStart:
        """Return itself: what surrounds a region leaves it no weights."""
        return self

    def at(self, precision: ir.Precision | None) -> ColdStart:
        """Return this model of energy, pricing every region as if it ran in `precision`."""
        return replace(self, steady=self.steady.at(precision))

    def filtered(self) -> ColdStart:
        return replace(self, steady=self.steady.filtered())

    def price(self, region: ir.Region, target: Target, threads: int) -> Cost:
        """Price one region on at most `threads` cores of the target."""
        return self._never_stays.price(region, target, threads)

    def price_merged(self, regions: Sequence[ir.Region], target: Target) -> dict[str, Cost]:
        """Price regions that are emitted as one kernel, by name."""
        return self._never_stays.price_merged(regions, target)

    @property
    def _never_stays(self) -> Roofline:
        return replace(self.steady, footprint_bytes=_NEVER_STAYS)
