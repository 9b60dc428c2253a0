"""`gcompile compare`: two reports side by side, and a gate for continuous integration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gcompile.cli.options import Format, FormatOption
from gcompile.cli.output import say, show, show_json
from gcompile.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from gcompile.report import Report

REGRESSED = 1

_SAME = ("target", "estimated_by", "threads")


def compare(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="A report.json, or its folder.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The one to judge.")],
    tolerance: Annotated[
        str, typer.Option("--tolerance", help="Energy that NEW may cost more: 2% or 0.02.")
    ] = "1%",
    format_: FormatOption = Format.TEXT,
) -> None:
    """Compare two reports; exit with 1 when NEW costs more energy than --tolerance allows."""
    allowed = _tolerance(tolerance)
    from gcompile.report import read_report

    before, after = read_report(old), read_report(new)
    _check_comparable(before, after)
    ratio = after.energy.after.energy_j / before.energy.after.energy_j
    regressed = ratio > 1 + allowed
    if format_ is Format.JSON:
        show_json(json.dumps(_data(before, after, allowed, regressed), indent=2))
    else:
        show(_table(before, after))
    if regressed:
        say(f"gcompile: energy rose by {ratio - 1:.2%}, more than the {allowed:.2%} allowed.")
        raise typer.Exit(REGRESSED)


def _tolerance(text: str) -> float:
    try:
        value = float(text.strip().removesuffix("%"))
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise UsageError(f"Tolerance {text!r:.40} is not a fraction. Write it as 2% or 0.02.")
    return value / 100 if text.strip().endswith("%") else value


def _check_comparable(before: Report, after: Report) -> None:
    """Joules of different devices, models of energy or boundaries are not comparable."""
    pairs = {name: (getattr(before, name), getattr(after, name)) for name in _SAME}
    for name in ("boundary", "idle_policy"):
        pairs[name] = (getattr(before.energy.after, name), getattr(after.energy.after, name))
    if different := [name for name, (one, other) in pairs.items() if one != other]:
        listed = ", ".join(f"{n}: {pairs[n][0]} and {pairs[n][1]}" for n in different)
        raise UsageError(
            f"The reports cannot be compared, they differ in {listed}. "
            "Build both models with the same options."
        )
    if not before.energy.after.energy_j > 0:
        raise UsageError("The old report says an inference costs nothing. Build it again.")


def _data(before: Report, after: Report, allowed: float, regressed: bool) -> dict[str, object]:
    return {
        "schema_version": 1,
        "old": _figures(before),
        "new": _figures(after),
        "tolerance": allowed,
        "regressed": regressed,
    }


def _figures(report: Report) -> dict[str, object]:
    return {
        "model": report.model,
        "status": report.status,
        "energy_j": report.energy.after.energy_j,
        "time_s": report.energy.after.time_s,
        "accuracy": report.accuracy.compiled if report.accuracy else None,
    }


def _table(before: Report, after: Report) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from gcompile.report.quantity import format_change, format_energy, format_time, printable

    table = Table(box=SIMPLE_HEAD)
    for column in ("", "old", "new", "change"):
        table.add_column(column)
    old, new = before.energy.after, after.energy.after
    rows = [
        ("model", before.model, after.model, ""),
        ("status", before.status, after.status, ""),
        (f"energy ({new.boundary}, {after.estimated_by})", *_both(old.energy_j, new.energy_j)),
        ("  between", format_energy(old.low_j), format_energy(new.low_j), ""),
        ("  and", format_energy(old.high_j), format_energy(new.high_j), ""),
        (
            "time",
            format_time(old.time_s),
            format_time(new.time_s),
            format_change(old.time_s, new.time_s),
        ),
        ("accuracy", _accuracy(before), _accuracy(after), ""),
    ]
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table


def _both(old_j: float, new_j: float) -> tuple[str, str, str]:
    from gcompile.report.quantity import format_change, format_energy

    return format_energy(old_j), format_energy(new_j), format_change(old_j, new_j)


def _accuracy(report: Report) -> str:
    if report.accuracy is None:
        return "not measured"
    return f"{report.accuracy.metric} {report.accuracy.compiled:.4f}"
