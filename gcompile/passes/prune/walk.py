"""Run a model on rows from its inputs to its outputs, stopping at values on the way.

What was computed is kept where something after it needs it, so that stops at every layer cost one
run of the model in all, even when weights after the last stop change meanwhile.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from gcompile import ir
from gcompile.passes.base import Arrays, Runner
from gcompile.passes.precision.run_rows import run_rows


@dataclass
class Walk:
    """Rows on their way through a model.

    Attributes:
        model: A ready model; nodes before the last stop must not change.
        rows: Rows for every input.
        run: Runs a model on rows.
    """

    model: ir.Model
    rows: Arrays
    run: Runner
    _known: dict[str, ir.Array] = field(default_factory=dict)
    _done: set[ir.Node] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._known = dict(self.rows)

    def peek(self, names: Sequence[str]) -> dict[str, ir.Array]:
        """Compute values of the main graph for all rows, joined along axis 0."""
        missing = [name for name in names if name not in self._known]
        found = self._compute(missing) if missing else {}
        return {name: found[name] if name in found else self._known[name] for name in names}

    def go(self, names: Sequence[str], later: Collection[str]) -> dict[str, ir.Array]:
        """Compute values, and stop there: keep what the values that are asked for later need.

        Stops need not be in the order of the nodes: what lies before this one is computed with it.

        Args:
            names: Values to compute.
            later: Every value that will still be asked for.
        """
        done = self._done | self._before(names)
        needed = self._before(later)
        kept = self._front(done, needed)
        while any(not _is_cut(value) for value in kept):
            done -= {v.producer() for v in kept if not _is_cut(v) and v.producer()}
            kept = self._front(done, needed)
        passed = {str(v.name) for node in done for v in node.outputs} | {*self._known, *names}
        front = {str(value.name) for value in kept} | {name for name in later if name in passed}
        found = self.peek([*names, *sorted(front - set(names))])
        self._known = {name: array for name, array in found.items() if name in front}
        self._known.update({n: a for n, a in self.rows.items() if not a.ndim})
        self._done = done
        return {name: found[name] for name in names}

    def _compute(self, names: Sequence[str]) -> dict[str, ir.Array]:
        piece = ir.extract(self.model, list(self._known), names)
        given = {str(v.name): self._known[str(v.name)] for v in piece.graph.inputs}
        return run_rows(piece, given, self.run, self.model)

    def _before(self, names: Collection[str]) -> set[ir.Node]:
        """The nodes that the values are computed by."""
        wanted = set(names)
        before: set[ir.Node] = set()
        for node in reversed(list(self.model.graph)):
            if not wanted.isdisjoint(str(v.name) for v in node.outputs):
                before.add(node)
                wanted.update(str(v.name) for v in ir.read_by(node))
        return before

    def _front(self, done: set[ir.Node], needed: set[ir.Node]) -> list[ir.Value]:
        """What nodes to come read of what lies behind."""
        return [v for v in ir.border_of(needed - done) if v.producer() in done or _is_input(v)]


def _is_input(value: ir.Value) -> bool:
    return value.is_graph_input()


def _is_cut(value: ir.Value) -> bool:
    """Whether rows of the value can be joined along axis 0 and taken apart again."""
    shape = value.shape
    return _is_input(value) or (shape is not None and len(shape) > 0 and shape.is_static())
