"""The user's budget, and what a compilation did with it: as data, text, Markdown and HTML."""

from gcompile.report.bench import BenchEnergy, BenchResult, Latency, measured_energy
from gcompile.report.budget import Budget, parse_drop, parse_duration
from gcompile.report.carbon import CarbonSection, carbon_rows, carbon_section
from gcompile.report.config import BuildConfig
from gcompile.report.dynamic import dynamic_section
from gcompile.report.entries import entries_report, move_reports
from gcompile.report.folder import artifact_folder, check_output
from gcompile.report.html import to_html
from gcompile.report.make import gcompile_version, make_estimate_report, make_report
from gcompile.report.markdown import to_markdown
from gcompile.report.report import (
    Accuracy,
    EnergySection,
    EntrySection,
    EstimateReport,
    Fidelity,
    LayerSection,
    PassSection,
    Report,
    Status,
    VariantSection,
    Verify,
)
from gcompile.report.sweep import SensitivityReport, SweepReport
from gcompile.report.text import to_text
from gcompile.report.variants import joint_report, target_names
from gcompile.report.write import (
    REPORT_NAME,
    read_report,
    write_config,
    write_report,
    write_sensitivity,
    write_sweep,
)

__all__ = [
    "REPORT_NAME",
    "Accuracy",
    "BenchEnergy",
    "BenchResult",
    "Budget",
    "BuildConfig",
    "CarbonSection",
    "EnergySection",
    "EntrySection",
    "EstimateReport",
    "Fidelity",
    "Latency",
    "LayerSection",
    "PassSection",
    "Report",
    "SensitivityReport",
    "Status",
    "SweepReport",
    "VariantSection",
    "Verify",
    "artifact_folder",
    "carbon_rows",
    "carbon_section",
    "check_output",
    "dynamic_section",
    "entries_report",
    "gcompile_version",
    "joint_report",
    "make_estimate_report",
    "make_report",
    "measured_energy",
    "move_reports",
    "parse_drop",
    "parse_duration",
    "read_report",
    "target_names",
    "to_html",
    "to_markdown",
    "to_text",
    "write_config",
    "write_report",
    "write_sensitivity",
    "write_sweep",
]
