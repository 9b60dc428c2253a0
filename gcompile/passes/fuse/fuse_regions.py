"""Fuse nodes into regions: values between them stay in registers instead of going to memory.

A region is, in the order of preference:

1. a product with the elementwise operators that follow it, up to the encoding of its result;
2. a pool with the same;
3. a move of stored numbers, between a decoder and an encoder that agree;
4. elementwise operators on one shape that lead to one result;
5. a single node.

The decoders that only a region reads belong to it. The graph itself does not change: regions are
names in the nodes' metadata.
"""

from __future__ import annotations

from dataclasses import dataclass

from gcompile import ir
from gcompile.passes.base import Numerics, Pass, PassContext
from gcompile.passes.fuse.grow import Regions


@dataclass(frozen=True)
class FuseRegions(Pass):
    """Fuse nodes into regions that run as one kernel each."""

    name = "fuse-regions"
    numerics = Numerics.EXACT

    def run(self, model: ir.Model, ctx: PassContext) -> int:
        """Group every graph anew; return how many nodes changed their region."""
        return sum(_fuse_graph(graph) for graph in ir.all_graphs(model))


def _fuse_graph(graph: ir.Graph) -> int:
    before = {node: region.name for region in ir.regions(graph) for node in region.nodes}
    regions = Regions(graph)
    regions.grow_all()
    names = {node: str(giver.name) for giver, nodes in regions.found for node in nodes}
    for node in graph:
        if node in names:
            ir.assign_region(node, names[node])
        else:
            ir.clear_region(node)
    return sum(names.get(node, node.name) != name for node, name in before.items())
