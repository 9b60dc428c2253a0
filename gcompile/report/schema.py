"""The JSON schemas of what other programs read; the committed files are made from the models.

After changing a model: `python -m gcompile.report.schema` writes them anew. A test compares.
"""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

from gcompile.report.bench import BenchResult
from gcompile.report.report import EstimateReport, Report
from gcompile.report.section import Section
from gcompile.report.sweep import SensitivityReport, SweepReport

SCHEMAS: dict[str, type[Section]] = {
    "report.schema.json": Report,
    "bench.schema.json": BenchResult,
    "estimate.schema.json": EstimateReport,
    "sweep.schema.json": SweepReport,
    "sensitivity.schema.json": SensitivityReport,
}


def schema_text(name: str) -> str:
    """The schema that the models give now, as the text of its file."""
    schema = SCHEMAS[name].model_json_schema(mode="serialization")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"


def packaged_schema(name: str) -> str:
    """The schema as it is installed with the package."""
    return (files("gcompile.report") / "schemas" / name).read_text(encoding="utf-8")


def write_schemas(folder: Path) -> None:
    """Write every schema into the folder."""
    folder.mkdir(exist_ok=True)
    for name in SCHEMAS:
        (folder / name).write_text(schema_text(name), encoding="utf-8")


if __name__ == "__main__":
    write_schemas(Path(__file__).parent / "schemas")
