"""What the readers of each value want of its memory, gathered before anything is emitted.

A producer that knows the halo its readers need writes it at once; without that, every padded
convolution would begin with a copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gcompile import ir
from gcompile.backends.tvm.lowering.placement import NO_HALO, Halo
from gcompile.backends.tvm.lowering.transposed_windows import transposed_window_of
from gcompile.backends.tvm.lowering.windows import window_of


@dataclass(frozen=True, slots=True)
class Request:
    """The halo some reader wants around a channels-last image, and what it is filled with."""

    halo: Halo = NO_HALO
    fill: float = 0.0

    def joined(self, other: Request) -> Request:
        """The larger halo of two requests; the first that has a halo decides its value."""
        if not any(self.halo):
            return other
        if not any(other.halo) or other.fill != self.fill:
            return self
        top, left, bottom, right = map(max, self.halo, other.halo)
        return Request((top, left, bottom, right), self.fill)

    def serves(self, other: Request) -> bool:
        """Say whether an image made for this request also serves the other one."""
        if not any(other.halo):
            return True
        enough = all(mine >= theirs for mine, theirs in zip(self.halo, other.halo, strict=True))
        return enough and self.fill == other.fill


def gather_requests(regions: Sequence[ir.Region]) -> dict[ir.Value, Request]:
    """Join the requests of all regions that read a value through a window, channels last."""
    requests: dict[ir.Value, Request] = {}
    for region in regions:
        found = _request_of(region)
        if found is None:
            continue
        stored, wanted = found
        earlier = requests.get(stored)
        requests[stored] = earlier.joined(wanted) if earlier else wanted
    return requests


def _request_of(region: ir.Region) -> tuple[ir.Value, Request] | None:
    """The value that a region reads through a window, and what it wants of it."""
    if (window := window_of(region)) is not None:
        return window.stored, Request(window.halo, window.fill)
    if (transposed := transposed_window_of(region)) is not None:
        return transposed.stored, Request(transposed.halo)
    return None
