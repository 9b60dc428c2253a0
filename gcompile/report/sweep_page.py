"""Sweeps and sensitivities as pages: the front as a drawing, then every number."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from gcompile.report.page import escape, page, table
from gcompile.report.quantity import format_change, format_energy, format_share, format_time
from gcompile.report.sweep import SensitivityReport, SweepPoint, SweepReport

SWEEP_COLUMNS = ("", "energy", "change", "time", "accuracy", "SQNR", "formats")
SENSITIVITY_COLUMNS = ("layer", "op", "energy", "format", "energy in it", "error", "error share")

_WIDTH, _HEIGHT, _MARGIN = 720.0, 360.0, 60.0


def sweep_to_html(report: SweepReport) -> str:
    """A sweep as one self-contained page."""
    title = f"{report.model} on {report.target}: accuracy and energy"
    rows = [
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in sweep_row(report, point)) + "</tr>"
        for point in report.points
    ]
    body = [f"<h1>{escape(title)}</h1>", _drawing(report), table(SWEEP_COLUMNS, rows)]
    return page(title, "\n".join(body))


def sensitivity_to_html(report: SensitivityReport) -> str:
    """Sensitivities as one self-contained page."""
    title = f"{report.model} on {report.target}: what each layer minds"
    rows = [
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
        for cells in sensitivity_rows(report)
    ]
    said = f"<p>Errors on {report.rows} rows; one layer at a time, the others in their own format."
    return page(title, f"<h1>{escape(title)}</h1>\n{said}</p>\n{table(SENSITIVITY_COLUMNS, rows)}")


def sweep_row(report: SweepReport, point: SweepPoint) -> tuple[str, ...]:
    """The cells of one point, as `SWEEP_COLUMNS` names them."""
    return (
        "front" if point.on_front else "",
        format_energy(point.energy_j),
        format_change(report.exact_j, point.energy_j),
        format_time(point.time_s),
        "" if point.accuracy is None else f"{point.accuracy:.4f}",
        "" if point.sqnr_db is None else f"{point.sqnr_db:.1f} dB",
        ", ".join(f"{count} {name}" for name, count in point.precisions.items()),
    )


def sensitivity_rows(report: SensitivityReport) -> list[tuple[str, ...]]:
    """The cells of every layer and format, as `SENSITIVITY_COLUMNS` names them."""
    return [
        (
            layer.name,
            layer.op,
            format_share(layer.energy_share),
            option.precision,
            format_energy(option.energy_j),
            "not finite" if option.error is None else f"{option.error:.2e}",
            "" if option.error_share is None else format_share(option.error_share),
        )
        for layer in report.layers
        for option in layer.options
        if option.error != 0 or option.precision != "fp32"
    ]


def quality(point: SweepPoint) -> float | None:
    """What is drawn upwards: accuracy, or the signal over the noise in dB without rows for it."""
    return point.accuracy if point.accuracy is not None else point.sqnr_db


def _drawing(report: SweepReport) -> str:
    """The points over their energies on a logarithmic scale; the front is joined by a line."""
    shown = [(point, good) for point in report.points if (good := quality(point)) is not None]
    if not shown:
        return ""
    x = _scale([math.log(p.energy_j) for p, _ in shown], _MARGIN, _WIDTH - 20)
    y = _scale([good for _, good in shown], _HEIGHT - _MARGIN, 20)
    places = [(x(math.log(point.energy_j)), y(good), point) for point, good in shown]
    line = " ".join(f"{a:.1f},{b:.1f}" for a, b, point in places if point.on_front)
    dots = "".join(
        f'<circle cx="{a:.1f}" cy="{b:.1f}" r="5" class="{"part" if p.on_front else "track"}">'
        f"<title>{escape(', '.join(filter(None, sweep_row(report, p))))}</title></circle>"
        for a, b, p in places
    )
    ends = (shown[0], shown[-1])
    labels = "".join(
        f'<text x="{x(math.log(p.energy_j)):.1f}" y="{_HEIGHT - 30}" text-anchor="{anchor}">'
        f"{escape(format_energy(p.energy_j))}</text>"
        for (p, _), anchor in zip(ends, ("start", "end"), strict=True)
    ) + "".join(
        f'<text x="4" y="{y(good):.1f}">{good:.4g}</text>'
        for good in {min(g for _, g in shown), max(g for _, g in shown)}
    )
    name = escape(report.metric or "SQNR in dB")
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}" role="img" '
        f'aria-label="{name} over energy"><polyline points="{line}"/>{dots}{labels}'
        f'<text x="{_WIDTH / 2:.0f}" y="{_HEIGHT - 8}" text-anchor="middle">'
        f"{name} over joules per inference</text></svg>"
    )


def _scale(values: Sequence[float], start: float, end: float) -> Callable[[float], float]:
    low, high = min(values), max(values)

    def place(value: float) -> float:
        return start + (end - start) * ((value - low) / (high - low) if high > low else 0.5)

    return place
