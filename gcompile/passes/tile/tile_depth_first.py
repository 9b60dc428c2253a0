"""Compute layers of large images depth first, where less has to come from main memory.

    layer by layer    image 1 to memory, back, image 2 to memory, back, …
    depth first       some rows of image 1, of image 2, …; then the next rows

Images that no cache holds are written to main memory by one layer and read back by the next. In
passes over a few rows, what one layer writes is in a cache when the next reads it. No row is
computed twice: see `gcompile.ir.row_bands`. Sums are rounded in another order only where a pass
has fewer pixels than a block of the product.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from gcompile import ir
from gcompile.energy import Cost, EnergyModel
from gcompile.passes.base import Numerics, Pass, PassContext
from gcompile.passes.tile.image_layers import ImageLayer, image_layer


@dataclass(frozen=True)
class TileDepthFirst(Pass):
    """Make chains of consecutive regions where their price falls. It follows `tile-regions`.

    Attributes:
        worth: The share of what the regions cost alone that a chain must stay below.
        most: Regions of one chain.
    """

    name: ClassVar[str] = "tile-depth-first"
    numerics: ClassVar[Numerics] = Numerics.ROUNDING
    worth: float = 0.97
    most: int = 12

    def run(self, model: ir.Model, ctx: PassContext) -> int:
        """Assign chains, on a CPU; count the regions whose part in one changed."""
        if ctx.target.kind != "cpu" or len(ctx.target.memories) < _LEVELS:
            return 0
        if ctx.threads > 1:
            ctx.skipped[self.name, "threads would wait for each other in every pass"] += 1
            return 0
        energy = ctx.energy.for_model(model)
        return sum(_Search(self, graph, ctx, energy).run() for graph in ir.all_graphs(model))


_LEVELS = 2
"""Levels of memory of a target that has a cache."""


@dataclass(frozen=True)
class _Part:
    """Consecutive layers, what they cost, and how they are computed; no chains is one by one."""

    price: float
    chains: tuple[ir.Chain, ...] = ()


class _Search:
    """The chains of one graph: the cheapest way to cut its layers into runs."""

    def __init__(
        self, options: TileDepthFirst, graph: ir.Graph, ctx: PassContext, energy: EnergyModel
    ) -> None:
        self.options, self.ctx, self.energy = options, ctx, energy
        self.regions = ir.regions(graph)
        self.before = {region: region.chain for region in self.regions}
        self.cache_bytes = ctx.target.memories[-2].size_bytes

    def run(self) -> int:
        for region in self.regions:
            _assign(region, None)
        for run in _runs(self.regions):
            if any(self._is_missed(layer) for layer in run[:-1]):
                self._cut(run)
        return sum(region.chain != self.before[region] for region in self.regions)

    def _is_missed(self, layer: ImageLayer) -> bool:
        """Say whether the next layer must fetch the image from main memory."""
        return 2 * ir.value_bytes(layer.output) > self.cache_bytes

    def _cut(self, run: Sequence[ImageLayer]) -> None:
        """Assign the cheapest chains of layers that follow each other."""
        costs = [self._cost(layer.region) for layer in run]
        whole = Cost.total(costs)
        alone = [_share(cost, whole) for cost in costs]
        best = [(0.0, _Part(0.0), 0)]
        for stop in range(1, len(run) + 1):
            options = [(best[stop - 1][0] + alone[stop - 1], _Part(alone[stop - 1]), stop - 1)]
            for start in range(max(0, stop - self.options.most), stop - 1):
                part = self._chained(run[start:stop], whole)
                if part is not None and part.price < self.options.worth * sum(alone[start:stop]):
                    options.append((best[start][0] + part.price, part, start))
            best.append(min(options, key=lambda option: option[0]))
        stop = len(run)
        while stop:
            _, part, start = best[stop]
            for layer, chain in zip(run[start:stop], part.chains, strict=False):
                _assign(layer.region, chain)
            stop = start

    def _cost(self, region: ir.Region) -> Cost:
        return self.energy.price(region, self.ctx.target, self.ctx.threads)

    def _chained(self, part: Sequence[ImageLayer], whole: Cost) -> _Part | None:
        """The cheapest passes over some layers; None where they are no chain."""
        if not any(self._is_missed(layer) for layer in part[:-1]) or not _is_closed(part):
            return None
        found = [self._priced(part, chains, whole) for chains in self._candidates(part)]
        return min(found, key=lambda option: option.price, default=None)

    def _priced(
        self, part: Sequence[ImageLayer], chains: tuple[ir.Chain, ...], whole: Cost
    ) -> _Part:
        for layer, chain in zip(part, chains, strict=True):
            _assign(layer.region, chain)
        cost = Cost.total(self._cost(layer.region) for layer in part)
        for layer in part:
            _assign(layer.region, None)
        return _Part(_share(cost, whole), chains)

    def _candidates(self, part: Sequence[ImageLayer]) -> Iterator[tuple[ir.Chain, ...]]:
        """Passes of as many rows as each cache holds, and of half of them."""
        sized = []
        rows = 1
        while ir.LEAST_PASSES * rows <= part[-1].height:
            chains = chains_of(part, rows)
            if chains is not None:
                sized.append(chains)
            rows *= 2
        yielded = set()
        for memory in self.ctx.target.memories[:-1]:
            fitting = [c for c in sized if 2 * c[0].window_bytes <= memory.size_bytes] or sized[:1]
            for chains in fitting[-2:]:
                if chains[-1].rows not in yielded:
                    yielded.add(chains[-1].rows)
                    yield chains


def chains_of(part: Sequence[ImageLayer], rows: int) -> tuple[ir.Chain, ...] | None:
    """The part of each layer in a chain whose last one computes so many rows in a pass.

    None where their rows do not go together.
    """
    index = {layer.output: i for i, layer in enumerate(part)}
    bands = ir.bands_of(
        [
            ir.BandedLayer(
                layer.height,
                tuple((index[value], window) for value, window in layer.reads if value in index),
                layer.least,
            )
            for layer in part
        ],
        rows,
    )
    if bands is None:
        return None
    pairs = list(zip(part, bands.layers, strict=True))
    windows = sum(band.capacity * layer.row_bytes for layer, band in pairs)
    weights = sum(layer.weight_bytes for layer in part)
    read = sum(
        window.count(band.rows) * ir.value_bytes(value) / ir.static_shape(value)[2]
        for layer, band in pairs
        for value, window in layer.reads
        if value not in index
    )
    name, touched = part[-1].region.name, int(windows + weights + read)
    return tuple(
        ir.Chain(name, band.rows, touched, int(band.kept * layer.row_bytes))
        for layer, band in pairs
    )


def _runs(regions: Sequence[ir.Region]) -> Iterator[list[ImageLayer]]:
    """Yield image layers that follow each other."""
    run: list[ImageLayer] = []
    for region in regions:
        layer = image_layer(region)
        if layer is not None:
            run.append(layer)
        elif run:
            yield run
            run = []
    if run:
        yield run


def _is_closed(part: Sequence[ImageLayer]) -> bool:
    """Say whether all images but the last are read in the chain alone, and by rows."""
    inside = {node for layer in part for node in layer.region.nodes}
    inner = {layer.output for layer in part[:-1]}
    if any(value in inner for layer in part for value in layer.whole):
        return False
    reading = all(any(value in inner for value, _ in layer.reads) for layer in part[1:])
    return reading and all(
        not value.is_graph_output()
        and value.uses()
        and all(use.node in inside for use in value.uses())
        for value in inner
    )


def _assign(region: ir.Region, chain: ir.Chain | None) -> None:
    for node in region.nodes:
        ir.set_chain(node, chain)


def _share(cost: Cost, whole: Cost) -> float:
    """Joules and seconds as shares of all: what falls when their product falls."""
    return cost.energy_j / whole.energy_j + cost.time_s / whole.time_s
