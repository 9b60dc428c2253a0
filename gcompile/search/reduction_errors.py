"""What pruning one part moves the outputs by, and from that the options of every part.

The middle size of each group, a window of each kernel and the loss of each block are measured on
calibration rows, what is left being refitted; the error of other sizes of the same group follows
from what its readers miss.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from gcompile import ir
from gcompile.passes import Arrays
from gcompile.passes.precision.output_error import normalised_error
from gcompile.passes.precision.run_rows import RowRunner, batches, run_rows
from gcompile.passes.prune.kernels import first_taps
from gcompile.passes.prune.products import products
from gcompile.runtime.threads import available_cpus
from gcompile.search.budget_solver import Option
from gcompile.search.choice import Removal, block_part, group_part, kernel_part
from gcompile.search.journal import Journal
from gcompile.search.prunable import Prunable
from gcompile.search.sensitivity import Progress

_HOPELESS = 0.25
"""More noise than this share of the signal is no option."""

_OPERATIONS = 2e12
_RUNS_OF_A_REFIT = 4
_LEAST_ROWS, _MOST_ROWS = 16, 64


@dataclass(frozen=True)
class ReductionErrors:
    """Measures reduced copies of one model.

    Attributes:
        tell: Told what is going on and the fraction that is done.
        journal: What is known already, for this model and these rows.
    """

    prunable: Prunable
    tell: Progress
    journal: Journal

    def options(
        self, sizes: Mapping[str, Sequence[int]], blocks: Sequence[str]
    ) -> dict[str, list[Option]]:
        """The options of groups, kernels and blocks, by part; the first keeps all of it.

        Args:
            sizes: How many channels a group may keep, by its name, most first.
            blocks: The names of blocks.
        """
        trials = {
            group_part(name): Removal(sizes={name: found[len(found) // 2]})
            for name, found in sizes.items()
            if found
        }
        trials |= {
            kernel_part(name): Removal(taps={name: found[len(found) // 2][0].taps})
            for name, found in self.prunable.windows.items()
            if found
        }
        trials |= {block_part(name): Removal(blocks=(name,)) for name in blocks}
        space = {}
        for (part, removal), measured in zip(trials.items(), self._errors(trials), strict=True):
            options = [Option(1, 0.0, 0.0), Option(0, 0.0, measured)]
            for name, size in removal.sizes.items():
                options = self._sized(name, sizes[name], size, measured)
            for name, taps in removal.taps.items():
                options = self._shrunk(name, taps, measured)
            space[part] = [options[0], *(o for o in options[1:] if o.sensitivity < _HOPELESS)]
        return space

    def _errors(self, trials: Mapping[str, Removal]) -> Iterator[float]:
        """The error of each trial, in order; as many at once as there are CPUs."""
        model, run = self.prunable.model, self.prunable.run
        removals = list(trials.values())
        names = [f"error with {removal}" for removal in removals]
        seen, fresh = self._few(len(trials))
        expected = run_rows(model, fresh, run)

        def error(removal: Removal) -> float:
            copy = model.clone()
            self.prunable.reduce(copy, removal, seen, run)
            return normalised_error(expected, run_rows(copy, fresh, run))

        threads = len(available_cpus()) if isinstance(run, RowRunner) else 1
        with ThreadPoolExecutor(threads) as pool:
            for start in range(0, len(trials), threads):  # All of those begun end before a stop.
                self.tell("measuring what pruning costs", start / len(trials))
                piece = range(start, min(start + threads, len(trials)))
                missing = [index for index in piece if names[index] not in self.journal.known]
                found = pool.map(error, (removals[index] for index in missing))
                for index, measured in zip(missing, found, strict=True):
                    self.journal.put(names[index], measured)
        yield from (self.journal.known[name] for name in names)

    def _sized(self, name: str, sizes: Sequence[int], measured: int, error: float) -> list[Option]:
        """The options of a group; errors grow as those of its readers do."""
        whole, missed = self.prunable.groups[name].size, self.prunable.orders[name].errors
        scale = error / max(float(missed[whole - measured - 1]), 1e-12)
        return [
            Option(whole, 0.0, 0.0),
            *(Option(k, 0.0, scale * float(missed[whole - k - 1])) for k in sizes),
        ]

    def _shrunk(self, name: str, measured: int, error: float) -> list[Option]:
        """The options of a kernel; errors grow as what its product misses does."""
        found = [alike[0] for alike in self.prunable.windows[name]]
        missed = {window.taps: window.error for window in found}
        scale = error / max(missed[measured], 1e-12)
        first = max(first_taps(p) for p in products(self.prunable.model) if p.name == name)
        return [
            Option(first, 0.0, 0.0),
            *(Option(window.taps, 0.0, scale * window.error) for window in found),
        ]

    def _few(self, trials: int) -> tuple[Arrays, Arrays]:
        """Rows to refit on, and others to measure errors on, where there are enough."""
        model = self.prunable.model
        operations = sum(ir.work_of(r).product_ops for r in ir.regions(model.graph))
        rows = int(_OPERATIONS / max(operations * max(trials, 1) * _RUNS_OF_A_REFIT, 1))
        pieces = batches(self.prunable.rows, model, min(max(rows, _LEAST_ROWS), _MOST_ROWS))
        seen = next(pieces)
        return seen, next(pieces, seen)
