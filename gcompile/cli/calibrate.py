"""`gcompile calibrate`: fit a device to joules that were measured on it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gcompile.cli.metering import (
    MeasureOption,
    MeterOption,
    WindowOption,
    announce,
    read_plan,
    ready_meter,
    refuse_without_measure,
)
from gcompile.cli.output import show
from gcompile.errors import UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from gcompile.targets import Target


def calibrate(
    target: Annotated[
        str, typer.Option("--target", help="Device to calibrate, or the one nearest to it.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The target file to write: my-board.toml.")
    ],
    measurements: Annotated[
        Path | None,
        typer.Option(
            "--measurements", help="CSV with model,energy_j[,time_s,batch,precision] per row."
        ),
    ] = None,
    models: Annotated[
        Path | None, typer.Option("--models", metavar="DIR", help="Where MODEL.onnx is found.")
    ] = None,
    measure: MeasureOption = False,
    meter: MeterOption = None,
    window: WindowOption = None,
) -> None:
    """Fit a target to measured joules of models, or to micro-benchmarks under a meter.

    Rows are whole-system wall joules of single inferences. The result is used like any target:
    --target my-board.toml.
    """
    if measure == (measurements is not None):
        raise UsageError("Give either --measurements rows.csv --models DIR, or --measure.")
    if output.suffix != ".toml":
        raise UsageError(f"{str(output)!r} is no target file. Give a name that ends in .toml.")
    if not measure:
        refuse_without_measure(meter, window, None)
    found = _by_meter(target, meter, window) if measure else _by_rows(target, measurements, models)

    from gcompile.targets import write_target

    write_target(found, output)
    show(_summary(found, output))


def _by_rows(target: str, measurements: Path | None, models: Path | None) -> Target:
    from gcompile.compiler.calibrate import calibrate as fit

    if measurements is None or models is None:
        raise UsageError("--measurements needs --models DIR, where the measured models are.")
    return fit(target, measurements, models)


def _by_meter(target: str, meter: str | None, window: str | None) -> Target:
    from gcompile.compiler.micro import calibrate_by_meter
    from gcompile.targets import load_target

    plan = read_plan(meter, window, None, None)
    base = load_target(target)
    device = ready_meter(plan, meter, target)
    announce(device, plan, lambda text: print(text + " per benchmark", file=sys.stderr))
    return calibrate_by_meter(
        base,
        device,
        plan,
        progress=lambda what, done: print(f"gcompile: {done:4.0%} {what}", file=sys.stderr),
    )


def _summary(target: Target, output: Path) -> RenderableType:
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    found = target.calibration
    if found is None:
        return Text(
            f"{output}: {target.name} by micro-benchmarks, idle {target.static_w:.3g} W at the "
            f"{target.boundary}; estimates within x/÷ {1 + target.relative_error:.2f}"
        )
    table = Table(box=SIMPLE_HEAD)
    for column in ("precision", "rows", "error in folds", "error across families"):
        table.add_column(column, justify="right")
    for item in found.sets:
        across = "one family only" if item.family_error is None else f"{item.family_error:.1%}"
        table.add_row(item.precision, str(item.rows), f"{item.fold_error:.1%}", across)
    head = Text(f"{target.name}, calibrated on {found.source}", "bold")
    return Group(head, table, Text(f"Written to {output}", overflow="fold"))
