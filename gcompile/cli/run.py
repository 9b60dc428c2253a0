"""`gcompile run`: run an artefact on data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gcompile.cli.entries import EntryOption
from gcompile.cli.options import (
    DeviceOption,
    FolderArgument,
    Format,
    FormatOption,
    ThreadsOption,
    VariantOption,
)
from gcompile.cli.output import say, show, show_json
from gcompile.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.table import Table

    from gcompile.npz import Array
    from gcompile.runtime import Runner

LABELS = "labels"


def run(
    folder: FolderArgument,
    input_: Annotated[
        Path | None, typer.Option("--input", "-i", help=".npz with an array per model input.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help=".npz to write the outputs to.")
    ] = None,
    random: Annotated[
        bool, typer.Option("--random", help="Run on seeded random inputs instead of data.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="Of the random inputs.")] = 0,
    entry: EntryOption = None,
    variant: VariantOption = None,
    threads: ThreadsOption = None,
    device: DeviceOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Run an artefact on every row of a file, and write the outputs."""
    if (input_ is None) == (not random):
        raise UsageError("Give data with --input x.npz, or ask for made-up data with --random.")
    from gcompile import runtime
    from gcompile.cli.random_inputs import random_inputs
    from gcompile.npz import read_arrays, write_arrays

    arrays = {} if input_ is None else read_arrays(input_)
    runner = runtime.load(folder, threads=threads, variant=variant, entry=entry, device=device)
    inputs = random_inputs(runner.inputs, seed) if input_ is None else _inputs(runner, arrays)
    outputs = _run(runner, inputs)
    if output is not None:
        write_arrays(output, outputs)
        say(f"gcompile: wrote {output}")
    if format_ is Format.JSON:
        show_json(json.dumps({"outputs": _described(outputs)}, indent=2))
    else:
        show(_table(outputs))


def _inputs(runner: Runner, arrays: dict[str, Array]) -> dict[str, Array]:
    """Leave out the labels that an evaluation file adds."""
    if LABELS not in {spec.name for spec in runner.inputs}:
        arrays.pop(LABELS, None)
    return arrays


def _run(runner: Runner, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Run once where the arrays are exactly one inference, else row by row."""
    shapes = {spec.name: spec.shape for spec in runner.inputs}
    given = {name: array.shape for name, array in inputs.items()}
    if given == shapes or set(given) != set(shapes):
        return runner.run(inputs)
    return runner.run_rows(inputs)


def _described(outputs: Mapping[str, Array]) -> list[dict[str, object]]:
    return [
        {"name": name, "dtype": str(array.dtype), "shape": list(array.shape)}
        for name, array in outputs.items()
    ]


def _table(outputs: Mapping[str, Array]) -> Table:
    from rich.table import Table
    from rich.text import Text

    from gcompile.report.quantity import printable

    table = Table.grid(padding=(0, 2))
    for name, array in outputs.items():
        table.add_row(Text(printable(name)), Text(str(array.dtype)), Text(str(array.shape)))
    return table
