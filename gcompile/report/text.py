"""Reports for a terminal, and as plain text where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gcompile.report.carbon import carbon_rows
from gcompile.report.layout import (
    LAYER_COLUMNS,
    PASS_COLUMNS,
    dearest,
    dearest_estimates,
    energy_text,
    estimator_text,
    is_idle,
    layer_row,
    note_sentences,
    pass_rows,
    place_cells,
    place_columns,
    share_of,
    summary_rows,
)
from gcompile.report.quantity import format_energy, format_share, format_time, printable
from gcompile.report.report import EstimateLayer, EstimateReport, LayerSection, Report
from gcompile.report.sweep import SensitivityReport, SweepReport
from gcompile.report.sweep_page import (
    SENSITIVITY_COLUMNS,
    SWEEP_COLUMNS,
    sensitivity_rows,
    sweep_row,
)

PLAIN_WIDTH = 120
_BAR_WIDTH = 12
_RIGHT = frozenset({"before", "after", "change", "energy", "share", "time"})
_STYLES = {"ok": "green", "budget_not_met": "yellow", "accuracy_not_met": "yellow"}


def render(report: Report, *, top: int | None = 12, bars: bool = True) -> RenderableType:
    """The summary, the ledger of passes and the `top` dearest layers, for a rich console."""
    summary = Padding(_summary(report), (0, 0, 1, 0))
    return Group(summary, _passes(report), _layers(report, top, bars), *_notes(report))


def render_estimate(report: EstimateReport, *, top: int | None = 12) -> RenderableType:
    """An estimate's total and its `top` dearest layers, for a rich console."""
    per = "inference" if report.batch == 1 else f"batch of {report.batch}"
    rows = [
        ("model", f"{printable(report.model)} for {printable(report.target)}"),
        ("energy", energy_text(report.energy, per)),
        ("time", format_time(report.energy.time_s)),
        ("estimated by", estimator_text(report.estimated_by, report.energy)),
        *carbon_rows(report.carbon),
    ]
    places = ["module"] if place_columns(report.layers) else []
    table = _table("layers", ("layer", *places, "energy", "share", "time", ""))
    for layer in dearest_estimates(report.layers, top):
        share = share_of(layer.energy_j, report.energy.energy_j)
        table.add_row(
            Text(printable(layer.name)),
            *([Text(_place(layer))] if places else []),
            Text(format_energy(layer.energy_j)),
            Text(format_share(share)),
            Text(format_time(layer.time_s)),
            Text(bar(share)),
        )
    return Group(_rows(rows), table, *_hidden(len(report.layers), top))


def render_sweep(report: SweepReport) -> RenderableType:
    """The points of a sweep, for a rich console; those off the front are dim."""
    rows = [("model", f"{printable(report.model)} for {printable(report.target)}")]
    if report.reference_accuracy is not None:
        rows.append((printable(report.metric or ""), f"{report.reference_accuracy:.4f} as given"))
    rows.append(("exact passes", format_energy(report.exact_j)))
    found = _table("points", SWEEP_COLUMNS)
    for point in report.points:
        found.add_row(
            *map(Text, sweep_row(report, point)), style=None if point.on_front else "dim"
        )
    return Group(_rows(rows), found)


def render_sensitivity(report: SensitivityReport) -> RenderableType:
    """Every layer and format, for a rich console."""
    rows = [
        ("model", f"{printable(report.model)} for {printable(report.target)}"),
        ("energy", format_energy(report.energy_j)),
        ("rows", str(report.rows)),
    ]
    found = _table("layers", SENSITIVITY_COLUMNS)
    for cells in sensitivity_rows(report):
        found.add_row(*(Text(printable(cell)) for cell in cells))
    return Group(_rows(rows), found)


def to_text(report: Report, *, top: int | None = 12) -> str:
    """A report as plain text."""
    return as_plain_text(render(report, top=top))


def as_plain_text(renderable: RenderableType) -> str:
    """Anything rich can show, without colours or control characters."""
    sink = StringIO()
    Console(file=sink, width=PLAIN_WIDTH, force_terminal=False, color_system=None).print(
        renderable
    )
    return "\n".join(line.rstrip() for line in sink.getvalue().splitlines()) + "\n"


def bar(share: float) -> str:
    """A bar as long as the share, for a column of them."""
    return "█" * max(round(share * _BAR_WIDTH), share > 0)


def _summary(report: Report) -> Table:
    table = _rows(summary_rows(report))
    table.rows[1].style = _STYLES[report.status]
    return table


def _rows(rows: Sequence[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2))
    for label, value in rows:
        table.add_row(Text(label, "bold"), Text(value))
    return table


def _passes(report: Report) -> Group:
    table = _table("passes", PASS_COLUMNS)
    idle: dict[str, None] = {}
    for row, entry in zip(pass_rows(report), report.passes, strict=True):
        if is_idle(entry):
            idle[row[0]] = None
        else:
            table.add_row(*map(Text, row), style=None if entry.changed and entry.kept else "dim")
    rest = [Padding(f"nothing to do for {', '.join(idle)}", (0, 0, 1, 2))] if idle else []
    return Group(table, *rest)


def _layers(report: Report, top: int | None, bars: bool) -> Group:
    total = report.energy.after.energy_j
    layers = dearest(report.layers, top)
    rows = [layer_row(layer, total) for layer in layers]
    columns: tuple[str, ...] = LAYER_COLUMNS
    if place_columns(report.layers):
        # Room for the module: the last column is empty where no search measured errors.
        width = len(columns) - all(layer.error is None for layer in report.layers)
        columns = (*columns[:width], "module")
        rows = [(*row[:width], _place(layer)) for layer, row in zip(layers, rows, strict=True)]
    table = _table("layers", (*columns, *([""] if bars else [])))
    for layer, row in zip(layers, rows, strict=True):
        share = [bar(share_of(layer.energy_j, total))] if bars else []
        table.add_row(*map(Text, (*row, *share)))
    return Group(table, *_hidden(len(report.layers), top))


def _place(layer: LayerSection | EstimateLayer) -> str:
    """The module, and below it the line without its folder: a terminal is narrow."""
    module, source = place_cells(layer)
    return f"{module}\n{source.rpartition('/')[2]}".rstrip()


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(
        title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False
    )
    for column in columns:
        right = column in _RIGHT or column == "error share"
        table.add_column(
            column,
            justify="right" if right else "left",
            no_wrap=right or column in ("pass", ""),
            overflow="fold",
        )
    return table


def _hidden(count: int, top: int | None) -> list[Text]:
    left = 0 if top is None else max(count - top, 0)
    return [Text(f"  and {left} more")] if left else []


def _notes(report: Report) -> list[Text]:
    return [Text(f"note: {sentence}") for sentence in note_sentences(report)]
