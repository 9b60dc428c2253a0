"""What a search may prune: which channels and blocks, at which error, saving how much.

Errors are measured one part at a time on calibration rows, what is left being refitted; that of
other sizes of the same group follows from what its readers miss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import product

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
from gcompile.passes.prune.observe import sample
from gcompile.passes.prune.reduce import reduce
from gcompile.passes.prune.remove import kept_indices, resize
from gcompile.passes.prune.sizes import SizePricer
from gcompile.runtime.threads import available_cpus
from gcompile.search.budget_solver import Option
from gcompile.search.choice import (
    Choice,
    Setting,
    block_part,
    group_part,
    removed_blocks,
    sizes_of,
)
from gcompile.search.journal import Journal
from gcompile.search.sensitivity import Progress

_KEPT = (0.75, 0.5)
"""Shares of a group's channels that are looked at; sizes are rounded up to what costs no more."""

_SAME = 1e-9
"""Shares this close to the whole change nothing."""

_MOST_WAYS = 96
"""Ways to prune around one region that are told apart; groups beyond are left out of its price,
and the price of the whole model corrects for them."""

_HOPELESS = 0.25
"""More noise than this share of the signal is no option."""

_OPERATIONS = 2e12
_RUNS_OF_A_REFIT = 4
_LEAST_ROWS, _MOST_ROWS = 16, 64

Parts = tuple[Mapping[str, int], Sequence[str]]
"""Sizes of groups, and blocks that go."""


@dataclass
class Reductions:
    """Reduced copies of one float model, and what is known about them.

    Attributes:
        model: The float model with its regions.
        fuse: Makes regions of a reduced copy, in place.
        groups: The groups that may be pruned, by name.
        orders: In which order their channels go.
        rows: Calibration rows to refit on.
        space: The options of groups and blocks: how many channels stay, or whether a block does.
    """

    model: ir.Model
    ctx: PassContext
    fuse: Callable[[ir.Model], object]
    groups: Mapping[str, Group]
    orders: Mapping[str, Elimination]
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
        found = cls(model, ctx, fuse, {g.name: g for g in able}, orders, rows, ctx.run)
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
        return {
            name: each
            for name, each in choice.items()
            if isinstance(each, int) and self.whole.get(name, each) != each
        }

    def reduced(self, choice: Choice, *, is_draft: bool = False) -> ir.Model:
        """A copy that is pruned as the choice says, with regions; a draft is not refitted."""
        pruned = self.pruned(choice)
        key = tuple(sorted(pruned.items()))
        if key in self._made and not is_draft:
            return self._made[key].clone()
        copy = self.model.clone()
        if pruned:
            run = None if is_draft else self.run
            self._reduce(copy, (sizes_of(pruned), removed_blocks(pruned)), self.rows, run)
            self.fuse(copy)
        if not is_draft:
            self._made[key] = copy.clone()
        return copy

    def combined(self, space: Mapping[str, Sequence[Option]]) -> dict[str, list[Option]]:
        """The options of regions for every way the groups and blocks around them may be pruned.

        Shares that two groups leave of a region are multiplied. A region that a block takes along
        costs nothing in any precision, and makes no error.

        Args:
            space: The options of every region where nothing is pruned.
        """
        precisions = sorted({p for options in space.values() for p in _precisions(options)})
        shares = {precision: self._shares(precision) for precision in precisions}
        found = {
            name: _combine(name, options, self.space, shares) for name, options in space.items()
        }
        return found | self.space

    def _shares(self, precision: ir.Precision) -> dict[tuple[str, Setting], dict[str, float]]:
        """What each option leaves of the energy of each region it touches, in one precision."""
        whole = self._priced(({}, ()), precision).per_region
        found = {}
        for part, setting in self._options():
            sizes, blocks = sizes_of({part: setting}), removed_blocks({part: setting})
            less = self._priced((sizes, blocks), precision).per_region
            touched = set(whole) - set(less)
            for name in sizes:
                touched |= self._readers_and_makers(self.groups[name])
            shares = {
                name: less[name].energy_j / max(whole[name].energy_j, 1e-300)
                if name in less
                else 0.0
                for name in touched & set(whole)
            }
            found[part, setting] = {n: s for n, s in shares.items() if abs(s - 1) > _SAME}
        return found

    def _readers_and_makers(self, group: Group) -> set[str]:
        """The regions that the channels of a group lie in."""
        values = {member.value for member in group.members}
        return {
            region.name
            for region in ir.regions(self.model.graph)
            for node in region.nodes
            if any(v is not None and v.name in values for v in (*node.inputs, *node.outputs))
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
        """Measure the error of the middle size of each group, and of removing each block."""
        trials: list[tuple[str, Parts]] = [
            (group_part(name), ({name: found[len(found) // 2]}, ()))
            for name, found in sizes.items()
            if found
        ]
        trials += [(block_part(name), ({}, (name,))) for name in blocks]
        errors = self._errors(trials, tell, journal)
        for (part, parts), measured in zip(trials, errors, strict=True):
            options = [Option(1, 0.0, 0.0), Option(0, 0.0, measured)]
            if parts[0]:
                (name,) = parts[0]
                options = self._sized(name, sizes[name], parts[0][name], measured)
            self.space[part] = [options[0], *(o for o in options[1:] if o.sensitivity < _HOPELESS)]

    def _errors(
        self, trials: Sequence[tuple[str, Parts]], tell: Progress, journal: Journal
    ) -> Iterator[float]:
        """The error of each trial, in order; as many at once as there are CPUs."""
        names = [f"error with {part} {parts}" for part, parts in trials]
        seen, fresh = self._few(len(trials))
        expected = run_rows(self.model, fresh, self.run)

        def error(parts: Parts) -> float:
            copy = self.model.clone()
            self._reduce(copy, parts, seen, self.run)
            return normalised_error(expected, run_rows(copy, fresh, self.run))

        threads = len(available_cpus()) if isinstance(self.run, RowRunner) else 1
        with ThreadPoolExecutor(threads) as pool:
            for start in range(0, len(trials), threads):  # All of those begun end before a stop.
                tell("measuring what pruning costs", start / len(trials))
                piece = range(start, min(start + threads, len(trials)))
                missing = [index for index in piece if names[index] not in journal.known]
                found = pool.map(error, (trials[index][1] for index in missing))
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

    def _reduce(self, copy: ir.Model, parts: Parts, rows: Arrays, run: Runner | None) -> None:
        sizes, blocks = parts
        choices = [(self.groups[n], self.orders[n].keep(k)) for n, k in sizes.items()]
        reduce(copy, choices, blocks, rows, run)

    def _priced(self, parts: Parts, precision: ir.Precision) -> Estimate:
        """What a reduced model costs in one precision. Shapes decide, no weight is looked at."""
        sizes, blocks = parts
        copy = self.model.clone()
        drop(copy, blocks)
        FuseRegions().run(copy, self.ctx)
        for graph in ir.all_graphs(copy):
            for region in ir.regions(graph):
                ir.clear_tile(region)
        resize(copy, kept_indices(copy, [(self.groups[n], range(k)) for n, k in sizes.items()]))
        energy = self.ctx.energy.at(precision)
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


def _precisions(options: Sequence[Option]) -> list[ir.Precision]:
    return [o.setting for o in options if isinstance(o.setting, ir.Precision)]


def _combine(
    name: str,
    options: Sequence[Option],
    parts: Mapping[str, Sequence[Option]],
    shares: Mapping[ir.Precision, Mapping[tuple[str, Setting], Mapping[str, float]]],
) -> list[Option]:
    """The options of one region."""
    changes = {
        key: {p: found[key].get(name, 1.0) for p, found in shares.items()}
        for key in next(iter(shares.values()), {})
        if any(name in found[key] for found in shares.values())
    }
    gone = [key for key, left in changes.items() if not any(left.values())]
    settings = _most_telling(changes, parts, {part for part, _ in gone})
    there = tuple((part, parts[part][0].setting) for part, _ in gone)
    combined = []
    for option in options:
        precision = option.setting
        assert isinstance(precision, ir.Precision)
        for needs in product(*settings):
            left = (changes[key][precision] for key in needs if key in changes)
            energy_j = option.energy_j * math.prod(left)
            combined.append(replace(option, energy_j=energy_j, needs=(*needs, *there)))
    combined += [Option(options[0].setting, 0.0, 0.0, (key,)) for key in gone]
    return combined


def _most_telling(
    changes: Mapping[tuple[str, Setting], Mapping[ir.Precision, float]],
    parts: Mapping[str, Sequence[Option]],
    gone: Collection[str],
) -> list[list[tuple[str, Setting]]]:
    """The settings of those parts around a region that change it most, a bounded number."""
    most: dict[str, float] = {}
    for (part, _), left in changes.items():
        if part not in gone:
            most[part] = max(most.get(part, 0.0), 1 - min(left.values()))
    found: list[list[tuple[str, Setting]]] = []
    ways = 1
    for part in sorted(most, key=lambda name: (-most[name], name)):
        ways *= len(parts[part])
        if ways > _MOST_WAYS:
            break
        found.append([(part, option.setting) for option in parts[part]])
    return found
