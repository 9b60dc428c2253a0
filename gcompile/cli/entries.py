"""Several models on the command line, which become entry points of one artefact."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from gcompile.errors import UsageError

if TYPE_CHECKING:
    from gcompile.compiler.entries import Entry
    from gcompile.report import BuildConfig

EntriesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--entry",
        metavar="NAME=MODEL",
        help="Another model, as an entry point of the artefact beside MODEL. Repeatable.",
    ),
]
EntryOption = Annotated[
    str | None,
    typer.Option("--entry", metavar="NAME", help="Entry point, where there are several."),
]


def parse_entries(texts: Iterable[str]) -> dict[str, str]:
    """Read `NAME=MODEL` for each entry point.

    Raises:
        UsageError: A text is not of that form, or names an entry point twice.
    """
    entries: dict[str, str] = {}
    for text in texts:
        name, _, model = text.partition("=")
        if not name or not model:
            raise UsageError(
                f"Entry point {text!r:.80} is not NAME=MODEL. Write it as "
                "--entry prefill=prefill.onnx."
            )
        if name in entries:
            raise UsageError(f"--entry gives {name!r} twice. Give it once.")
        entries[name] = model
    return entries


def named_entries(config: BuildConfig) -> dict[str, Entry]:
    """The models of a configuration by entry point; MODEL is called after itself.

    A shape whose name begins with an entry point and a colon is one of that entry point; others
    are those of all.

    Raises:
        UsageError: A model cannot be used, or MODEL is called like another.
    """
    from gcompile.cli.source import model_name, read_source
    from gcompile.compiler.entries import Entry

    models = dict(config.entries)
    if config.model:
        name = model_name(config.model)
        if name in models:
            raise UsageError(f"MODEL and --entry are both called {name!r}. Name MODEL by --entry.")
        models = {name: config.model} | models
    found = {}
    for name, text in models.items():
        source, inputs = read_source(text, config.input_shapes)
        found[name] = Entry(source, shapes=_shapes(config, name, models), example_inputs=inputs)
    return found


def _shapes(config: BuildConfig, name: str, names: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Those of one entry point win over those of all."""
    known = {other: f"{other}:" for other in names}
    general = {
        key: tuple(sizes)
        for key, sizes in config.shapes.items()
        if not key.startswith(tuple(known.values()))
    }
    own = {
        key.removeprefix(known[name]): tuple(sizes)
        for key, sizes in config.shapes.items()
        if key.startswith(known[name])
    }
    return general | own
