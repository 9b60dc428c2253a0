"""What `gcompile bench` prints, as data."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from gcompile.energy.meters import Measurement
from gcompile.report.carbon import CarbonSection
from gcompile.report.section import Section

Provenance = Literal["measured", "estimated", "unavailable"]


class Latency(Section):
    """Seconds of one inference, over all repeats."""

    median: float
    p95: float
    min: float


class BenchEnergy(Section):
    """Joules of one inference, and where the number comes from.

    What follows `boundary` is null unless the joules were measured.
    """

    joules_per_inference: float | None
    """Null when it is unavailable."""
    provenance: Provenance
    method: str
    """The meter that measured it, the model that estimated it, or why there is none."""
    boundary: str | None = None
    """What the joules include: chip, board or wall; null when they are unavailable."""
    stdev_j: float | None = None
    """Standard deviation of the joules per inference between windows."""
    repeats: int | None = None
    """Windows that count."""
    discarded: int | None = None
    """Windows left out as outliers."""
    window_s: float | None = None
    """Mean length of a window."""
    inferences: int | None = None
    """In all windows that count."""
    power_w: float | None = None
    """Mean power while inferences ran."""
    idle_w: float | None = None
    """Power while nothing ran here."""
    idle_policy: str | None = None
    """`full` where idle power is part of the joules, `marginal` where it is subtracted."""
    settled: bool | None = None
    """Whether windows agreed before they counted."""
    drift: float | None = None
    """Relative change between the last two windows before they counted."""
    started_at: datetime | None = None


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
    device_bytes: int | None = None
    """Memory of a GPU that the model holds; null on a CPU."""
    power_limit_w: float | None = None
    """What the GPU held because `--apply-power-cap` said so; null where nothing was set."""
    energy: BenchEnergy
    predicted: BenchEnergy | None = None
    """What the build predicted, beside what was measured; null unless `energy` is measured."""
    carbon: CarbonSection | None = None
    """Null unless a grid was given."""


def measured_energy(measurement: Measurement) -> BenchEnergy:
    """Return a measurement as data."""
    return BenchEnergy(
        joules_per_inference=measurement.joules_per_inference,
        provenance="measured",
        method=measurement.method,
        boundary=measurement.boundary,
        stdev_j=measurement.stdev_j,
        repeats=measurement.repeats,
        discarded=measurement.discarded,
        window_s=measurement.window_s,
        inferences=measurement.inferences,
        power_w=measurement.power_w,
        idle_w=measurement.idle_w,
        idle_policy=measurement.idle_policy,
        settled=measurement.settled,
        drift=measurement.drift,
        started_at=measurement.started_at,
    )
