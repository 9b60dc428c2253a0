"""`gcompile targets`: the devices that are known, and every number of one of them."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from gcompile.cli.options import Format, FormatOption
from gcompile.cli.output import show as print_result
from gcompile.cli.output import show_json
from gcompile.errors import TargetError

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
    from gcompile.targets import GPU, list_targets, load_target

    known = {name: load_target(name) for name in list_targets()}
    with suppress(TargetError):  # Only where there is one; `show cuda` says why there is not.
        known[GPU] = load_target(GPU)
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


@app.command()
def validate(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Target files, or names of the list.")
    ],
) -> None:
    """Check target files: units, ranges, memories, a source for every number."""
    from gcompile.targets import load_target

    for name in files:
        target = load_target(name)
        unverified = sum(s.status == "unverified" for s in target.sources.values())
        print_result(
            f"{name}: {target.name} is sound; {len(target.sources)} numbers, "
            f"{unverified} unverified."
        )


@app.command()
def diff(
    one: Annotated[str, typer.Argument(metavar="NAME", help="A name of the list, or a file.")],
    other: Annotated[str, typer.Argument(metavar="NAME", help="What to compare it with.")],
    format_: FormatOption = Format.TEXT,
) -> None:
    """Show the numbers in which two targets differ."""
    from gcompile.targets import load_target

    left, right = (_numbers(_data(load_target(name))) for name in (one, other))
    found = {
        key: (left.get(key), right.get(key))
        for key in dict.fromkeys([*left, *right])
        if left.get(key) != right.get(key)
    }
    if format_ is Format.JSON:
        show_json(json.dumps({key: list(pair) for key, pair in found.items()}, indent=2))
    elif found:
        print_result(_differences(found, one, other))
    else:
        print_result(f"{one} and {other} have the same numbers.")


def _numbers(data: object, prefix: str = "") -> dict[str, object]:
    """Flatten to dotted keys; units and memories by name; sources and texts left out."""
    if isinstance(data, dict):
        items = [(str(key), value) for key, value in data.items() if key != "sources"]
    elif isinstance(data, list | tuple) and all(isinstance(item, dict) for item in data):
        items = [(str(item["name"]), item) for item in data]
    else:
        return {prefix.rstrip("."): data}
    flat: dict[str, object] = {}
    for key, value in items:
        if key not in ("name", "description"):
            flat |= _numbers(value, f"{prefix}{key}.")
    return flat


def _differences(found: dict[str, tuple[object, object]], one: str, other: str) -> Table:
    from rich.text import Text

    table = _table("", "number", one, other)
    for key, pair in found.items():
        table.add_row(Text(key), *(Text(_shown(value)) for value in pair))
    return table


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)


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
    facts = {
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
    if target.power is not None:
        facts["power limit"] = f"{target.power.limit_w:g} W of the device"
    if target.array is not None:
        array = target.array
        multiplier = f", multiplier {array.multiplier}" if array.multiplier else ""
        facts["array"] = f"{array.rows} by {array.columns}, {array.dataflow}{multiplier}"
    return facts


def _units(target: Target) -> Table:
    table = _table(
        "units", "unit", "precision", "peak Gop/s", "2:4 sparse", "efficiency", "pJ per operation"
    )
    for unit in target.units:
        sparse = f"{unit.sparse_ops_per_s / 1e9:.4g}" if unit.sparse_ops_per_s else ""
        numbers = (f"{unit.efficiency:.4g}", f"{unit.op_j * 1e12:.4g}")
        peak = f"{unit.peak_ops_per_s / 1e9:.4g}"
        table.add_row(unit.name, unit.precision.value, peak, sparse, *numbers)
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
