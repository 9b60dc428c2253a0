"""What a code generator is known to emit, so that regions are priced as the launches they become.

Without one, products are priced in the blocks that suit the unit best, as a vendor's library has
them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from gcompile import ir
from gcompile.energy.cost import Cost
from gcompile.energy.gpu import Issued, gpu_cost
from gcompile.energy.job import Job
from gcompile.targets import Target


@dataclass(frozen=True, slots=True)
class Launched:
    """One kernel that is started.

    Attributes:
        job: What it does; its operations are those it issues.
        unit: The unit of the target that does its products.
        issued: What it moves, and how many processors have a block.
    """

    job: Job
    unit: str
    issued: Issued


class Emission(Protocol):
    """A code generator, as far as pricing goes. Equal ones emit the same."""

    def __hash__(self) -> int: ...

    def launches(self, job: Job, target: Target) -> tuple[Launched, ...]:
        """The kernels a job becomes; none where this is not known, or is what any would emit."""

    def merged(
        self, regions: Sequence[ir.Region], target: Target, precision: ir.Precision | None
    ) -> Mapping[str, tuple[Launched, ...]]:
        """The kernels of regions that are emitted together, or not at all, by the region's name.

        One of those that are emitted together has all the kernels.

        Args:
            regions: Those of one graph.
            target: The device.
            precision: What they are supposed to run in; None takes what they are stored as.
        """


def emitted_cost(launched: Sequence[Launched], target: Target, footprint_bytes: float) -> Cost:
    """Price kernels one after the other.

    Args:
        launched: What is started.
        target: A GPU.
        footprint_bytes: Bytes the whole model touches between two uses of the same weight.
    """
    return Cost.total(
        gpu_cost(each.job, ir.Tile(each.unit, 1, 1), target, footprint_bytes, each.issued)
        for each in launched
    )
