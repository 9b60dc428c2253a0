"""What sizes of groups cost: kernels take channels by the vector, so fewer are not always cheaper.

Only shapes decide a price: a copy of the model gets those it would have; no weight is looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gcompile import ir
from gcompile.energy import EnergyModel, estimate
from gcompile.passes.base import PassContext
from gcompile.passes.fuse.fuse_regions import FuseRegions
from gcompile.passes.prune.groups import Group
from gcompile.passes.prune.remove import kept_indices, resize
from gcompile.targets import Target

_STEP, _REACH = 4, 64
"""Kernels take channels by four at least, and by a few vectors at most."""

_SAME = 1 + 1e-9
"""Prices this close are the same."""


@dataclass
class SizePricer:
    """Prices of one model with groups of other sizes.

    Attributes:
        model: A copy of the model, with regions and without tiles.
        groups: The groups that may be pruned, by name.
        energy: The model of energy, which knows how much memory the whole model touches.
    """

    model: ir.Model
    groups: Mapping[str, Group]
    energy: EnergyModel
    target: Target
    threads: int
    _known: dict[tuple[tuple[str, int], ...], float] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        model: ir.Model,
        groups: Iterable[Group],
        ctx: PassContext,
        precision: ir.Precision | None = None,
    ) -> SizePricer:
        """Prepare a copy of the model; `precision` prices products as if they ran in it."""
        copy = model.clone()
        FuseRegions().run(copy, ctx)
        for graph in ir.all_graphs(copy):
            for region in ir.regions(graph):
                ir.clear_tile(region)
        prunable = {group.name: group for group in groups if group.reason is None}
        return cls(copy, prunable, ctx.energy.at(precision).filtered(), ctx.target, ctx.threads)

    def energy_j(self, sizes: Mapping[str, int]) -> float:
        """Joules of one inference with groups of these sizes; others stay as they are."""
        sizes = {n: size for n, size in sizes.items() if size < self.groups[n].size}
        key = tuple(sorted(sizes.items()))
        if key not in self._known:
            self._known[key] = self._price(sizes)
        return self._known[key]

    def round_up(self, asked: Mapping[str, int]) -> dict[str, int]:
        """Round sizes up to the largest that cost no more; sizes that save nothing are left out.

        What a size saves depends on the others: groups left out are asked again until none of
        them saves anything beside those that are in.
        """
        sizes: dict[str, int] = {}
        decided = True
        while decided:
            decided = False
            for name in [name for name in asked if name not in sizes]:
                size = self._largest(name, asked[name], sizes)
                if size < self.groups[name].size:
                    sizes[name], decided = size, True
        return sizes

    def _largest(self, name: str, least: int, others: Mapping[str, int]) -> int:
        """The largest size of a group, from `least` up, that costs no more than `least`."""
        whole = self.groups[name].size
        limit = self.energy_j({**others, name: least}) * _SAME
        if self.energy_j({**others, name: whole}) <= limit:
            return whole
        first = -(-(least + 1) // _STEP) * _STEP
        larger = range(first, min(whole, least + _REACH), _STEP)
        fitting = [n for n in larger if self.energy_j({**others, name: n}) <= limit]
        return max(fitting, default=least)

    def _price(self, sizes: Mapping[str, int]) -> float:
        copy = self.model.clone()
        resize(copy, kept_indices(copy, [(self.groups[n], range(k)) for n, k in sizes.items()]))
        return estimate(copy, self.target, self.energy, self.threads).total.energy_j
