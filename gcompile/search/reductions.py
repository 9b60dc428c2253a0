"""What a search may prune: which channels, kernels and blocks, at which error, saving how much."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from gcompile import ir
from gcompile.passes import Arrays, PassContext
from gcompile.passes.prune.branches import branches
from gcompile.passes.prune.groups import Group
from gcompile.passes.prune.sizes import SizePricer
from gcompile.search.budget_solver import Option
from gcompile.search.choice import Choice, Removal, Setting, window_part
from gcompile.search.combine import combine, precisions_in
from gcompile.search.journal import Journal
from gcompile.search.prunable import Prunable
from gcompile.search.reduction_errors import ReductionErrors
from gcompile.search.reduction_prices import ReductionPrices
from gcompile.search.sensitivity import Progress

_KEPT = (0.75, 0.5)
"""Shares of a group's channels that are looked at; sizes are rounded up to what costs no more."""

_ALIKE = 1.5
"""Windows that lose so many times what the best of as many taps does may turn out better."""


@dataclass
class Reductions:
    """Reduced copies of one float model, and what is known about them.

    Attributes:
        prunable: The float model, and what of it may go.
        ctx: Prices reduced copies.
        fuse: Makes regions of a reduced copy, in place.
        space: The options of groups, kernels and blocks: how many channels or taps stay, or
            whether a block does.
    """

    prunable: Prunable
    ctx: PassContext
    fuse: Callable[[ir.Model], object]
    space: Mapping[str, list[Option]]
    _made: dict[tuple[tuple[str, int], ...], ir.Model] = field(default_factory=dict)

    @classmethod
    def find(
        cls,
        model: ir.Model,
        ctx: PassContext,
        precision: ir.Precision,
        fuse: Callable[[ir.Model], object],
        tell: Progress,
        journal: Journal,
    ) -> Reductions | None:
        """Find what can be pruned and measure its errors; None without rows or a runner.

        Args:
            model: The float model with its regions; not changed.
            ctx: Calibration rows and a runner.
            precision: The format in which sizes are priced that cost no more.
            fuse: See the class.
            tell: Told what is going on and the fraction that is done.
            journal: What is known already, for this model and these rows.
        """
        prunable = Prunable.find(model, ctx, tell)
        if prunable is None:
            return None
        groups = list(prunable.groups.values())
        pricer = SizePricer.of(model, groups, ctx, precision)
        sizes = {group.name: _sizes(pricer, group) for group in groups}
        errors = ReductionErrors(prunable, tell, journal)
        space = errors.options(sizes, [branch.name for branch in branches(model)])
        return cls(prunable, ctx, fuse, space)

    @property
    def rows(self) -> Arrays:
        """The calibration rows that reduced copies are refitted on."""
        return self.prunable.rows

    @property
    def whole(self) -> dict[str, Setting]:
        """The choice that prunes nothing."""
        return {name: options[0].setting for name, options in self.space.items()}

    def pruned(self, choice: Choice) -> dict[str, int]:
        """The settings of the choice that prune something."""
        whole = self.whole | {window_part(name): 0 for name in self.prunable.windows}
        return {
            name: each
            for name, each in choice.items()
            if isinstance(each, int) and whole.get(name, each) != each
        }

    def count(self, choice: Choice) -> int:
        """How many groups, kernels and blocks the choice prunes."""
        return Removal.of(self.pruned(choice)).count

    def moved(self, choice: Choice) -> Iterator[Choice]:
        """Yield choices that differ in one window: as many taps of one kernel, at other places."""
        removal = Removal.of(self.pruned(choice))
        for name, taps in removal.taps.items():
            alike = self.prunable.alike(name, taps)
            for place, window in enumerate(alike):
                is_other = place != removal.windows.get(name, 0)
                if is_other and window.error <= _ALIKE * alike[0].error:
                    yield {**choice, window_part(name): place}

    def reduced(self, choice: Choice, *, is_draft: bool = False) -> ir.Model:
        """A copy that is pruned as the choice says, with regions; a draft is not refitted."""
        pruned = self.pruned(choice)
        key = tuple(sorted(pruned.items()))
        if key in self._made and not is_draft:
            return self._made[key].clone()
        copy = self.prunable.model.clone()
        if pruned:
            run = None if is_draft else self.prunable.run
            self.prunable.reduce(copy, Removal.of(pruned), self.rows, run)
            self.fuse(copy)
        if not is_draft:
            self._made[key] = copy.clone()
        return copy

    def combined(self, space: Mapping[str, Sequence[Option]]) -> dict[str, list[Option]]:
        """The options of regions for every way that what is around them may be pruned.

        Args:
            space: The options of every region where nothing is pruned.
        """
        precisions = sorted({p for options in space.values() for p in precisions_in(options)})
        prices = ReductionPrices(self.prunable, self.ctx)
        shares = {each: prices.shares(self.space, each) for each in precisions}
        found = {
            name: combine(name, options, self.space, shares) for name, options in space.items()
        }
        return {**found, **self.space}


def _sizes(pricer: SizePricer, group: Group) -> list[int]:
    """Sizes that save something, in falling order."""
    asked = [max(int(group.size * share), group.least) for share in _KEPT]
    found = [pricer.round_up({group.name: k}).get(group.name, group.size) for k in asked]
    return sorted({k for k in found if k < group.size}, reverse=True)
