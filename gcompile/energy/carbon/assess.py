"""What inferences and builds emit.

    gCO2e = kWh · gCO2e/kWh
    SCI   = ((E · I) + M) per R        Software Carbon Intensity, ISO/IEC 21031:2024

E is the electricity of R in kWh, I the intensity of the grid there, M the share of what making the
hardware emitted, and R, the functional unit, one inference. The standard counts no certificates
and no offsets, and neither does this.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Literal

from gcompile.energy.carbon.accounting import Accounting
from gcompile.energy.carbon.intensity import JOULES_PER_KWH, Intensity
from gcompile.energy.estimate import Estimate
from gcompile.energy.meters import Measurement
from gcompile.targets import Target


@dataclass(frozen=True)
class Sci:
    """The terms of the Software Carbon Intensity, per inference.

    Attributes:
        energy_kwh: E.
        g_per_kwh: I.
        embodied_g: M; None where the user did not say what the device embodies, counted as zero.
        score_g: The result, in gCO2e per inference.
    """

    energy_kwh: float
    g_per_kwh: float
    embodied_g: float | None
    score_g: float


@dataclass(frozen=True)
class BuildEnergy:
    """What the compilation itself took: always an estimate.

    Attributes:
        cpu_s: CPU seconds of the process and those it started.
        power_w: Power of one busy core of this machine.
        low_j: Lower end of the band.
        high_j: Upper end of the band.
    """

    cpu_s: float
    power_w: float
    low_j: float
    high_j: float

    @property
    def energy_j(self) -> float:
        """All joules."""
        return self.cpu_s * self.power_w


@dataclass(frozen=True)
class Carbon:
    """Emissions of one inference, of many, and of the build.

    Attributes:
        provenance: Whether the joules were predicted or metered.
        boundary: What the joules include.
        inference_g: gCO2e of the electricity of one inference.
        low_g: Lower end: of the estimate's band, or two standard deviations below.
        high_g: Upper end.
        inferences: The many.
        inferences_g: Of them.
        build: What the build took; None when there was none.
        build_g: gCO2e of the build, on the same grid.
    """

    intensity: Intensity
    provenance: Literal["estimated", "measured"]
    boundary: str
    inference_g: float
    low_g: float
    high_g: float
    inferences: int
    inferences_g: float
    sci: Sci
    build: BuildEnergy | None = None
    build_g: float | None = None


def assess(
    energy: Estimate | Measurement, accounting: Accounting, build: BuildEnergy | None = None
) -> Carbon:
    """Return what one inference and many emit, with the terms of the SCI.

    Args:
        energy: Predicted or metered joules of one inference.
        accounting: The grid, how many inferences, and what the device embodies.
        build: What compiling took, if it is to be counted.
    """
    grid = accounting.intensity
    energy_j, low_j, high_j, time_s = _figures(energy)
    inference_g = grid.grams(energy_j)
    embodied_g = accounting.embodied.grams(time_s) if accounting.embodied else None
    return Carbon(
        intensity=grid,
        provenance="estimated" if isinstance(energy, Estimate) else "measured",
        boundary=energy.boundary,
        inference_g=inference_g,
        low_g=grid.grams(low_j),
        high_g=grid.grams(high_j),
        inferences=accounting.inferences,
        inferences_g=inference_g * accounting.inferences,
        sci=Sci(
            energy_j / JOULES_PER_KWH, grid.g_per_kwh, embodied_g, inference_g + (embodied_g or 0)
        ),
        build=build,
        build_g=grid.grams(build.energy_j) if build else None,
    )


def build_energy(cpu_s: float, host: Target) -> BuildEnergy:
    """Estimate the joules of a compilation from its CPU time.

    A busy core draws its share of the static power, what it draws when it runs, and what its
    arithmetic adds; the host's description has all three.
    """
    arithmetic_w = host.launch_j / host.launch_s if host.launch_s else 0.0
    power_w = host.static_w / host.cores + host.core_w + arithmetic_w
    energy_j, error = cpu_s * power_w, 1 + host.relative_error
    return BuildEnergy(cpu_s, power_w, energy_j / error, energy_j * error)


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of those it has started and that have ended."""
    ended = os.times()
    return time.process_time() + ended.children_user + ended.children_system


def _figures(energy: Estimate | Measurement) -> tuple[float, float, float, float]:
    """Return joules, the ends of their band, and seconds of one inference."""
    if isinstance(energy, Estimate):
        return energy.total.energy_j, energy.low_j, energy.high_j, energy.total.time_s
    spread_j = 2 * energy.stdev_j
    mean_j = energy.joules_per_inference
    return mean_j, max(mean_j - spread_j, 0.0), mean_j + spread_j, energy.seconds_per_inference
