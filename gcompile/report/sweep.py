"""What `gcompile sweep` and `gcompile sensitivity` found, as data."""

from __future__ import annotations

from typing import Literal

from gcompile.report.section import Section


class SweepPoint(Section):
    """One choice of precisions that was measured."""

    energy_j: float
    """Joules per inference, estimated."""
    low_j: float
    high_j: float
    time_s: float
    """Seconds of one inference, estimated."""
    accuracy: float | None
    """Of the compiled code on the evaluation rows; null without such rows."""
    sqnr_db: float | None
    """Signal over noise of the outputs on calibration rows; null where they did not move, and
    without such rows."""
    precisions: dict[str, int]
    """How many regions with products compute in each format."""
    choice: dict[str, str]
    """The format of each region with products."""
    on_front: bool
    """No other point is as good in accuracy, energy and latency and better in one of them."""


class SweepReport(Section):
    """The front of accuracy, energy and latency of one model on one target."""

    schema_version: Literal[1] = 1
    gcompile_version: str
    model: str
    target: str
    metric: str | None
    """Null without evaluation rows."""
    reference_accuracy: float | None
    """Of the model as given, on the reference runtime."""
    exact_j: float
    """Joules of the model compiled with the exact passes: what relative budgets count from."""
    points: list[SweepPoint]
    """By rising energy."""


class SensitivityOption(Section):
    """One format that a region could have."""

    precision: str
    energy_j: float
    """Joules of the region in this format, with its share of the conversions around it."""
    error: float | None
    """Noise over signal of the model's outputs when this region alone has the format; null where
    the outputs stop being finite numbers."""
    error_share: float | None
    """Of the errors of all regions in this format."""


class SensitivityLayer(Section):
    """One region with products."""

    name: str
    op: str
    energy_share: float
    """Of the whole model's joules in its own precision."""
    options: list[SensitivityOption]


class SensitivityReport(Section):
    """How much each region minds each format, beside what it costs."""

    schema_version: Literal[1] = 1
    gcompile_version: str
    model: str
    target: str
    rows: int
    """Calibration rows that errors were measured on."""
    energy_j: float
    """Joules of the model in its own precision."""
    layers: list[SensitivityLayer]
    """In graph order."""
