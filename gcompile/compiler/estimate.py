"""Predict what a model costs, without building anything."""

from __future__ import annotations

from pathlib import Path

from gcompile import energy, ir
from gcompile.compiler.job import load_model
from gcompile.compiler.stages import REGIONS
from gcompile.energy import ColdStart, Estimate, Roofline
from gcompile.errors import UsageError
from gcompile.passes import PassContext
from gcompile.passes.pipelines import canonicalize_pipeline
from gcompile.targets import Target, load_target

PRICED = (ir.Precision.FP32, ir.Precision.FP16, ir.Precision.BF16, ir.Precision.INT8)
"""What can be priced: devices run formats that gcompile emits no code for."""


def estimate(
    model: ir.Model | str | Path,
    target: Target | str = "cpu",
    *,
    precision: ir.Precision | str | None = None,
    batch: int | None = None,
    shapes: ir.Shapes | None = None,
    threads: int = 1,
    cold: bool = False,
) -> Estimate:
    """Predict what one inference costs after the exact passes; the target need not be here.

    Args:
        model: An ONNX file, or a model in memory, which is not changed.
        target: The name of a device, a TOML file that describes one, or a `Target`.
        precision: Price every region as if it ran in this precision; by default as it is.
        batch: What the free leading dimension is bound to; the result is for the whole batch.
        shapes: A static shape for each input with free dimensions.
        threads: Cores of a CPU target that share the work.
        cold: Price the first inference, whose weights are in no cache yet, with the same kernels.

    Raises:
        UsageError: An option or a shape cannot be used.
    """
    if batch is not None and batch < 1:
        raise UsageError(f"A batch of {batch} holds no sample. Give 1 or more.")
    ready, _ = load_model(model, shapes, batch or 1)
    device = load_target(target) if isinstance(target, str) else target
    pricing = Roofline().at(_priced(precision))
    ctx = PassContext(target=device, energy=pricing, threads=threads)
    canonicalize_pipeline().apply(ready, ctx)
    REGIONS.apply(ready, ctx)
    priced_by = ColdStart(pricing) if cold else pricing
    return energy.estimate(ready, device, priced_by, threads)


def _priced(name: ir.Precision | str | None) -> ir.Precision | None:
    if name is None or name in PRICED:
        return None if name is None else ir.Precision(name)
    raise UsageError(f"Unknown precision {str(name)!r}. Known precisions: {', '.join(PRICED)}.")
