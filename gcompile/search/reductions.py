"""What a search may prune: which channels and blocks, at which error, saving how much.

Errors are measured one part at a time on calibration rows, what is left being refitted; that of
other sizes of the same group follows from what its readers miss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from gcompile import ir
from gcompile.energy import Estimate, estimate
from gcompile.passes import Arrays, PassContext, Runner
from gcompile.passes.fuse.fuse_regions import FuseRegions
from gcompile.passes.precision.output_error import normalised_error
from gcompile.passes.precision.run_rows import RowRunner, batches, run_rows
from gcompile.passes.prune.branches import branches, drop
from gcompile.passes.prune.eliminate import Elimination
from gcompile.passes.prune.groups import Group, prune_groups
from gcompile.passes.prune.importance import by_reconstruction, why_unranked
from gcompile.passes.prune.kernels import (
    Window,
    first_taps,
    ranked_windows,
    shrink,
    shrinkable,
)
from gcompile.passes.prune.observe import sample
from gcompile.passes.prune.products import products
from gcompile.passes.prune.reduce import reduce
from gcompile.passes.prune.remove import kept_indices, resize
from gcompile.passes.prune.sizes import SizePricer
from gcompile.runtime.threads import available_cpus
from gcompile.search.budget_solver import Option
from gcompile.search.choice import (
    Choice,
    Removal,
    Setting,
    block_part,
    group_part,
    kernel_part,
    window_part,
)
from gcompile.search.combine import combine, precisions_in
from gcompile.search.journal import Journal
from gcompile.search.sensitivity import Progress

_KEPT = (0.75, 0.5)
"""Shares of a group's channels that are looked at; sizes are rounded up to what costs no more."""

_KEPT_TAPS = (0.67, 0.34)
"""Shares of a kernel's taps: 3 by 2, and 3 by 1, of 3 by 3."""

_ALIKE = 1.5
"""Windows that lose so many times what the best of as many taps does may turn out better."""

_SAME = 1e-9
"""Shares this close to the whole change nothing."""

_HOPELESS = 0.25
"""More noise than this share of the signal is no option."""

_OPERATIONS = 2e12
_RUNS_OF_A_REFIT = 4
_LEAST_ROWS, _MOST_ROWS = 16, 64


@dataclass
class Reductions:
    """Reduced copies of one float model, and what is known about them.

    Attributes:
        model: The float model with its regions.
        fuse: Makes regions of a reduced copy, in place.
        groups: The groups that may be pruned, by name.
        orders: In which order their channels go.
        windows: What kernels may keep, by the name of their product: the windows of each number of
            taps, most taps first, those that lose least first.
        rows: Calibration rows to refit on.
        space: The options of groups, kernels and blocks: how many channels or taps stay, or
            whether a block does.
    """

    model: ir.Model
    ctx: PassContext
    fuse: Callable[[ir.Model], object]
    groups: Mapping[str, Group]
    orders: Mapping[str, Elimination]
    windows: Mapping[str, Sequence[Sequence[Window]]]
    rows: Arrays
    run: Runner
    space: dict[str, list[Option]] = field(default_factory=dict)
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
        if not ctx.calibration or ctx.run is None:
            return None
        rows = sample(model, ctx.calibration)
        able = [g for g in prune_groups(model) if not (g.reason or why_unranked(model, g))]
        tell("ranking channels", 0.0)
        orders = by_reconstruction(model, able, rows, ctx.run)
        tell("ranking taps of kernels", 0.0)
        windows = ranked_windows(model, shrinkable(model), _KEPT_TAPS, rows, ctx.run)
        groups = {group.name: group for group in able}
        found = cls(model, ctx, fuse, groups, orders, windows, rows, ctx.run)
        pricer = SizePricer.of(model, able, ctx, precision)
        sizes = {group.name: _sizes(pricer, group) for group in able}
        found._measure(sizes, [branch.name for branch in branches(model)], tell, journal)
        return found

    @property
    def whole(self) -> dict[str, Setting]:
        """The choice that prunes nothing."""
        return {name: options[0].setting for name, options in self.space.items()}

    def pruned(self, choice: Choice) -> dict[str, int]:
        """The settings of the choice that prune something."""
        whole = self.whole | {window_part(name): 0 for name in self.windows}
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
            alike = self._alike(name, taps)
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
        copy = self.model.clone()
        if pruned:
            run = None if is_draft else self.run
            self._reduce(copy, Removal.of(pruned), self.rows, run)
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
        shares = {precision: self._shares(precision) for precision in precisions}
        found = {
            name: combine(name, options, self.space, shares) for name, options in space.items()
        }
        return found | self.space

    def _shares(self, precision: ir.Precision) -> dict[tuple[str, Setting], dict[str, float]]:
        """What each option leaves of the energy of each region it touches, in one precision."""
        whole = self._priced(Removal(), precision).per_region
        found = {}
        for part, setting in self._options():
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
        values = {member.value for n in removal.sizes for member in self.groups[n].members}
        return {
            region.name
            for region in ir.regions(self.model.graph)
            for node in region.nodes
            if node.name in removal.taps
            or any(v is not None and v.name in values for v in (*node.inputs, *node.outputs))
        }

    def _options(self) -> Iterator[tuple[str, Setting]]:
        for part, options in self.space.items():
            yield from ((part, option.setting) for option in options[1:])

    def _measure(
        self,
        sizes: Mapping[str, Sequence[int]],
        blocks: Sequence[str],
        tell: Progress,
        journal: Journal,
    ) -> None:
        """Measure the error of the middle size of each group, of a window, and of each block."""
        trials = {
            group_part(name): Removal(sizes={name: found[len(found) // 2]})
            for name, found in sizes.items()
            if found
        }
        trials |= {
            kernel_part(name): Removal(taps={name: found[len(found) // 2][0].taps})
            for name, found in self.windows.items()
            if found
        }
        trials |= {block_part(name): Removal(blocks=(name,)) for name in blocks}
        errors = self._errors(trials, tell, journal)
        for (part, removal), measured in zip(trials.items(), errors, strict=True):
            options = [Option(1, 0.0, 0.0), Option(0, 0.0, measured)]
            for name, size in removal.sizes.items():
                options = self._sized(name, sizes[name], size, measured)
            for name, taps in removal.taps.items():
                options = self._shrunk(name, taps, measured)
            self.space[part] = [options[0], *(o for o in options[1:] if o.sensitivity < _HOPELESS)]

    def _errors(
        self, trials: Mapping[str, Removal], tell: Progress, journal: Journal
    ) -> Iterator[float]:
        """The error of each trial, in order; as many at once as there are CPUs."""
        removals = list(trials.values())
        names = [f"error with {removal}" for removal in removals]
        seen, fresh = self._few(len(trials))
        expected = run_rows(self.model, fresh, self.run)

        def error(removal: Removal) -> float:
            copy = self.model.clone()
            self._reduce(copy, removal, seen, self.run)
            return normalised_error(expected, run_rows(copy, fresh, self.run))

        threads = len(available_cpus()) if isinstance(self.run, RowRunner) else 1
        with ThreadPoolExecutor(threads) as pool:
            for start in range(0, len(trials), threads):  # All of those begun end before a stop.
                tell("measuring what pruning costs", start / len(trials))
                piece = range(start, min(start + threads, len(trials)))
                missing = [index for index in piece if names[index] not in journal.known]
                found = pool.map(error, (removals[index] for index in missing))
                for index, measured in zip(missing, found, strict=True):
                    journal.put(names[index], measured)
        yield from (journal.known[name] for name in names)

    def _sized(self, name: str, sizes: Sequence[int], measured: int, error: float) -> list[Option]:
        """The options of a group; errors grow as those of its readers do."""
        whole, missed = self.groups[name].size, self.orders[name].errors
        scale = error / max(float(missed[whole - measured - 1]), 1e-12)
        return [
            Option(whole, 0.0, 0.0),
            *(Option(k, 0.0, scale * float(missed[whole - k - 1])) for k in sizes),
        ]

    def _shrunk(self, name: str, measured: int, error: float) -> list[Option]:
        """The options of a kernel; errors grow as what its product misses does."""
        found = [alike[0] for alike in self.windows[name]]
        missed = {window.taps: window.error for window in found}
        scale = error / max(missed[measured], 1e-12)
        first = max(first_taps(p) for p in products(self.model) if p.name == name)
        return [
            Option(first, 0.0, 0.0),
            *(Option(window.taps, 0.0, scale * window.error) for window in found),
        ]

    def _reduce(self, copy: ir.Model, removal: Removal, rows: Arrays, run: Runner | None) -> None:
        choices = [(self.groups[n], self.orders[n].keep(k)) for n, k in removal.sizes.items()]
        reduce(copy, choices, removal.blocks, rows, run, windows=self._windows(removal))

    def _windows(self, removal: Removal) -> dict[str, Window]:
        return {
            name: self._alike(name, taps)[removal.windows.get(name, 0)]
            for name, taps in removal.taps.items()
        }

    def _alike(self, name: str, taps: int) -> Sequence[Window]:
        """All windows of a kernel with so many taps."""
        return next(alike for alike in self.windows[name] if alike[0].taps == taps)

    def _priced(self, removal: Removal, precision: ir.Precision) -> Estimate:
        """What a reduced model costs in one precision. Shapes decide, no weight is looked at."""
        copy = self.model.clone()
        drop(copy, removal.blocks)
        shrink(copy, self._windows(removal))
        FuseRegions().run(copy, self.ctx)
        for graph in ir.all_graphs(copy):
            for region in ir.regions(graph):
                ir.clear_tile(region)
        sizes = [(self.groups[n], range(k)) for n, k in removal.sizes.items()]
        resize(copy, kept_indices(copy, sizes))
        energy = self.ctx.energy.at(precision).filtered()
        return estimate(copy, self.ctx.target, energy, self.ctx.threads)

    def _few(self, trials: int) -> tuple[Arrays, Arrays]:
        """Rows to refit on, and others to measure errors on, where there are enough."""
        operations = sum(ir.work_of(r).product_ops for r in ir.regions(self.model.graph))
        rows = int(_OPERATIONS / max(operations * max(trials, 1) * _RUNS_OF_A_REFIT, 1))
        pieces = batches(self.rows, self.model, min(max(rows, _LEAST_ROWS), _MOST_ROWS))
        seen = next(pieces)
        return seen, next(pieces, seen)


def _sizes(pricer: SizePricer, group: Group) -> list[int]:
    """Sizes that save something, in falling order."""
    asked = [max(int(group.size * share), group.least) for share in _KEPT]
    found = [pricer.round_up({group.name: k}).get(group.name, group.size) for k in asked]
    return sorted({k for k in found if k < group.size}, reverse=True)
