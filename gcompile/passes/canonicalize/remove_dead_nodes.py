"""Remove nodes and weights that no output depends on."""

from __future__ import annotations

from dataclasses import dataclass

from gcompile import ir
from gcompile.passes.base import Numerics, Pass, PassContext


@dataclass(frozen=True)
class RemoveDeadNodes(Pass):
    """Remove nodes and weights that no output depends on."""

    name = "remove-dead-nodes"
    numerics = Numerics.EXACT

    def run(self, model: ir.Model, ctx: PassContext) -> int:
        """Remove them in every graph; unused weights go along, uncounted."""
        return ir.remove_unused(model)
