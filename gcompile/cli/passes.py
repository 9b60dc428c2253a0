"""`gcompile passes`: what can be done to a model, and how far each pass may move its outputs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from gcompile.cli.options import Format, FormatOption, PluginOption
from gcompile.cli.output import show, show_json

if TYPE_CHECKING:
    from rich.table import Table

    from gcompile.passes.registry import PassDescription


def passes(plugin: PluginOption = None, format_: FormatOption = Format.TEXT) -> None:
    """List every pass with its options, its numerics and what it does."""
    from gcompile.passes.registry import describe_passes, load_plugin

    for module in plugin or ():
        load_plugin(module)
    described = describe_passes()
    if format_ is Format.JSON:
        show_json(json.dumps([_data(each) for each in described], indent=2))
    else:
        show(_table(described))


def _data(described: PassDescription) -> dict[str, object]:
    return {
        "name": described.name,
        "numerics": described.numerics.name.lower(),
        "meaning": described.numerics.value,
        "options": described.options,
        "doc": described.summary,
    }


def _table(passes: list[PassDescription]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD)
    table.add_column("pass", no_wrap=True)
    table.add_column("numerics", no_wrap=True)
    table.add_column("options")
    table.add_column("what it does")
    for each in passes:
        options = ", ".join(f"{name}={default}" for name, default in each.options.items())
        cells = (each.name, each.numerics.name.lower(), options, each.summary)
        table.add_row(*map(Text, cells))
    return table
