"""Predict what a model costs, without building anything."""

from __future__ import annotations

from dataclasses import replace

from gcompile import energy, ir
from gcompile.compiler.formats import available
from gcompile.compiler.pricing import energy_for
from gcompile.compiler.sources import Source, load_model, read_graph
from gcompile.compiler.stages import REGIONS
from gcompile.energy import ColdStart, Estimate, Roofline
from gcompile.errors import UsageError
from gcompile.passes import PassContext
from gcompile.passes.pipelines import canonicalize_pipeline
from gcompile.targets import Target, load_target

PRICED = (
    ir.Precision.FP32, ir.Precision.FP16, ir.Precision.BF16, ir.Precision.INT8, ir.Precision.FP8,
    ir.Precision.MXFP8, ir.Precision.MXFP6, ir.Precision.MXFP4,
)  # fmt: skip
"""What can be priced, on devices that have it: some run formats that gcompile has no code for."""


def estimate(
    model: Source,
    target: Target | str = "cpu",
    *,
    example_inputs: ir.Inputs | None = None,
    dynamic_shapes: object = None,
    precision: ir.Precision | str | None = None,
    batch: int | None = None,
    shapes: ir.Shapes | None = None,
    threads: int = 1,
    cold: bool = False,
    pricing: Roofline | None = None,
) -> Estimate:
    """Predict what one inference costs after the exact passes; the target need not be here.

    Args:
        model: An ONNX or `.pt2` file; or a graph, a PyTorch module or an exported program in
            memory, which is not changed.
        target: The name of a device, a TOML file that describes one, or a `Target`.
        example_inputs: What the `forward` of a PyTorch module takes, in order or by name.
        dynamic_shapes: Free dimensions of a module's inputs, as `torch.export.export` takes them.
        precision: Price every region as if it ran in this precision; by default as it is.
        batch: What the free leading dimension is bound to; the result is for the whole batch.
        shapes: A static shape for each input with free dimensions.
        threads: Cores of a CPU target that share the work.
        cold: Price the first inference, whose weights are in no cache yet, with the same kernels.
        pricing: How regions are priced; by default as the kernels that are emitted for the target.
            `Roofline()` prices those of a vendor's library.

    Raises:
        UsageError: An option or a shape cannot be used, or the target lacks the precision.
        ExportError: A PyTorch module cannot become a graph.
    """
    if batch is not None and batch < 1:
        raise UsageError(f"A batch of {batch} holds no sample. Give 1 or more.")
    graph = read_graph(model, example_inputs, dynamic_shapes)
    ready, _ = load_model(graph, shapes, batch or 1)
    ir.refuse_nodes(ready)
    device = load_target(target) if isinstance(target, str) else target
    pricing = (pricing or energy_for(device)).at(_priced(precision, device))
    ctx = PassContext(target=device, energy=pricing, threads=threads, keeps_ledger=False)
    given = energy.estimate(ready, device, pricing, threads)
    canonicalize_pipeline().apply(ready, ctx, given)
    REGIONS.apply(ready, ctx, given)
    priced_by = ColdStart(pricing) if cold else pricing
    found = energy.estimate(ready, device, priced_by, threads)
    return replace(found, places=places_of(ready))


def places_of(model: ir.Model) -> dict[str, ir.Place]:
    """The place of each region that comes from a PyTorch module."""
    regions = (region for graph in ir.all_graphs(model) for region in ir.regions(graph))
    return {region.name: region.place for region in regions if region.place is not None}


def _priced(name: ir.Precision | str | None, target: Target) -> ir.Precision | None:
    if name is None:
        return None
    if name in PRICED:
        return available(name, target)
    raise UsageError(f"Unknown precision {str(name)!r}. Known precisions: {', '.join(PRICED)}.")
