"""`gcompile targets`: the devices that are known, and every number of one of them."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from gcompile.cli.options import Format, FormatOption
from gcompile.cli.output import show, show_json

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from gcompile.targets import Target


def targets(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Show this one; default: list all.")
    ] = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """List the devices gcompile knows, or show one with the source of its numbers."""
    from gcompile.targets import list_targets, load_target

    if name is not None:
        target = load_target(name)
        if format_ is Format.JSON:
            show_json(json.dumps(_data(target), indent=2))
        else:
            show(_one(target))
        return
    known = [load_target(each) for each in list_targets()]
    named = dict(zip(list_targets(), known, strict=True))
    if format_ is Format.JSON:
        shown = [
            {"name": n, "kind": t.kind, "description": t.description} for n, t in named.items()
        ]
        show_json(json.dumps(shown, indent=2))
    else:
        show(_list(named))


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
