"""Fuse attention into one region, whose scores are never in memory, where that costs less.

    O = softmax(scale · Q Kᵀ + mask) V

As regions of their own, the products and the softmax write the scores, heads · queries · keys
numbers, and read them again. One kernel keeps those of a block of queries in the cache next to
the core. Sums are rounded in another order. Weights that the graph rounds to bytes are rounded
when all scores of a query are known, which must have room in the cache of the core.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from gcompile import ir
from gcompile.energy import Cost, EnergyModel, best_tile, footprint_of, is_blocked
from gcompile.ir.attention import WHOLE, FoundAttention, NotAttentionError, find_attention
from gcompile.passes.base import Numerics, Pass, PassContext, Skip

_FLOAT_BYTES = 4


@dataclass(frozen=True)
class FuseAttention(Pass):
    """Make attention one region where its price falls. It follows `tile-regions`.

    Attributes:
        worth: The share of the parts' energy times time that the whole must stay below.
    """

    name: ClassVar[str] = "fuse-attention"
    numerics: ClassVar[Numerics] = Numerics.ROUNDING
    worth: float = 1.0

    def run(self, model: ir.Model, ctx: PassContext) -> int:
        """Fuse attention of every graph; count the regions that were made."""
        if ctx.target.kind != "cpu":
            return 0
        energy, footprint_bytes = ctx.energy.for_model(model), footprint_of(model)
        return sum(
            _Fusion(graph, ctx, energy, footprint_bytes, self.worth).run()
            for graph in ir.all_graphs(model)
        )


class _Fusion:
    """All attention of one graph."""

    def __init__(
        self,
        graph: ir.Graph,
        ctx: PassContext,
        energy: EnergyModel,
        footprint_bytes: int,
        worth: float,
    ) -> None:
        self.ctx, self.energy, self.footprint_bytes = ctx, energy, footprint_bytes
        self.worth = worth
        self.regions = ir.regions(graph)
        self.position = {node: index for index, node in enumerate(graph)}
        self.region_of = {node: region for region in self.regions for node in region.nodes}
        self.written = frozenset(
            value for region in self.regions for value in (*region.inputs, *region.outputs)
        )

    def run(self) -> int:
        made = 0
        for region in self.regions:
            if region.batched_product is None:
                continue
            try:
                found = find_attention(region, self.region_of, self.written, WHOLE)
            except NotAttentionError:
                continue
            skip = self._fuse(region, found)
            if skip is None:
                made += 1
            else:
                self.ctx.skipped[FuseAttention.name, skip.reason] += 1
        return made

    def _fuse(self, last: ir.Region, found: FoundAttention) -> Skip | None:
        """Try the region that all of these make; keep it if it costs less."""
        nodes = sorted((n for r in found.regions for n in r.nodes), key=self.position.__getitem__)
        whole = ir.Region(last.name, tuple(nodes))
        if whole.attention is None:
            return Skip("what it reads does not lie vector by vector")
        unit = self.ctx.target.unit_for(whole.precision)
        if unit.precision is not whole.precision or not is_blocked(unit, self.ctx.target):
            return Skip(f"no kernel computes attention on unit {unit.name!r}")
        if found.weights is not None and not self._has_room(found.sizes[4]):
            return Skip("the scores of a query are more than the cache keeps")
        before = self._price(*found.regions)
        tiles = {region: region.tile for region in found.regions}
        first = self.region_of[nodes[0]]
        launch = first.launch
        ir.set_launch(whole, _launch(whole, found.regions))
        tile = best_tile(whole, self.ctx.target, self.ctx.threads, self.footprint_bytes)
        if tile is not None:
            ir.set_tile(whole, tile)
            after = self._price(whole)
            if _energy_delay(after) < self.worth * _energy_delay(before):
                for node in nodes:
                    ir.assign_region(node, whole.name)
                return None
        for region, old in tiles.items():
            if old is None:
                ir.clear_tile(region)
            else:
                ir.set_tile(region, old)
        ir.set_launch(first, launch)
        return Skip("scores in memory cost less")

    def _has_room(self, keys: int) -> bool:
        """Say whether the scores of one query take at most half the last cache of a core."""
        own = [memory.size_bytes for memory in self.ctx.target.memories if memory.per_core]
        return bool(own) and keys * _FLOAT_BYTES <= own[-1] / 2

    def _price(self, *regions: ir.Region) -> Cost:
        ctx = self.ctx
        return Cost.total(self.energy.price(r, ctx.target, ctx.threads) for r in regions)


def _energy_delay(cost: Cost) -> float:
    return cost.energy_j * cost.time_s


def _launch(whole: ir.Region, parts: Sequence[ir.Region]) -> str:
    """The whole starts by itself if any part does, and else with what the parts start with."""
    launches = [region.launch for region in parts if not ir.is_view(region)]
    names = {region.name for region in parts}
    return whole.name if names.intersection(launches) else launches[0]
