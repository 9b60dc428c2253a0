"""The energy model: the slower of compute and memory sets the time, everything has its price.

Each region is priced as the kernel that is emitted for it: with the tile on the region, or with
the tile that the tile pass would choose. On a calibrated target the joules and seconds are those
that were measured there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from gcompile import ir
from gcompile.energy.calibration import measured_cost
from gcompile.energy.cost import Cost
from gcompile.energy.depth_first import pass_of, passes_of
from gcompile.energy.emission import Emission, emitted_cost
from gcompile.energy.job import Job, job_of
from gcompile.energy.kernel import is_blocked, kernel_cost
from gcompile.energy.tiling import choose_tile, is_legal
from gcompile.energy.winograd import filterings, is_legal_filtering, tiles_of
from gcompile.targets import Target


@dataclass(frozen=True)
class Roofline:
    """Price regions from their work, their tile and where their data lives.

    Attributes:
        footprint_bytes: Bytes that one inference of the whole model touches; weights stay in the
            caches that hold this much. None prices each region as a model of its own.
        precision: Price every region as if its numbers had this format; None takes what they have.
        filters: Price products of regions without a tile by Winograd's algorithm where that is
            cheaper, as `apply-winograd` will compute them.
        emission: What the code generator of a GPU emits; None prices what suits the units best.
    """

    name: str = "roofline"
    footprint_bytes: int | None = None
    precision: ir.Precision | None = None
    filters: bool = False
    emission: Emission | None = None

    def for_model(self, model: ir.Model) -> Roofline:
        """Return this model of energy, knowing how much memory the whole model touches."""
        return replace(self, footprint_bytes=footprint_of(model, self.precision))

    def at(self, precision: ir.Precision | None) -> Roofline:
        """Return this model of energy, pricing every region as if it ran in `precision`."""
        return replace(self, precision=precision)

    def filtered(self) -> Roofline:
        """Return this model of energy, pricing products by the algorithm that costs least."""
        return replace(self, filters=True)

    def price(self, region: ir.Region, target: Target, threads: int) -> Cost:
        """Price one region on at most `threads` cores of the target."""
        job = job_of(region)
        if job is None:
            return Cost()
        if self.precision is not None:
            job = job.at(self.precision)
        footprint = self.footprint_bytes
        if footprint is None:
            footprint = job.alone_bytes
        tile = _usable_tile(region.tile, job, target, threads)
        if target.calibration is not None:
            # A tile was chosen for the region's own precision, not for one that is supposed.
            tile = tile if self.precision is None else None
        if self.filters and tile is None and target.kind == "cpu":
            tile = _filtering(job, None, target, threads, footprint)
        chain = region.chain if target.kind == "cpu" else None
        if chain is not None:
            priced = _depth_first(region, chain, job, target, threads, footprint)
        else:
            priced = _price(job, tile, target, threads, footprint, self.emission)
        if target.calibration is not None:
            return _as_measured(region, job, priced, target, threads, footprint)
        return priced

    def price_merged(self, regions: Sequence[ir.Region], target: Target) -> dict[str, Cost]:
        """Price regions of one graph that are emitted as one kernel, by name."""
        if self.emission is None or self.footprint_bytes is None:
            return {}
        found = self.emission.merged(regions, target, self.precision)
        return {
            name: emitted_cost(launched, target, self.footprint_bytes)
            for name, launched in found.items()
        }


def best_tile(
    region: ir.Region, target: Target, threads: int, footprint_bytes: int
) -> ir.Tile | None:
    """Return the cheapest tile of a region, or None when it only renames memory.

    Args:
        region: The region; a tile that it already has does not count.
        target: The device.
        threads: The most cores it may use.
        footprint_bytes: See `footprint_of`.
    """
    job = job_of(region)
    return choose_tile(job, target, threads, footprint_bytes) if job is not None else None


def best_filtering(
    region: ir.Region, target: Target, threads: int, footprint_bytes: int
) -> ir.Tile | None:
    """Return the tile of Winograd's algorithm that is cheaper than the region's own, if any.

    Args:
        region: A region with a direct tile.
        target: The device.
        threads: The most cores it may use.
        footprint_bytes: See `footprint_of`.
    """
    job = job_of(region)
    if job is None or target.kind != "cpu":
        return None
    direct = _usable_tile(region.tile, job, target, threads)
    if direct is not None and direct.winograd:
        direct = None
    return _filtering(job, direct, target, threads, footprint_bytes)


@lru_cache(maxsize=16384)
def _filtering(
    job: Job, direct: ir.Tile | None, target: Target, threads: int, footprint_bytes: int
) -> ir.Tile | None:
    """The tile of Winograd's algorithm that is cheaper than the direct one, if any."""

    def energy_delay(tile: ir.Tile | None) -> float:
        cost = _price(job, tile, target, threads, footprint_bytes)
        return cost.energy_j * cost.time_s

    legal = [t for t in filterings(job, target, threads) if is_legal_filtering(t, job, target)]
    best = min(legal, key=energy_delay, default=None)
    return best if best is not None and energy_delay(best) < energy_delay(direct) else None


def footprint_of(model: ir.Model, precision: ir.Precision | None = None) -> int:
    """Count the bytes that one inference touches: every constant, and the largest node's values.

    Buffers of activations are reused, so the largest stands for all.

    Args:
        model: A ready model.
        precision: Count fp32 numbers as if they had this format.
    """
    constants = [v for graph in ir.all_graphs(model) for v in graph.initializers.values()]
    sizes: dict[ir.Value, int] = {}

    def size(value: ir.Value | None) -> int:
        if value is None or value.const_value is not None or not value.name:
            return 0
        if value not in sizes:
            sizes[value] = _stored_bytes(value, precision)
        return sizes[value]

    return sum(_stored_bytes(value, precision) for value in constants) + max(
        (sum(map(size, (*node.inputs, *node.outputs))) for node in ir.all_nodes(model)), default=0
    )


def _stored_bytes(value: ir.Value, precision: ir.Precision | None) -> int:
    size = ir.value_bytes(value)
    if precision is None or value.dtype is not ir.DataType.FLOAT:
        return size
    return size * precision.bits // 32


def _usable_tile(tile: ir.Tile | None, job: Job, target: Target, threads: int) -> ir.Tile | None:
    """Return the region's tile, unless a later pass or another target made it stale."""
    unit = target.unit_named(tile.unit) if tile is not None else None
    if tile is None or unit is None or tile.threads > threads:
        return None
    if tile.winograd:
        return tile if is_legal_filtering(tile, job, target) else None
    if job.blocked is None or not is_blocked(unit, target):
        return tile if tile.rows == tile.columns == 1 else None
    fits = unit == target.unit_for(job.precision) and is_legal(tile, job.blocked, unit)
    return tile if fits else None


def _depth_first(
    region: ir.Region,
    chain: ir.Chain,
    job: Job,
    target: Target,
    threads: int,
    footprint_bytes: int,
) -> Cost:
    """The first pass finds the weights where the last inference left them, every other nearer."""
    one, tile = pass_of(region, chain, job), region.tile
    if tile is not None and tile.winograd and one.contraction is not None:
        tile = replace(tile, block=min(tile.block, tiles_of(one.contraction, tile.winograd)))
    tile = _usable_tile(tile, one, target, threads)
    first = _price(one, tile, target, threads, footprint_bytes)
    others = _price(replace(one, launches=False), tile, target, threads, chain.window_bytes)
    return first + others.times(passes_of(region, chain) - 1)


def _as_measured(
    region: ir.Region,
    job: Job,
    here: Cost,
    target: Target,
    threads: int,
    footprint_bytes: int,
) -> Cost:
    """Price by what was measured on this device; the roofline says only what a choice changes.

    A tile costs more than the best one by their ratio in the roofline, and a precision without
    rows differs from the nearest measured one by theirs.
    """
    if target.calibration is None:
        raise ValueError(f"{target.name} is not calibrated")
    coefficients = target.calibration.set_for(job.precision)
    measured = measured_cost(region, coefficients)
    there = _price(job.at(coefficients.precision), None, target, threads, footprint_bytes)
    seconds = measured.time_s * here.time_s / there.time_s if measured.time_s else here.time_s
    return replace(measured.times(here.energy_j / there.energy_j), time_s=seconds)


@lru_cache(maxsize=16384)
def _price(
    job: Job,
    tile: ir.Tile | None,
    target: Target,
    threads: int,
    footprint_bytes: int,
    emission: Emission | None = None,
) -> Cost:
    launched = () if emission is None else emission.launches(job, target)
    if launched:
        return emitted_cost(launched, target, footprint_bytes)
    tile = tile or choose_tile(job, target, threads, footprint_bytes)
    return kernel_cost(job, tile, target, footprint_bytes)
