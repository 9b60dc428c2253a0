"""`gcompile sweep`: the front of accuracy, energy and latency in one run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gcompile.cli.options import (
    CalibOption,
    EvalOption,
    Format,
    FormatOption,
    FreezeOption,
    MetricOption,
    NoCacheOption,
    PluginOption,
    PruneOption,
    SearchTimeOption,
    ShapeOption,
    ThreadsOption,
    WorkersOption,
    parse_shapes,
    parse_values,
)
from gcompile.cli.output import say, show, show_json
from gcompile.cli.progress import progress


def sweep(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="ONNX or .pt2 file.")],
    target: Annotated[str, typer.Option("--target", help="Device to compile for.")] = "cpu",
    calib: CalibOption = None,
    eval_: EvalOption = None,
    metric: MetricOption = None,
    points: Annotated[int, typer.Option("--points", help="Most points to measure.")] = 12,
    search_time: SearchTimeOption = None,
    prune: PruneOption = False,
    shape: ShapeOption = None,
    freeze: FreezeOption = None,
    threads: ThreadsOption = None,
    seed: Annotated[int, typer.Option("--seed", help="Of every random choice.")] = 0,
    plugin: PluginOption = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for sweep.json, sweep.html and sweep.png."),
    ] = None,
    format_: FormatOption = Format.TEXT,
    workers: WorkersOption = None,
    no_cache: NoCacheOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print no progress.")] = False,
) -> None:
    """Measure accuracy, energy and latency from the least energy to full precision.

    Every point is a budget that `gcompile build` can be given. A sweep that was interrupted goes
    on where it was when it is started again.
    """
    shapes, values = parse_shapes(shape or ()), parse_values(freeze or ())
    from gcompile.cli.source import frozen
    from gcompile.compiler.sweep import sweep as run_sweep
    from gcompile.report import write_sweep
    from gcompile.report.text import render_sweep

    with progress(quiet) as show_progress:
        report = run_sweep(
            frozen(str(model), values),
            target,
            points=points,
            search_time=search_time,
            prune=prune,
            metric=metric or "top1",
            calib=calib,
            evaluate=eval_,
            shapes=shapes,
            threads=1 if threads is None else threads,
            seed=seed,
            plugins=plugin or (),
            progress=show_progress,
            cache=not no_cache,
            workers=workers,
        )
    why_no_png = write_sweep(report, output) if output else None
    if format_ is Format.JSON:
        show_json(report.model_dump_json(indent=2))
    else:
        show(render_sweep(report))
    if why_no_png:
        say(f"gcompile: {why_no_png}")
    if output and not quiet:
        say(f"gcompile: wrote {output}")
