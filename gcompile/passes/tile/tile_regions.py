"""Give every region the blocking that its kernel is emitted with.

The cheapest of all tiles a kernel can be emitted for wins, by the same model of energy that prices
the region: see `gcompile.energy.tiling`. Values do not change, only the order of the loops.
"""

from __future__ import annotations

from dataclasses import dataclass

from gcompile import ir
from gcompile.energy import best_tile, footprint_of
from gcompile.energy.job import tiled_contraction
from gcompile.passes.base import Numerics, Pass, PassContext, Skip


@dataclass(frozen=True)
class TileRegions(Pass):
    """Choose register block, loop order and threads of each region."""

    name = "tile-regions"
    numerics = Numerics.EXACT

    def run(self, model: ir.Model, ctx: PassContext) -> int:
        """Set the tiles; count those that differ from the ones before."""
        footprint_bytes = footprint_of(model)
        changed = 0
        for graph in ir.all_graphs(model):
            for region in ir.regions(graph):
                found = _tile(region, ctx, footprint_bytes)
                if isinstance(found, Skip):
                    ctx.skipped[self.name, found.reason] += 1
                else:
                    changed += ir.set_tile(region, found)
        return changed


def _tile(region: ir.Region, ctx: PassContext, footprint_bytes: int) -> ir.Tile | Skip:
    if ctx.target.kind == "gpu":
        return Skip("tiles of a GPU's kernels are chosen when those are written")
    if ctx.target.kind != "cpu":
        return Skip(f"no kernels are generated for target {ctx.target.name!r}")
    if any(_is_graph(attr) for node in region.nodes for attr in node.attributes.values()):
        return Skip("control flow is no kernel")
    tile = best_tile(region, ctx.target, ctx.threads, footprint_bytes)
    if tile is None:
        return Skip("it only renames memory")
    is_product = tiled_contraction(region) is not None or region.batched_product is not None
    if is_product and not _reads(tile, region, ctx):
        return Skip(f"no unit of the target multiplies {region.precision}")
    return tile


def _is_graph(attr: ir.Attr) -> bool:
    return attr.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)


def _reads(tile: ir.Tile, region: ir.Region, ctx: PassContext) -> bool:
    """Say whether the unit reads the operands as they are stored."""
    unit = ctx.target.unit_named(tile.unit)
    return unit is not None and unit.precision is region.precision
