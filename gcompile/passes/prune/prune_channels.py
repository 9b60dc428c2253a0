"""Remove the channels, filters, neurons and attention heads that outputs miss least.

Groups of coupled channels are found on the graph, see `groups`; in each the channels go whose
absence the products after them can make up for best; what is left is refitted, layer after layer,
to compute what the whole model did. No training, no gradients.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from gcompile import ir
from gcompile.errors import PassError, UsageError
from gcompile.passes.base import Arrays, Numerics, Pass, PassContext, Runner
from gcompile.passes.precision.ranges.histogram import check_finite
from gcompile.passes.prune.eliminate import Elimination
from gcompile.passes.prune.groups import Group, prune_groups, remember, unknown_groups
from gcompile.passes.prune.importance import (
    Importance,
    by_magnitude,
    by_reconstruction,
    why_unranked,
)
from gcompile.passes.prune.observe import sample
from gcompile.passes.prune.refit import Refit
from gcompile.passes.prune.remove import remove
from gcompile.passes.prune.sizes import SizePricer

NO_CHEAPER = "fewer of its channels cost no less on this target"


@dataclass(frozen=True)
class PruneChannels(Pass):
    """Remove a share of the channels of every group, and refit what reads them.

    Attributes:
        ratio: The share of each group's first size to remove; sizes are rounded up to what costs
            no more.
        groups: Names of the groups to prune; empty means every one that can be.
        importance: What decides which channels go. `reconstruction` needs calibration rows.
        round_to: Keep a multiple of this many channels instead of asking for prices.
        precision: The format products will run in, for prices; by default the one they have.
        compensate: Refit weights on calibration rows.
        ridge: How hard refitted weights are held back, as a share of the variance of inputs.
        normalized_width: Let widths shrink that layer normalizations run over.
    """

    name: ClassVar[str] = "prune-channels"
    numerics: ClassVar[Numerics] = Numerics.LOSSY

    ratio: float = 0.25
    groups: tuple[str, ...] = ()
    importance: Importance = Importance.RECONSTRUCTION
    round_to: int | None = None
    precision: ir.Precision | None = None
    compensate: bool = True
    ridge: float = 1e-3
    normalized_width: bool = False

    def __post_init__(self) -> None:
        if not 0.0 <= self.ratio < 1.0:
            raise UsageError(f"ratio={self.ratio} must be at least 0 and below 1.")
        if self.round_to is not None and self.round_to < 1:
            raise UsageError(f"round_to={self.round_to} must be 1 or more.")
        if self.ridge < 0:
            raise UsageError(f"ridge={self.ridge} must not be negative.")

    def run(self, model: ir.Model, ctx: PassContext) -> int:
        chosen = self._chosen(model, ctx)
        asked = {
            g.name: max(g.original - math.floor(g.original * self.ratio), g.least) for g in chosen
        }
        sizes = self._sizes(model, chosen, asked, ctx)
        return self.prune(model, sizes, ctx, asked)

    def prune(
        self,
        model: ir.Model,
        sizes: Mapping[str, int],
        ctx: PassContext,
        asked: Mapping[str, int] | None = None,
    ) -> int:
        """Prune groups to the sizes given, in place; return how many there were.

        Args:
            model: A ready model.
            sizes: How many channels to keep, by name of the group.
            ctx: Calibration rows and a runner, unless the options need none.
            asked: What to remember as asked for; by default the sizes.

        Raises:
            UsageError: A group is unknown, may not be pruned, or has no such size.
            PassError: Calibration rows or a runner are needed and missing.
        """
        if not sizes:
            return 0
        groups = self._named(model, sizes)
        rows, run = self._observations(model, ctx, 2 * len(groups))
        choices = [(g, self.rank(model, g, rows, run).keep(sizes[g.name])) for g in groups]
        whole = model.clone()
        kept = remove(model, choices)
        for group in groups:
            remember(model, group, (asked or sizes)[group.name])
            for node in model.graph:
                if node.name in group.makers:
                    ir.add_origin(node, [], self.name)
        if self.compensate and run is not None:
            refit = Refit(model, whole, kept, rows, run, self.ridge)
            refit.all_affected()
            for reason in refit.skipped.values():
                ctx.skipped[self.name, f"a product was not refitted: {reason}"] += 1
        return len(groups)

    def rank(self, model: ir.Model, group: Group, rows: Arrays, run: Runner | None) -> Elimination:
        """Put the channels of a group in the order in which they go."""
        if self.importance is Importance.MAGNITUDE or run is None:
            return by_magnitude(model, group)
        return by_reconstruction(model, group, rows, run)

    def why_not(self, model: ir.Model, group: Group) -> str | None:
        """Say why a group cannot be pruned as the options ask; None where it can."""
        if group.reason is not None or self.importance is Importance.MAGNITUDE:
            return group.reason
        return why_unranked(model, group)

    def _chosen(self, model: ir.Model, ctx: PassContext) -> list[Group]:
        """The groups to prune that were not pruned as far already; others are skipped."""
        found = {g.name: g for g in prune_groups(model, normalized_width=self.normalized_width)}
        if unknown := [name for name in self.groups if name not in found]:
            raise UsageError(unknown_groups(unknown, found))
        chosen = []
        for group in (found[name] for name in self.groups or found):
            if reason := self.why_not(model, group):
                ctx.skipped[self.name, reason] += 1
            else:
                chosen.append(group)
        return chosen

    def _sizes(
        self, model: ir.Model, groups: Sequence[Group], asked: Mapping[str, int], ctx: PassContext
    ) -> dict[str, int]:
        """How many channels each group keeps; groups that keep all are left out."""
        open_ = [g for g in groups if asked[g.name] < min(g.asked, g.size)]
        if self.round_to is not None:
            step = self.round_to
            rounded = {g.name: -(-asked[g.name] // step) * step for g in open_}
            return {g.name: rounded[g.name] for g in open_ if rounded[g.name] < g.size}
        pricer = SizePricer.of(model, open_, ctx, self.precision)
        sizes = pricer.round_up({g.name: asked[g.name] for g in open_})
        for group in open_:
            if group.name not in sizes:
                ctx.skipped[self.name, NO_CHEAPER] += 1
        return sizes

    def _named(self, model: ir.Model, sizes: Mapping[str, int]) -> list[Group]:
        found = {g.name: g for g in prune_groups(model, normalized_width=self.normalized_width)}
        if unknown := [name for name in sizes if name not in found]:
            raise UsageError(unknown_groups(unknown, found))
        return [group for name, group in found.items() if name in sizes]

    def _observations(
        self, model: ir.Model, ctx: PassContext, runs: int
    ) -> tuple[Arrays, Runner | None]:
        """Rows to observe the model on, and what runs it; nothing where no option needs them.

        Raises:
            PassError: They are needed and missing.
        """
        if self.importance is Importance.MAGNITUDE and not self.compensate:
            return {}, None
        if not ctx.calibration or ctx.run is None:
            raise PassError(
                f"Pass {self.name!r} needs calibration rows to see which channels are missed. "
                "Give some with --calib rows.npz, or look at weights alone with "
                f"{self.name}{{importance=magnitude,compensate=false}}."
            )
        for name, array in ctx.calibration.items():
            check_finite(name, array, "calibration")
        return sample(model, ctx.calibration, runs), ctx.run
