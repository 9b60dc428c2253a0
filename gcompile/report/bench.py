"""What `gcompile bench` prints, as data."""

from __future__ import annotations

from typing import Literal

from gcompile.report.report import Section

Provenance = Literal["measured", "estimated", "unavailable"]


class Latency(Section):
    """Seconds of one inference, over all repeats."""

    median: float
    p95: float
    min: float


class BenchEnergy(Section):
    """Joules of one inference, and where the number comes from."""

    joules_per_inference: float | None
    """Null when it is unavailable."""
    provenance: Provenance
    method: str
    """The meter that measured it, the model that estimated it, or why there is none."""


class BenchResult(Section):
    """How fast an artefact runs on this machine."""

    schema_version: Literal[1] = 1
    gcompile_version: str
    model: str
    target: str
    threads: int
    warmup: int
    repeats: int
    latency_s: Latency
    cpu_time_s: float
    """CPU seconds of one inference, all threads together."""
    throughput_per_s: float
    """Inferences per second of wall time, one after the other."""
    energy: BenchEnergy
