"""Reports of builds as one HTML file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gcompile.report.layout import (
    PASS_COLUMNS,
    dearest,
    energy_text,
    layer_table,
    note_sentences,
    pass_rows,
    share_of,
    summary_rows,
)
from gcompile.report.page import escape, page, table
from gcompile.report.report import EnergySection, Report

_NUMBERS = frozenset({"before", "after", "change", "energy", "share", "time"})
_MOMENTS = (("before", "as given"), ("exact", "exact passes"), ("after", "as compiled"))


def to_html(report: Report) -> str:
    """A report as one self-contained page."""
    title = f"{report.model} for {report.target}"
    body = "\n".join(
        [
            f"<h1>{escape(title)}</h1>",
            f'<p class="{escape(report.status)}"><strong>{escape(report.message)}</strong></p>',
            _definitions(summary_rows(report)),
            "<h2>Energy</h2>",
            _energies(report),
            "<h2>Passes</h2>",
            _passes(report),
            "<h2>Layers</h2>",
            _layers(report),
            *_notes(report),
            f"<p><small>gcompile {escape(report.gcompile_version)}</small></p>",
        ]
    )
    return page(title, body)


def _definitions(rows: Iterable[tuple[str, str]]) -> str:
    cells = [f"<tr><th>{escape(label)}</th><td>{escape(value)}</td></tr>" for label, value in rows]
    return f"<table>{''.join(cells)}</table>"


def _energies(report: Report) -> str:
    sections: list[tuple[str, EnergySection]] = [
        (label, getattr(report.energy, moment)) for moment, label in _MOMENTS
    ]
    largest = max(section.energy_j for _, section in sections)
    cells = [
        f"<tr><th>{escape(label)}</th><td>{_bar(share_of(section.energy_j, largest))}</td>"
        f"<td>{escape(energy_text(section))}</td></tr>"
        for label, section in sections
    ]
    return f"<table>{''.join(cells)}</table>"


def _passes(report: Report) -> str:
    rows = []
    for cells, entry in zip(pass_rows(report), report.passes, strict=True):
        idle = "" if entry.changed and entry.kept else ' class="idle"'
        rows.append(f"<tr{idle}>{_cells(PASS_COLUMNS, cells)}</tr>")
    return table(PASS_COLUMNS, rows)


def _layers(report: Report) -> str:
    total = report.energy.after.energy_j
    layers = dearest(report.layers, None)
    columns, cells = layer_table(layers, total)
    rows = [
        f"<tr>{_cells(columns, row)}<td>{_bar(share_of(layer.energy_j, total))}</td></tr>"
        for layer, row in zip(layers, cells, strict=True)
    ]
    return table((*columns, ""), rows)


def _notes(report: Report) -> list[str]:
    notes = note_sentences(report)
    if not notes:
        return []
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return ["<h2>Notes</h2>", f"<ul>{items}</ul>"]


def _cells(columns: Sequence[str], cells: Sequence[str]) -> str:
    return "".join(
        f'<td class="number">{escape(cell)}</td>'
        if column in _NUMBERS
        else f"<td>{escape(cell)}</td>"
        for column, cell in zip(columns, cells, strict=True)
    )


def _bar(share: float) -> str:
    width = min(max(share, 0.0), 1.0) * 100
    return (
        '<svg viewBox="0 0 100 6" preserveAspectRatio="none" role="img" '
        f'aria-label="{width:.1f} %"><rect class="track" width="100" height="6"/>'
        f'<rect class="part" width="{width:.2f}" height="6"/></svg>'
    )
