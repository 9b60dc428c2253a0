"""Start runs of small kernels as one: what small models spend most of their time on is starting.

Consecutive regions that one thread finishes in little more than the time a launch takes become
parts of one function. Nothing about what they compute changes. Convolutions by Winograd's
algorithm start alone: their code is so long that functions of several take the compiler minutes,
and each computes for long enough that its launch is a small share.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import ClassVar

from gcompile import ir
from gcompile.passes.base import Numerics, Pass, PassContext
from gcompile.passes.fuse.operators import COPIES, Kind, kind_of


@dataclass(frozen=True)
class MergeLaunches(Pass):
    """Let consecutive small regions start together.

    Attributes:
        worth: A region joins when its own work takes less than this many launches.
        most: Regions of one launch. The compiler's time grows with the square of a function's
            length, and the eighth launch saved is worth little.
    """

    name: ClassVar[str] = "merge-launches"
    numerics: ClassVar[Numerics] = Numerics.EXACT
    worth: float = 50.0
    most: int = 8

    def run(self, model: ir.Model, ctx: PassContext) -> int:
        """Assign launches; count the regions whose launch changed. A GPU starts each alone."""
        if ctx.target.kind == "gpu":
            return 0
        energy = ctx.energy.for_model(model)
        limit_s = self.worth * ctx.target.launch_s

        def joins(region: ir.Region) -> bool:
            if region.chain is not None or not _is_emitted(region):
                return False
            if region.tile is not None and (region.tile.threads > 1 or region.tile.winograd):
                return False
            return energy.price(region, ctx.target, 1).time_s <= limit_s

        changed = 0
        for graph in ir.all_graphs(model):
            for is_joined, run in itertools.groupby(ir.regions(graph), key=joins):
                for index, region in enumerate(run):
                    if not is_joined or index % self.most == 0:
                        first = region.name
                    changed += ir.set_launch(region, first)
        return changed


def _is_emitted(region: ir.Region) -> bool:
    """Say whether the code generator has kernels of its own for the whole region."""
    if region.batched_product is not None or region.attention is not None:
        return True
    return all(_is_emitted_node(node) for node in region.nodes)


def _is_emitted_node(node: ir.Node) -> bool:
    match kind_of(node):
        case Kind.PRODUCT if ir.is_batched_product(node):
            return False
        case Kind.PRODUCT:
            shape = ir.contraction_of(node)
            return shape is not None and (shape.groups == 1 or shape.is_depthwise)
        case Kind.MOVE:
            return node.op_type in ir.VIEWS or node.op_type in COPIES
        case Kind.OTHER:
            return ir.recurrence_of(node) is not None
    return True
