"""`gcompile sensitivity`: what each layer minds, beside what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gcompile.cli.options import (
    Format,
    FormatOption,
    FreezeOption,
    NoCacheOption,
    PluginOption,
    ShapeOption,
    ThreadsOption,
    WorkersOption,
    parse_shapes,
    parse_values,
)
from gcompile.cli.output import say, show, show_json
from gcompile.cli.progress import progress


def sensitivity(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="ONNX or .pt2 file.")],
    calib: Annotated[Path, typer.Option("--calib", help=".npz with rows for every model input.")],
    target: Annotated[str, typer.Option("--target", help="Device to compile for.")] = "cpu",
    rows: Annotated[
        int | None, typer.Option("--rows", help="Rows to measure errors on. [default: all]")
    ] = None,
    shape: ShapeOption = None,
    freeze: FreezeOption = None,
    threads: ThreadsOption = None,
    plugin: PluginOption = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for sensitivity.json and sensitivity.html."),
    ] = None,
    format_: FormatOption = Format.TEXT,
    workers: WorkersOption = None,
    no_cache: NoCacheOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print no progress.")] = False,
) -> None:
    """Measure how far the outputs move when one layer alone computes in a narrow format."""
    shapes, values = parse_shapes(shape or ()), parse_values(freeze or ())
    from gcompile.cli.source import frozen
    from gcompile.compiler.sweep import sensitivity as measure
    from gcompile.report import write_sensitivity
    from gcompile.report.text import render_sensitivity

    with progress(quiet) as show_progress:
        report = measure(
            frozen(str(model), values),
            target,
            calib=calib,
            rows=rows,
            shapes=shapes,
            threads=1 if threads is None else threads,
            plugins=plugin or (),
            progress=show_progress,
            cache=not no_cache,
            workers=workers,
        )
    if output:
        write_sensitivity(report, output)
    if format_ is Format.JSON:
        show_json(report.model_dump_json(indent=2))
    else:
        show(render_sensitivity(report))
    if output and not quiet:
        say(f"gcompile: wrote {output}")
