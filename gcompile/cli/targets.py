"""`gcompile targets`: the devices that are known, and every number of one of them."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from gcompile.cli.options import Format, FormatOption
from gcompile.cli.output import show as print_result
from gcompile.cli.output import show_json

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from gcompile.targets import Target


app = typer.Typer(help="The devices gcompile knows.", rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def targets(context: typer.Context, format_: FormatOption = Format.TEXT) -> None:
    """List the devices gcompile knows, or `show NAME` with the source of its numbers."""
    if context.invoked_subcommand is None:
        list_(format_)


@app.command("list")
def list_(format_: FormatOption = Format.TEXT) -> None:
    """List every device by name."""
    from gcompile.targets import list_targets, load_target

    known = {name: load_target(name) for name in list_targets()}
    if format_ is Format.JSON:
        show_json(json.dumps([_head(name, target) for name, target in known.items()], indent=2))
    else:
        print_result(_list(known))


@app.command()
def show(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A name of the list, or a .toml file.")
    ],
    format_: FormatOption = Format.TEXT,
) -> None:
    """Show every number of one device, with its source."""
    from gcompile.targets import load_target

    target = load_target(name)
    if format_ is Format.JSON:
        show_json(json.dumps(_data(target), indent=2))
    else:
        print_result(_one(target))


def _head(name: str, target: Target) -> dict[str, str]:
    return {"name": name, "kind": target.kind, "description": target.description}


def _list(named: dict[str, Target]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD)
    table.add_column("target", no_wrap=True)
    table.add_column("kind")
    table.add_column("boundary")
    table.add_column("uncertainty", no_wrap=True)
    table.add_column("description")
    for name, target in named.items():
        uncertainty = f"x/÷ {1 + target.relative_error:.2f}"
        cells = (name, target.kind, target.boundary, uncertainty, target.description)
        table.add_row(*map(Text, cells))
    return table


def _one(target: Target) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    facts = Table.grid(padding=(0, 2))
    for label, value in _facts(target).items():
        facts.add_row(Text(label, "bold"), Text(value))
    return Group(facts, _units(target), _memories(target), _sources(target))


def _facts(target: Target) -> dict[str, str]:
    return {
        "target": target.name,
        "description": target.description,
        "boundary": target.boundary,
        "instructions": " ".join(sorted(target.isa)) or "not listed",
        "cores": f"{target.cores} at {target.clock_hz / 1e9:.2f} GHz",
        "static power": f"{target.static_w:.3g} W",
        "kernel start": f"{target.launch_s * 1e6:.3g} us, {target.launch_j * 1e6:.3g} uJ",
        "uncertainty": f"an absolute estimate times or divided by {1 + target.relative_error:.2f}",
        "calibrated": "by measurements of this device" if target.calibrated else "no",
    }


def _units(target: Target) -> Table:
    table = _table("units", "unit", "precision", "peak Gop/s", "efficiency", "pJ per operation")
    for unit in target.units:
        numbers = (unit.peak_ops_per_s / 1e9, unit.efficiency, unit.op_j * 1e12)
        table.add_row(unit.name, unit.precision.value, *(f"{n:.4g}" for n in numbers))
    return table


def _memories(target: Target) -> Table:
    table = _table("memories", "level", "KiB", "GB/s", "pJ per byte", "per core")
    for memory in target.memories:
        numbers = (memory.size_bytes / 1024, memory.bytes_per_s / 1e9, memory.byte_j * 1e12)
        per_core = "yes" if memory.per_core else ""
        table.add_row(memory.name, *(f"{n:.6g}" for n in numbers), per_core)
    return table


def _sources(target: Target) -> Table:
    from rich.text import Text

    table = _table("sources", "number", "status", "source")
    for number, source in target.sources.items():
        table.add_row(Text(number), source.status, Text(source.text))
    return table


def _table(title: str, *columns: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    for column in columns:
        table.add_column(column)
    return table


def _data(target: Target) -> dict[str, object]:
    """The target as plain data; sets are sorted so that equal targets print alike."""
    data = asdict(target)
    data["isa"] = sorted(target.isa)
    return data
