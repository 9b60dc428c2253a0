"""Run only what a change to one region moves, on activations that were computed once.

A region that alone is made narrow moves nothing before it. So what it moves is cut out of the
rewritten model and fed the float model's activations at the cut. Activations are kept for as many
regions at a time as memory allows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from gcompile import ir
from gcompile.passes import Arrays, Runner
from gcompile.passes.precision.output_error import Noise
from gcompile.passes.precision.run_rows import RowRunner, batches, run_rows
from gcompile.runtime.threads import available_cpus

_KEPT_BYTES = 1 << 30
"""Activations kept at a time."""

_LARGEST_TOGETHER = 2
"""Rows are cut in pieces so small that this many of the largest activations fit: larger pieces
open each trial less often, and keep the activations of fewer trials at a time."""


@dataclass(frozen=True)
class Trial:
    """A rewritten model of which only what moves is run.

    Attributes:
        model: What moves; its inputs are values of the float model.
        cut: What it is given: bytes per inference by the name of the value. Empty where it is the
            whole rewritten model, because no cut can be made.
    """

    model: ir.Model
    cut: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Downstream:
    """A float model and rows to compare rewritten copies of it on."""

    plain: ir.Model
    rows: Arrays
    run: Runner
    snapshot: ir.Snapshot
    expected: tuple[Arrays, ...]

    @classmethod
    def of(cls, plain: ir.Model, rows: Arrays, run: Runner) -> Downstream:
        """Run the float model on all rows."""
        found = cls(plain, rows, run, ir.Snapshot.of(plain), ())
        return cls(
            plain,
            rows,
            run,
            found.snapshot,
            tuple(run_rows(plain, piece, run) for piece in found.pieces()),
        )

    def pieces(self) -> Iterator[Arrays]:
        """The rows, a bounded number at a time."""
        values = [v for node in self.plain.graph for v in node.outputs if _is_static(v)]
        largest = max(map(ir.value_bytes, values), default=1)
        yield from batches(
            self.rows, self.plain, max(_KEPT_BYTES // max(largest * _LARGEST_TOGETHER, 1), 1)
        )

    def trial(self, rewritten: ir.Model) -> Trial | None:
        """Cut what moves out of a rewritten copy; None where no output moves."""
        moved = self.snapshot.moved_nodes(rewritten)
        computed = {value for node in moved for value in node.outputs}
        outputs = [str(v.name) for v in rewritten.graph.outputs if v in computed]
        if not outputs:
            return None
        cut = {str(v.name): v for v in ir.border_of(moved)}
        known = {str(v.name) for node in self.plain.graph for v in node.outputs}
        known.update(str(v.name) for v in self.plain.graph.inputs)
        if not cut or not cut.keys() <= known or not all(map(_can_be_joined, cut.values())):
            return Trial(rewritten)
        piece = ir.extract(rewritten, list(cut), outputs)
        return Trial(piece, {name: ir.value_bytes(value) for name, value in cut.items()})

    def errors(self, trials: Sequence[Trial | None]) -> Iterator[float]:
        """Yield the normalised error of the outputs of each trial, in order.

        Trials whose changes lie close to each other in the graph should follow each other: they
        share activations.
        """
        threads = len(available_cpus()) if isinstance(self.run, RowRunner) else 1
        with ThreadPoolExecutor(threads) as pool:
            for group in self._groups(trials):
                noises = [Noise() for _ in group]
                for piece, expected in zip(self.pieces(), self.expected, strict=True):
                    kept = self._activations(group, piece)
                    tasks = [(trial, piece, kept, expected) for trial in group]
                    for noise, found in zip(noises, pool.map(self._outputs, tasks), strict=True):
                        noise.add(expected, found)
                yield from (noise.ratio for noise in noises)

    def _outputs(self, task: tuple[Trial | None, Arrays, Arrays, Arrays]) -> Arrays:
        """All outputs of a trial: its own, and the float model's where nothing moved."""
        trial, rows, kept, expected = task
        if trial is None:
            return expected
        given = {name: kept[name] for name in trial.cut} or rows
        return {**expected, **run_rows(trial.model, given, self.run, self.plain)}

    def _activations(self, trials: Sequence[Trial | None], rows: Arrays) -> Arrays:
        """The values at the cuts of some trials."""
        names = dict.fromkeys(name for trial in trials if trial for name in trial.cut)
        given = [str(value.name) for value in self.plain.graph.inputs]
        wanted = [name for name in names if name not in given]
        if not wanted:
            return rows
        before = ir.extract(self.plain, given, wanted)
        return {**rows, **run_rows(before, rows, self.run, self.plain)}

    def _groups(self, trials: Sequence[Trial | None]) -> Iterator[list[Trial | None]]:
        """Neighbours whose cuts fit into memory together."""
        inferences = max(map(self._count, self.pieces()), default=1)
        group: list[Trial | None] = []
        held: dict[str, int] = {}
        for trial in trials:
            cut = trial.cut if trial else {}
            if group and sum((held | cut).values()) * inferences > _KEPT_BYTES:
                yield group
                group, held = [], {}
            group.append(trial)
            held |= cut
        if group:
            yield group

    def _count(self, rows: Arrays) -> int:
        """How many inferences rows hold."""
        for value in self.plain.graph.inputs:
            if shape := ir.static_shape(value):
                return len(rows[str(value.name)]) // shape[0]
        return 1


def _is_static(value: ir.Value) -> bool:
    return value.shape is not None and value.shape.is_static()


def _can_be_joined(value: ir.Value) -> bool:
    """Say whether rows of the value can be joined along its first axis, and told apart again."""
    return _is_static(value) and math.prod(ir.static_shape(value), start=bool(value.shape)) > 0
