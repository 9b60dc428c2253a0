"""Write what a build reports into its folder, each file whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from pydantic import ValidationError

from gcompile.errors import ArtifactError, BackendUnavailableError, UsageError
from gcompile.report.config import BuildConfig
from gcompile.report.html import to_html
from gcompile.report.layout import pass_outcome
from gcompile.report.markdown import to_markdown
from gcompile.report.report import Report
from gcompile.report.sweep import SensitivityReport, SweepReport
from gcompile.report.sweep_page import sensitivity_to_html, sweep_to_html
from gcompile.report.sweep_plot import sweep_to_png

REPORT_NAME = "report.json"
REPORT_FILES = (REPORT_NAME, "report.html", "report.md", "ledger.json")
CONFIG_NAME = "config.resolved.toml"


def write_report(report: Report, folder: str | Path, config: BuildConfig | None = None) -> None:
    """Write the report as JSON, HTML and Markdown, the ledger, and the configuration if given."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / REPORT_NAME, report.model_dump_json(indent=2) + "\n")
    write_atomically(folder / "report.html", to_html(report))
    write_atomically(folder / "report.md", to_markdown(report))
    write_atomically(folder / "ledger.json", ledger_text(report))
    if config is not None:
        write_config(config, folder)


def write_sweep(report: SweepReport, folder: str | Path) -> str | None:
    """Write a sweep as JSON, HTML and, where that can be drawn, PNG.

    Returns:
        Why there is no PNG, or None where there is one.
    """
    folder = _made(folder)
    write_atomically(folder / "sweep.json", report.model_dump_json(indent=2) + "\n")
    write_atomically(folder / "sweep.html", sweep_to_html(report))
    try:
        drawn = sweep_to_png(report)
    except BackendUnavailableError as error:
        return str(error)
    write_atomically(folder / "sweep.png", drawn)
    return None


def write_sensitivity(report: SensitivityReport, folder: str | Path) -> None:
    """Write sensitivities as JSON and HTML."""
    folder = _made(folder)
    write_atomically(folder / "sensitivity.json", report.model_dump_json(indent=2) + "\n")
    write_atomically(folder / "sensitivity.html", sensitivity_to_html(report))


def _made(folder: str | Path) -> Path:
    """The folder, made where it does not exist.

    Raises:
        UsageError: It cannot be made.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"Output folder {str(folder)!r} cannot be made: {error.strerror}. "
            "Choose another with -o."
        ) from error
    return folder


def write_config(config: BuildConfig, folder: str | Path) -> None:
    """Write config.resolved.toml, with which the build can be run again."""
    write_atomically(Path(folder) / CONFIG_NAME, config.to_toml())


def read_report(path: str | Path) -> Report:
    """Read a report.json, given as the file or as the artefact folder that holds it.

    Raises:
        ArtifactError: The file is missing, damaged, or of another version.
    """
    path = Path(path)
    path = path / REPORT_NAME if path.is_dir() else path
    try:
        return Report.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ArtifactError(
            f"Report {str(path)!r} cannot be read: {error.strerror}. "
            "Give a report.json, or the folder that `gcompile build` wrote."
        ) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ArtifactError(
            f"Report {str(path)!r} is damaged or of another version "
            f"({place}: {first['msg']}). Build the model again."
        ) from error


def ledger_text(report: Report) -> str:
    """The ledger as JSON: for every pass its joules before and after, and what became of it.

    Where the model was compiled for several sizes, the joules of each follow.
    """
    entries = [
        entry.model_dump()
        | {"delta_j": entry.after_j - entry.before_j, "outcome": pass_outcome(entry)}
        for entry in report.passes
    ]
    head = {
        "schema_version": report.schema_version,
        "model": report.model,
        "target": report.target,
        "estimated_by": report.estimated_by,
        "boundary": report.energy.after.boundary,
        "idle_policy": report.energy.after.idle_policy,
    }
    sizes = {"dynamic": report.dynamic.model_dump()} if report.dynamic is not None else {}
    return json.dumps(head | {"passes": entries} | sizes, indent=2, ensure_ascii=False) + "\n"


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace the file in one step: a reader sees the old text or the new, never a part."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    staging = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        staging.chmod(0o644)
        staging.replace(path)
    except BaseException:
        staging.unlink(missing_ok=True)
        raise
