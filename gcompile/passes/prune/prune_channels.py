"""Remove the channels, filters, neurons and attention heads that outputs miss least.

Groups of coupled channels are found on the graph, see `groups`; in each the channels go whose
absence the products after them can make up for best; what is left is refitted, layer after layer,
to compute what the whole model did. No training; gradients only for `importance=taylor`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from gcompile import ir
from gcompile.errors import UsageError
from gcompile.passes.base import Arrays, Numerics, Pass, PassContext, Runner
from gcompile.passes.prune.allocate import allocate
from gcompile.passes.prune.eliminate import Elimination
from gcompile.passes.prune.groups import Group, prune_groups, remember, unknown_groups
from gcompile.passes.prune.importance import (
    Importance,
    by_magnitude,
    by_reconstruction,
    why_unranked,
)
from gcompile.passes.prune.reduce import observations, reduce
from gcompile.passes.prune.sizes import SizePricer
from gcompile.passes.prune.taylor import by_taylor

_SAVED = "gcompile.saved_by_pruning"

DEARER = "elsewhere a joule is saved at less error"
NO_CHEAPER = "fewer of its channels cost no less on this target"


@dataclass(frozen=True)
class PruneChannels(Pass):
    """Remove a share of the channels of every group, and refit what reads them.

    Attributes:
        ratio: The share of each group's first size to remove; sizes are rounded up to what costs
            no more.
        saving: The share of the model's energy to save instead of a share of channels: they go
            where what reads them misses least per joule.
        groups: Names of the groups to prune; empty means every one that can be.
        importance: What decides which channels go. `reconstruction` needs calibration rows,
            `taylor` gradients too: these need PyTorch, and use labels where rows have some.
        round_to: Keep a multiple of this many channels instead of asking for prices.
        precision: The format products will run in, for prices; by default the one they have.
        compensate: Refit weights on calibration rows.
        ridge: How hard refitted weights are held back, as a share of the variance of inputs; by
            default what suits a quarter of the rows best that the fit did not see.
        normalized_width: Let widths shrink that layer normalizations run over.
    """

    name: ClassVar[str] = "prune-channels"
    numerics: ClassVar[Numerics] = Numerics.LOSSY

    ratio: float = 0.25
    saving: float | None = None
    groups: tuple[str, ...] = ()
    importance: Importance = Importance.RECONSTRUCTION
    round_to: int | None = None
    precision: ir.Precision | None = None
    compensate: bool = True
    ridge: float | None = None
    normalized_width: bool = False

    def __post_init__(self) -> None:
        if not 0.0 <= self.ratio < 1.0:
            raise UsageError(f"ratio={self.ratio} must be at least 0 and below 1.")
        if self.saving is not None and not 0.0 <= self.saving < 1.0:
            raise UsageError(f"saving={self.saving} must be at least 0 and below 1.")
        if self.round_to is not None and self.round_to < 1:
            raise UsageError(f"round_to={self.round_to} must be 1 or more.")
        if self.ridge is not None and self.ridge < 0:
            raise UsageError(f"ridge={self.ridge} must not be negative.")

    def run(self, model: ir.Model, ctx: PassContext) -> int:
        chosen = self._chosen(model, ctx)
        if self.saving is not None:
            return self._save(model, chosen, self.saving, ctx)
        asked = {
            g.name: max(g.original - math.floor(g.original * self.ratio), g.least) for g in chosen
        }
        sizes = self._sizes(model, chosen, asked, ctx)
        return self.prune(model, sizes, ctx, asked)

    def _save(
        self, model: ir.Model, chosen: Sequence[Group], saving: float, ctx: PassContext
    ) -> int:
        """Save a share of the energy that the model took before it was pruned at all."""
        done = float(model.graph.metadata_props.get(_SAVED, 0.0))
        if not chosen or saving <= done:
            return 0
        rows, run = self._observations(model, ctx)
        pricer = SizePricer.of(model, chosen, ctx, self.precision)
        limit_j = pricer.energy_j({}) * (1 - saving) / (1 - done)
        sizes = allocate(pricer, self._rank(model, chosen, rows, run, ctx), limit_j)
        for group in chosen:
            if group.name not in sizes:
                ctx.skipped[self.name, DEARER] += 1
        changed = self.prune(model, sizes, ctx)
        model.graph.metadata_props[_SAVED] = repr(saving)
        return changed

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
        rows, run = self._observations(model, ctx)
        ranked = self._rank(model, groups, rows, run, ctx)
        choices = [(g, ranked[g.name].keep(sizes[g.name])) for g in groups]
        fitted = reduce(model, choices, (), rows, run if self.compensate else None, self.ridge)
        for reason in fitted.values():
            ctx.skipped[self.name, f"a product was not refitted: {reason}"] += 1
        for group in groups:
            remember(model, group, (asked or sizes)[group.name])
            for node in model.graph:
                if node.name in group.makers:
                    ir.add_origin(node, [], self.name)
        return len(groups)

    def _rank(
        self,
        model: ir.Model,
        groups: Sequence[Group],
        rows: Arrays,
        run: Runner | None,
        ctx: PassContext,
    ) -> dict[str, Elimination]:
        """The order in which the channels of each group go."""
        if self.importance is Importance.TAYLOR:
            return by_taylor(model, groups, ctx)
        if self.importance is Importance.MAGNITUDE or run is None:
            return {group.name: by_magnitude(model, group) for group in groups}
        return by_reconstruction(model, groups, rows, run)

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

    def _observations(self, model: ir.Model, ctx: PassContext) -> tuple[Arrays, Runner | None]:
        """Rows to observe the model on, and what runs it; nothing where no option needs them."""
        if self.importance is Importance.MAGNITUDE and not self.compensate:
            return {}, None
        weights_alone = f"{self.name}{{importance=magnitude,compensate=false}}"
        return observations(model, ctx, self.name, weights_alone)
