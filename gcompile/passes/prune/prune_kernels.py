"""Make the kernels of convolutions smaller, and refit what stays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gcompile import ir
from gcompile.errors import UsageError
from gcompile.passes.base import Numerics, Pass, PassContext
from gcompile.passes.prune.kernels import best_windows, shrinkable
from gcompile.passes.prune.reduce import observations, reduce


@dataclass(frozen=True)
class PruneKernels(Pass):
    """Keep of each kernel the window of taps that loses least: 3 by 2 or 2 by 3 of 3 by 3.

    Attributes:
        keep: The largest share of its taps that a kernel keeps, counted from its first size.
        kernels: Names of the convolutions to choose from; empty means all.
        ridge: How hard refitted weights are held back, as a share of the variance of inputs; by
            default what suits a quarter of the rows best that the fit did not see.
    """

    name: ClassVar[str] = "prune-kernels"
    numerics: ClassVar[Numerics] = Numerics.LOSSY

    keep: float = 0.67
    kernels: tuple[str, ...] = ()
    ridge: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise UsageError(f"keep={self.keep} must be above 0 and at most 1.")
        if self.ridge is not None and self.ridge < 0:
            raise UsageError(f"ridge={self.ridge} must not be negative.")

    def run(self, model: ir.Model, ctx: PassContext) -> int:
        known = {product.name: product for product in shrinkable(model)}
        if unknown := sorted(set(self.kernels).difference(known)):
            raise UsageError(
                f"The model has no kernels to make smaller at {', '.join(unknown)}. It has them "
                f"at: {', '.join(known) or 'no product'}."
            )
        chosen = [p for name, p in known.items() if not self.kernels or name in self.kernels]
        if not chosen:
            ctx.skipped[self.name, "no convolution has a padded kernel of several taps"] += 1
            return 0
        rows, run = observations(model, ctx, self.name)
        found = best_windows(model, chosen, (self.keep,), rows, run)
        windows = {name: best[0] for name, best in found.items() if best}
        if windows:
            reduce(model, (), (), rows, run, self.ridge, windows)
        return len(windows)
