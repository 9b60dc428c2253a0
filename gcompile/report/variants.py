"""One report on an artefact with code for several targets."""

from __future__ import annotations

from collections.abc import Mapping

from gcompile.report.report import Report, VariantSection


def target_names(text: str) -> tuple[str, ...]:
    """The targets that `--target` names, separated by commas."""
    return tuple(name.strip() for name in text.split(","))


def joint_report(reports: Mapping[str, Report]) -> Report:
    """Join the reports on each variant, by its name.

    Passes and layers are those of the first. Its status is that of the first variant that misses a
    constraint, if one does.
    """
    first = next(iter(reports.values()))
    if len(reports) == 1:
        return first
    missed = {name: report for name, report in reports.items() if report.status != "ok"}
    status, message = first.status, first.message
    for name, report in list(missed.items())[:1]:
        status, message = report.status, f"Variant {name}: {report.message}"
    notes = dict.fromkeys(note for report in reports.values() for note in report.notes)
    return first.model_copy(
        update={
            "status": status,
            "message": message,
            "variants": [_section(name, report) for name, report in reports.items()],
            "notes": list(notes),
        }
    )


def _section(name: str, report: Report) -> VariantSection:
    return VariantSection(
        name=name,
        target=report.target,
        status=report.status,
        message=report.message,
        energy=report.energy.after,
        accuracy=report.accuracy,
        fidelity=report.fidelity,
        verify=report.verify,
        fallbacks=report.fallbacks,
        peak_memory_bytes=report.peak_memory_bytes,
    )
