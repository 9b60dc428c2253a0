"""Run only what a change to one region moves, on activations that were computed once.

A region that alone is made narrow moves nothing before it, and changes nothing after it but
numbers. So the altered nodes are run on the float model's activations, one rewritten model after
the other, and what follows them, which is as it was, runs on the results of all of them at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from gcompile import ir
from gcompile.passes import Arrays, Runner
from gcompile.passes.precision.output_error import Noise
from gcompile.passes.precision.run_rows import RowRunner, batches, run_rows
from gcompile.runtime.threads import available_cpus

_KEPT_BYTES = 1 << 29
"""Activations kept at a time."""

_LARGEST_TOGETHER = 2
"""Rows are cut in pieces so small that this many of the largest activations fit: larger pieces
open each trial less often, and keep the activations of fewer trials at a time."""


@dataclass(frozen=True)
class Trial:
    """What a rewrite moves.

    Attributes:
        head: The altered nodes; its inputs are values of the float model, or the rows where the
            whole rewritten model is the head because it cannot be cut.
        front: What the nodes after them read of what the head computes.
        beside: What else those nodes read.
        outputs: The model's outputs that move.
        cut: Values of the float model that are needed: bytes per inference by name.
    """

    head: ir.Model
    front: tuple[str, ...]
    beside: tuple[str, ...]
    outputs: tuple[str, ...]
    cut: dict[str, int]

    @property
    def tail(self) -> tuple[tuple[str, ...], ...]:
        """What trials have in common whose tail is the same part of the float model."""
        return self.front, self.beside, self.outputs


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
        snapshot = ir.Snapshot.of(plain)
        pieces = _pieces(plain, rows)
        expected = tuple(run_rows(plain, piece, run, is_quick=True) for piece in pieces)
        return cls(plain, rows, run, snapshot, expected)

    def trial(self, rewritten: ir.Model) -> Trial | None:
        """Find what moves in a rewritten copy; None where no output does."""
        altered, after = self.snapshot.moved_nodes(rewritten)
        moved = {value for node in (*altered, *after) for value in node.outputs}
        outputs = tuple(str(v.name) for v in rewritten.graph.outputs if v in moved)
        if not outputs:
            return None
        computed = {value for node in altered for value in node.outputs}
        read = ir.border_of(after)
        front = {v: None for v in (*read, *rewritten.graph.outputs) if v in computed}
        beside = [value for value in read if value not in front]
        cut = ir.border_of(altered)
        known = {str(v.name) for node in self.plain.graph for v in node.outputs}
        known.update(str(v.name) for v in self.plain.graph.inputs)
        values = (*front, *beside, *cut)
        if not cut or not all(str(v.name) in known and _can_be_joined(v) for v in values):
            return Trial(rewritten, outputs, (), outputs, {})
        return Trial(
            ir.extract(rewritten, _names(cut), _names(front)),
            _names(front),
            _names(beside),
            outputs,
            {str(value.name): ir.value_bytes(value) for value in (*cut, *beside)},
        )

    def errors(
        self, trials: Sequence[Trial | None], at_once: int | None = None
    ) -> Iterator[float]:
        """Yield the normalised error of the outputs of each trial, in order.

        Trials of one region should follow each other: they share what comes after the region.
        `at_once` run at the same time, by default one on each CPU.
        """
        threads = (at_once or len(available_cpus())) if isinstance(self.run, RowRunner) else 1
        with ThreadPoolExecutor(threads) as pool:
            for group in self._groups(trials):
                noises = [Noise() for _ in group]
                pieces = _pieces(self.plain, self.rows)
                for piece, expected in zip(pieces, self.expected, strict=True):
                    kept = self._activations(group, piece)
                    tasks = [(same, piece, kept, expected) for same in _alike(group)]
                    found = [
                        outputs for many in pool.map(self._outputs, tasks) for outputs in many
                    ]
                    for noise, outputs in zip(noises, found, strict=True):
                        noise.add(expected, outputs)
                yield from (noise.ratio for noise in noises)

    def _outputs(
        self, task: tuple[Sequence[Trial | None], Arrays, Arrays, Arrays]
    ) -> list[Arrays]:
        """All outputs of trials with the same tail; the float model's where nothing moved."""
        trials, rows, kept, expected = task
        first = trials[0]
        if first is None:
            return [expected for _ in trials]
        known = {**rows, **kept}
        heads = [trial.head for trial in trials if trial is not None]
        fronts = [
            run_rows(head, {n: known[n] for n in _names(head.graph.inputs)}, self.run, self.plain)
            for head in heads
        ]
        moved = fronts
        if set(first.outputs) - set(first.front):
            moved = self._after(first, fronts, kept)
        return [{**expected, **outputs} for outputs in moved]

    def _after(
        self, trial: Trial, fronts: Sequence[Arrays], kept: Arrays
    ) -> list[dict[str, ir.Array]]:
        """What follows from each front, all run together."""
        direct = [name for name in trial.outputs if name in trial.front]
        wanted = [name for name in trial.outputs if name not in trial.front]
        tail = ir.extract(self.plain, [*trial.front, *trial.beside], wanted)
        inputs = [str(value.name) for value in tail.graph.inputs]
        joined = {
            name: np.concatenate([{**kept, **front}[name] for front in fronts]) for name in inputs
        }
        found = run_rows(tail, joined, self.run, self.plain, is_quick=True)
        parts = {name: np.split(array, len(fronts)) for name, array in found.items()}
        return [
            {name: part[index] for name, part in parts.items()}
            | {name: front[name] for name in direct}
            for index, front in enumerate(fronts)
        ]

    def _activations(self, trials: Sequence[Trial | None], rows: Arrays) -> Arrays:
        """The values at the cuts of some trials."""
        names = dict.fromkeys(name for trial in trials if trial for name in trial.cut)
        given = [str(value.name) for value in self.plain.graph.inputs]
        wanted = [name for name in names if name not in given]
        if not wanted:
            return rows
        before = ir.extract(self.plain, given, wanted)
        return {**rows, **run_rows(before, rows, self.run, self.plain, is_quick=True)}

    def _groups(self, trials: Sequence[Trial | None]) -> Iterator[list[Trial | None]]:
        """Neighbours whose cuts fit into memory together; trials with one tail stay together."""
        inferences = max(
            (_count(p, self.plain) for p in _pieces(self.plain, self.rows)), default=1
        )
        group: list[Trial | None] = []
        held: dict[str, int] = {}
        for same in _alike(trials):
            cut = {name: size for t in same if t for name, size in t.cut.items()}
            if group and sum((held | cut).values()) * inferences > _KEPT_BYTES:
                yield group
                group, held = [], {}
            group += same
            held |= cut
        if group:
            yield group


def _alike(trials: Sequence[Trial | None]) -> Iterator[list[Trial | None]]:
    """Neighbours with the same tail."""
    for _, same in groupby(trials, key=lambda trial: trial.tail if trial else None):
        yield list(same)


def _pieces(model: ir.Model, rows: Arrays) -> Iterator[Arrays]:
    """The rows, a bounded number at a time."""
    values = [v for node in model.graph for v in node.outputs if _is_static(v)]
    largest = max(map(ir.value_bytes, values), default=1)
    yield from batches(rows, model, max(_KEPT_BYTES // max(largest * _LARGEST_TOGETHER, 1), 1))


def _count(rows: Arrays, model: ir.Model) -> int:
    """How many inferences rows hold."""
    for value in model.graph.inputs:
        if shape := ir.static_shape(value):
            return len(rows[str(value.name)]) // shape[0]
    return 1


def _names(values: Sequence[ir.Value] | dict[ir.Value, None]) -> tuple[str, ...]:
    return tuple(str(value.name) for value in values)


def _is_static(value: ir.Value) -> bool:
    return value.shape is not None and value.shape.is_static()


def _can_be_joined(value: ir.Value) -> bool:
    """Say whether rows of the value can be joined along its first axis, and told apart again."""
    return _is_static(value) and math.prod(ir.static_shape(value), start=bool(value.shape)) > 0
