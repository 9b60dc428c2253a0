"""One report on an artefact with several entry points."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gcompile.report.report import EntrySection, Report
from gcompile.report.write import REPORT_FILES


def entries_report(reports: Mapping[str, Report]) -> Report:
    """Join the reports on each entry point, by its name.

    Passes and layers are those of the first. The status is that of the first entry point that
    misses a constraint, if one does.
    """
    first = next(iter(reports.values()))
    status, message = first.status, first.message
    missed = [(name, report) for name, report in reports.items() if report.status != "ok"]
    for name, report in missed[:1]:
        status, message = report.status, f"Entry point {name}: {report.message}"
    notes = dict.fromkeys(note for report in reports.values() for note in report.notes)
    sections = [_section(name, report) for name, report in reports.items()]
    return first.model_copy(
        update={"status": status, "message": message, "entries": sections, "notes": list(notes)}
    )


def move_reports(part: Path, whole: Path, name: str) -> None:
    """Move what was reported on one entry point to where the artefact of all is."""
    for file in REPORT_FILES:
        (part / file).rename(whole / f"{name}.{file}")


def _section(name: str, report: Report) -> EntrySection:
    return EntrySection(
        name=name,
        model=report.model,
        status=report.status,
        message=report.message,
        energy=report.energy.after,
        tokens=report.tokens,
        energy_per_token_j=report.energy_per_token_j,
        accuracy=report.accuracy,
        fidelity=report.fidelity,
        verify=report.verify,
        fallbacks=report.fallbacks,
        peak_memory_bytes=report.peak_memory_bytes,
    )
