"""What pruning leaves of the energy of each region. Shapes decide, no weight is looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from gcompile import ir
from gcompile.energy import Estimate, estimate
from gcompile.passes import PassContext
from gcompile.passes.fuse.fuse_regions import FuseRegions
from gcompile.passes.prune.branches import drop
from gcompile.passes.prune.kernels import shrink
from gcompile.passes.prune.remove import kept_indices, resize
from gcompile.search.budget_solver import Option
from gcompile.search.choice import Removal, Setting
from gcompile.search.prunable import Prunable

_SAME = 1e-9
"""Shares this close to the whole change nothing."""

Shares = dict[tuple[str, Setting], dict[str, float]]
"""By a part and how much of it stays: what it leaves of each region it touches, by name."""


@dataclass(frozen=True)
class ReductionPrices:
    """Prices reduced copies of one model on one target."""

    prunable: Prunable
    ctx: PassContext

    def shares(self, space: Mapping[str, Sequence[Option]], precision: ir.Precision) -> Shares:
        """Price every option of parts that may be pruned, in one precision."""
        whole = self._priced(Removal(), precision).per_region
        found = {}
        for part, setting in _pruning(space):
            removal = Removal.of({part: setting})
            less = self._priced(removal, precision).per_region
            touched = (set(whole) - set(less)) | self._around(removal)
            shares = {
                name: less[name].energy_j / max(whole[name].energy_j, 1e-300)
                if name in less
                else 0.0
                for name in touched & set(whole)
            }
            found[part, setting] = {n: s for n, s in shares.items() if abs(s - 1) > _SAME}
        return found

    def _around(self, removal: Removal) -> set[str]:
        """The regions that what is removed, short of blocks, lies in."""
        groups = self.prunable.groups
        values = {member.value for n in removal.sizes for member in groups[n].members}
        return {
            region.name
            for region in ir.regions(self.prunable.model.graph)
            for node in region.nodes
            if node.name in removal.taps
            or any(v is not None and v.name in values for v in (*node.inputs, *node.outputs))
        }

    def _priced(self, removal: Removal, precision: ir.Precision) -> Estimate:
        copy = self.prunable.model.clone()
        drop(copy, removal.blocks)
        shrink(copy, self.prunable.kept_windows(removal))
        FuseRegions().run(copy, self.ctx)
        for graph in ir.all_graphs(copy):
            for region in ir.regions(graph):
                ir.clear_tile(region)
        sizes = [(self.prunable.groups[n], range(k)) for n, k in removal.sizes.items()]
        resize(copy, kept_indices(copy, sizes))
        energy = self.ctx.energy.at(precision).filtered()
        return estimate(copy, self.ctx.target, energy, self.ctx.threads)


def _pruning(space: Mapping[str, Sequence[Option]]) -> Iterator[tuple[str, Setting]]:
    for part, options in space.items():
        yield from ((part, option.setting) for option in options[1:])
