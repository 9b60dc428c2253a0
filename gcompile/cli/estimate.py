"""`gcompile estimate`: predict what one inference costs, without building anything."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gcompile.cli.carbon import (
    CarbonEmbodiedOption,
    CarbonInferencesOption,
    CarbonIntensityOption,
    CarbonKeyOption,
    CarbonProviderOption,
    CarbonZoneOption,
    read_accounting,
)
from gcompile.cli.options import (
    DynamicOption,
    Format,
    FormatOption,
    FreezeOption,
    InputShapeOption,
    PricedPrecisionOption,
    ShapeOption,
    ThreadsOption,
    parse_shapes,
    parse_values,
)
from gcompile.cli.output import show, show_json
from gcompile.errors import UsageError


def estimate(
    model: Annotated[
        Path,
        typer.Argument(metavar="MODEL", help="ONNX or .pt2 file, or MODULE:FACTORY, to price."),
    ],
    target: Annotated[str, typer.Option("--target", help="Device to estimate for.")] = "cpu",
    precision: PricedPrecisionOption = None,
    batch: Annotated[int | None, typer.Option("--batch", help="Rows per run.")] = None,
    shape: ShapeOption = None,
    freeze: FreezeOption = None,
    dynamic: DynamicOption = None,
    input_shape: InputShapeOption = None,
    threads: ThreadsOption = None,
    carbon_zone: CarbonZoneOption = None,
    carbon_intensity: CarbonIntensityOption = None,
    carbon_provider: CarbonProviderOption = None,
    carbon_key: CarbonKeyOption = None,
    carbon_inferences: CarbonInferencesOption = None,
    carbon_embodied: CarbonEmbodiedOption = None,
    cold: Annotated[
        bool, typer.Option("--cold", help="Price the first inference: no weight is in a cache.")
    ] = False,
    top: Annotated[int, typer.Option("--top", help="Layers to print as text.")] = 12,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Predict joules and seconds of one inference; needs neither the device nor a compiler."""
    if dynamic:
        raise UsageError(
            "An estimate is for one size: bind the dimensions with --shape or --batch, once for "
            "each. `gcompile build --dynamic` reports the joules of all sizes."
        )
    shapes = parse_shapes(shape or ())
    if batch is not None and batch < 1:
        raise UsageError(f"--batch {batch} is less than one. Give 1 or more.")
    carbon = read_accounting(
        carbon_zone,
        carbon_intensity,
        carbon_provider,
        carbon_key,
        carbon_inferences,
        carbon_embodied,
    )
    from gcompile.cli.source import model_name, read_source
    from gcompile.compiler.estimate import estimate as estimate_energy
    from gcompile.report import make_estimate_report
    from gcompile.report.text import render_estimate

    source, inputs = read_source(str(model), input_shape or (), parse_values(freeze or ()))
    predicted = estimate_energy(
        source,
        target,
        example_inputs=inputs,
        precision=precision.value if precision else None,
        batch=batch,
        shapes=shapes,
        threads=1 if threads is None else threads,
        cold=cold,
    )
    report = make_estimate_report(
        predicted,
        model_name=model_name(str(model)),
        target=target,
        batch=batch or 1,
        carbon=carbon,
    )
    if format_ is Format.JSON:
        show_json(report.model_dump_json(indent=2))
    else:
        show(render_estimate(report, top=top))
