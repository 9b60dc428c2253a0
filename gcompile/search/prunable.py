"""What of a model may be pruned, and a copy without some of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gcompile import ir
from gcompile.passes import Arrays, PassContext, Runner
from gcompile.passes.prune.eliminate import Elimination
from gcompile.passes.prune.groups import Group, prune_groups
from gcompile.passes.prune.importance import by_reconstruction, why_unranked
from gcompile.passes.prune.kernels import Window, ranked_windows, shrinkable
from gcompile.passes.prune.observe import sample
from gcompile.passes.prune.reduce import reduce
from gcompile.search.choice import Removal
from gcompile.search.sensitivity import Progress

_KEPT_TAPS = (0.67, 0.34)
"""Shares of a kernel's taps: 3 by 2, and 3 by 1, of 3 by 3."""


@dataclass(frozen=True)
class Prunable:
    """Channels and taps of one float model, in the order in which they go.

    Attributes:
        model: The float model with its regions.
        groups: The groups that may be pruned, by name.
        orders: In which order their channels go.
        windows: What kernels may keep, by the name of their product: the windows of each number of
            taps, most taps first, those that lose least first.
        rows: Calibration rows to refit on.
        run: Runs a model on rows.
    """

    model: ir.Model
    groups: Mapping[str, Group]
    orders: Mapping[str, Elimination]
    windows: Mapping[str, Sequence[Sequence[Window]]]
    rows: Arrays
    run: Runner

    @classmethod
    def find(cls, model: ir.Model, ctx: PassContext, tell: Progress) -> Prunable | None:
        """Rank channels and taps on calibration rows; None without rows or a runner."""
        if not ctx.calibration or ctx.run is None:
            return None
        rows = sample(model, ctx.calibration)
        able = [g for g in prune_groups(model) if not (g.reason or why_unranked(model, g))]
        tell("ranking channels", 0.0)
        orders = by_reconstruction(model, able, rows, ctx.run)
        tell("ranking taps of kernels", 0.0)
        windows = ranked_windows(model, shrinkable(model), _KEPT_TAPS, rows, ctx.run)
        return cls(model, {group.name: group for group in able}, orders, windows, rows, ctx.run)

    def reduce(self, copy: ir.Model, removal: Removal, rows: Arrays, run: Runner | None) -> None:
        """Remove parts of a copy, in place; what is left is refitted if there is a runner."""
        choices = [(self.groups[n], self.orders[n].keep(k)) for n, k in removal.sizes.items()]
        reduce(copy, choices, removal.blocks, rows, run, windows=self.kept_windows(removal))

    def kept_windows(self, removal: Removal) -> dict[str, Window]:
        """What each kernel that loses taps keeps, by the name of its product."""
        return {
            name: self.alike(name, taps)[removal.windows.get(name, 0)]
            for name, taps in removal.taps.items()
        }

    def alike(self, name: str, taps: int) -> Sequence[Window]:
        """All windows of a kernel with so many taps."""
        return next(alike for alike in self.windows[name] if alike[0].taps == taps)
