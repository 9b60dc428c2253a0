"""Remove whole blocks beside residual connections: the ones that what follows can make up for.

A residual network computes y = x + f(x), block after block, and hardly minds when one of them is
gone (Veit et al., "Residual Networks Behave Like Ensembles of Relatively Shallow Networks", 2016,
arXiv 1605.06431). What made x, and what reads y, is refitted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from gcompile import ir
from gcompile.errors import UsageError
from gcompile.passes.base import Arrays, Numerics, Pass, PassContext, Runner
from gcompile.passes.precision.output_error import normalised_error
from gcompile.passes.precision.run_rows import batches, run_rows
from gcompile.passes.prune.branches import branches
from gcompile.passes.prune.reduce import observations, reduce

_REMOVED = "gcompile.removed_blocks"
_INFERENCES = 64


@dataclass(frozen=True)
class PruneBlocks(Pass):
    """Remove the blocks beside residual connections whose absence shows least in the outputs.

    Attributes:
        count: How many blocks to remove in all.
        blocks: Names of the blocks to choose from, each that of its last product; empty means all.
        ridge: How hard refitted weights are held back, as a share of the variance of inputs; by
            default what suits a quarter of the rows best that the fit did not see.
    """

    name: ClassVar[str] = "prune-blocks"
    numerics: ClassVar[Numerics] = Numerics.LOSSY

    count: int = 1
    blocks: tuple[str, ...] = ()
    ridge: float | None = None

    def __post_init__(self) -> None:
        if self.count < 0:
            raise UsageError(f"count={self.count} must not be negative.")
        if self.ridge is not None and self.ridge < 0:
            raise UsageError(f"ridge={self.ridge} must not be negative.")

    def run(self, model: ir.Model, ctx: PassContext) -> int:
        removed = json.loads(model.graph.metadata_props.get(_REMOVED, "[]"))
        known = [branch.name for branch in branches(model)]
        if unknown := set(self.blocks).difference(known, removed):
            raise UsageError(
                f"The model has no blocks called {', '.join(sorted(unknown))}. Its blocks are: "
                f"{', '.join(known) or 'none'}."
            )
        chosen = [name for name in known if not self.blocks or name in self.blocks]
        count = min(self.count - len(removed), len(chosen))
        if not known:
            ctx.skipped[self.name, "the model has no residual connections"] += 1
        if count <= 0:
            return 0
        rows, run = observations(model, ctx, self.name)
        for _ in range(count):
            errors = block_errors(model, chosen, rows, run, self.ridge)
            best = min(chosen, key=lambda name: errors[name])
            reduce(model, (), (best,), rows, run, self.ridge)
            removed.append(best)
            still = {branch.name for branch in branches(model)}
            chosen = [name for name in chosen if name in still and name != best]
        model.graph.metadata_props[_REMOVED] = json.dumps(removed)
        return count


def block_errors(
    model: ir.Model,
    names: Sequence[str],
    rows: Arrays,
    run: Runner,
    ridge: float | None = None,
) -> Mapping[str, float]:
    """The error of the outputs when each block alone is removed, and the rest refitted to it.

    Where rows are many, others are refitted to than errors are measured on.
    """
    pieces = batches(rows, model, _INFERENCES)
    seen = next(pieces)
    fresh = next(pieces, seen)
    expected = run_rows(model, fresh, run)
    found = {}
    for name in names:
        copy = model.clone()
        reduce(copy, (), (name,), seen, run, ridge)
        found[name] = normalised_error(expected, run_rows(copy, fresh, run))
    return found
