"""Reports as Markdown, for a pull request or a wiki."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from gcompile.report.layout import (
    PASS_COLUMNS,
    dearest,
    layer_table,
    note_sentences,
    pass_rows,
    summary_rows,
)
from gcompile.report.quantity import printable
from gcompile.report.report import Report

_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|~<>&$@])")


def to_markdown(report: Report, *, top: int | None = None) -> str:
    """A report as Markdown; layers beyond the `top` dearest are left out."""
    total = report.energy.after.energy_j
    parts = [
        f"# {escape(report.model)} for {escape(report.target)}",
        _table(("", ""), summary_rows(report)),
        "## Passes",
        _table(PASS_COLUMNS, pass_rows(report)),
        "## Layers",
        _table(*layer_table(dearest(report.layers, top), total)),
    ]
    if notes := note_sentences(report):
        parts += ["## Notes", "\n".join(f"- {escape(note)}" for note in notes)]
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """Text that Markdown shows as it is: no markup, no HTML, no mention, one line."""
    return _SPECIAL.sub(r"\\\1", printable(text)).replace("://", ":\\//")


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [_row(columns), "|" + " --- |" * len(columns)]
    lines += [_row([escape(cell) for cell in row]) for row in rows]
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
