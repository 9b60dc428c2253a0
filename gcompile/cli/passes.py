"""`gcompile passes`: what can be done to a model, and how far each pass may move its outputs."""

from __future__ import annotations

import inspect
import json
from dataclasses import MISSING, Field, fields
from typing import TYPE_CHECKING

from gcompile.cli.options import Format, FormatOption, PluginOption
from gcompile.cli.output import show, show_json

if TYPE_CHECKING:
    from rich.table import Table

    from gcompile.passes import Pass


def passes(
    plugin: PluginOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """List every pass with its options, its numerics and what it does."""
    from gcompile.passes.registry import known_passes, load_plugin

    for module in plugin or ():
        load_plugin(module)
    entries = [_entry(name, kind) for name, kind in sorted(known_passes().items())]
    if format_ is Format.JSON:
        show_json(json.dumps(entries, indent=2))
    else:
        show(_table(entries))


def _entry(name: str, kind: type[Pass]) -> dict[str, object]:
    return {
        "name": name,
        "numerics": kind.numerics.name.lower(),
        "meaning": kind.numerics.value,
        "options": {field.name: _default(field) for field in fields(kind)},
        "doc": (inspect.getdoc(kind) or "").strip().split("\n\n")[0].replace("\n", " "),
    }


def _default(field: Field[object]) -> str | None:
    """An option's default as text; None when the option must be given."""
    if field.default is not MISSING:
        return str(field.default)
    if field.default_factory is not MISSING:
        return str(field.default_factory())
    return None


def _table(entries: list[dict[str, object]]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD)
    table.add_column("pass", no_wrap=True)
    table.add_column("numerics", no_wrap=True)
    table.add_column("options")
    table.add_column("what it does")
    for entry in entries:
        cells = (entry["name"], entry["numerics"], _options(entry["options"]), entry["doc"])
        table.add_row(*(Text(str(cell)) for cell in cells))
    return table


def _options(options: object) -> str:
    named = options.items() if isinstance(options, dict) else ()
    return ", ".join(name if value is None else f"{name}={value}" for name, value in named)
