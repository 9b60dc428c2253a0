"""Build a model for a GPU on a machine that may have none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import gcompile
from gcompile import ir
from gcompile.report.report import Report


def build(
    model: ir.Model,
    folder: Path,
    precision: str | None,
    calib: Mapping[str, ir.Array] | None = None,
    target: str = "nvidia-a100",
) -> tuple[Report, list[str]]:
    """Return the report and the names of the kernels."""
    report = gcompile.compile(
        model, target, precision=precision, calib=calib, output=folder, cache=False
    ).report
    plan = json.loads((folder / "model.plan.json").read_text())
    return report, [kernel["name"] for kernel in plan["kernels"]]
