"""Set a device's own numbers from micro-benchmarks: what each isolates is what it corrects.

Every measured kernel is priced by the base first; its joules by cause are the columns, and one
factor per cause is fitted to the measured joules: non-negative least squares on relative errors
with a ridge towards 1, the base. Static joules are the idle power times the measured time and are
not fitted. Rates follow from the measured times of the kernels that are bound by them.

Tiles keep their meaning: unlike rows of whole inferences, which tell no level of memory from
another, this changes the numbers that the roofline itself works with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np

from gcompile.energy.calibration.prior import Vector
from gcompile.energy.cost import Cost
from gcompile.energy.meters.meter import Boundary
from gcompile.errors import UsageError
from gcompile.targets import Source, Target

_NOISE = 0.05
_FACTOR_DEVIATION = 1.0
_LEAST_ERROR = 0.1
_LEAST_FACTOR, _MOST_FACTOR = 0.05, 20.0
_MEASURED = Source("Micro-benchmarks of this device under a meter", "measured")


@dataclass(frozen=True)
class Reading:
    """One micro-benchmark, measured on one core.

    Attributes:
        name: What it is called.
        isolates: `launch`, `vector`, `unit NAME`, `level NAME`, or empty for a check.
        predicted: What the base says.
    """

    name: str
    isolates: str
    predicted: Cost
    energy_j: float
    time_s: float


def calibrated_device(
    base: Target, idle_w: float, readings: Sequence[Reading], boundary: Boundary
) -> Target:
    """Return the base with static power, energies and rates that explain the readings.

    Args:
        base: The device as described.
        idle_w: Power inside the boundary while nothing runs.
        readings: Micro-benchmarks; every energy is that of one run.
        boundary: `chip`, `board` or `wall`, as the meter sees it.

    Raises:
        UsageError: The readings are below the idle power, or too few.
    """
    if len(readings) < 4:
        raise UsageError(f"{len(readings)} micro-benchmarks are too few; run the whole suite.")
    resting = replace(base, static_w=idle_w, is_shared=False)
    dynamic = np.array([r.energy_j - idle_w * r.time_s for r in readings])
    if (dynamic <= 0).all():
        raise UsageError(
            f"No micro-benchmark drew more than the {idle_w:.3g} W of the idle device. Close "
            "other programs, wait for the device to settle, and measure again."
        )
    causes = _causes(base, readings)
    energies = np.array([r.energy_j for r in readings])
    factors = _fit_factors(np.array(list(causes.values())).T, dynamic, energies)
    by_cause = dict(zip(causes, map(float, factors), strict=True))
    found = _with_rates(_with_factors(resting, by_cause), readings)
    left = np.array(list(causes.values())).T @ factors - dynamic
    error = max(float(np.percentile(np.abs(left / energies), 95)), _LEAST_ERROR)
    keys = [key for key in base.sources if key.endswith(("_j", "_s", "_w", "efficiency"))]
    return replace(
        found,
        boundary=boundary,
        calibrated=True,
        relative_error=error,
        ratio_error=min(base.ratio_error, error),
        sources=dict(base.sources)
        | dict.fromkeys((*keys, "relative_error", "ratio_error", "static_w"), _MEASURED),
    )


def _causes(base: Target, readings: Sequence[Reading]) -> dict[str, Vector]:
    """Return the base's joules of each cause, one entry per reading."""

    def column(amount: object) -> Vector:
        assert callable(amount)
        return np.array([amount(r) for r in readings])

    causes = {"core": column(lambda r: base.core_w * r.time_s)}
    names = {r.isolates for r in readings if r.isolates.startswith("unit ")}
    for name in sorted(names):
        causes[name] = column(lambda r, n=name: _operations_j(base, r) * (r.isolates == n))
    causes["vector"] = column(
        lambda r: _operations_j(base, r) * (not r.isolates.startswith("unit "))
    )
    for memory in base.memories:
        causes[f"level {memory.name}"] = column(
            lambda r, m=memory.name: r.predicted.movement_j.get(m, 0.0)
        )
    causes["launch"] = column(lambda r: r.predicted.launch_j)
    return causes


def _operations_j(base: Target, reading: Reading) -> float:
    return max(reading.predicted.compute_j - base.core_w * reading.predicted.time_s, 0.0)


def _fit_factors(joules: Vector, dynamic: Vector, energies: Vector) -> Vector:
    from scipy.optimize import nnls  # Importing it takes a third of a second.

    count = joules.shape[1]
    system = np.vstack([joules / energies[:, None] / _NOISE, np.eye(count) / _FACTOR_DEVIATION])
    wanted = np.concatenate([dynamic / energies / _NOISE, np.full(count, 1 / _FACTOR_DEVIATION)])
    return np.clip(nnls(system, wanted)[0], _LEAST_FACTOR, _MOST_FACTOR)


def _with_factors(base: Target, factors: dict[str, float]) -> Target:
    units = [
        replace(u, op_j=u.op_j * factors.get(f"unit {u.name}", factors["vector"]))
        for u in base.units
    ]
    scaled = [m.byte_j * factors[f"level {m.name}"] for m in base.memories]
    # A byte from further out never costs less: what the fit cannot tell apart must not cross.
    outwards = accumulate(scaled, max)
    return replace(
        base,
        core_w=base.core_w * factors["core"],
        launch_j=base.launch_j * factors["launch"],
        units=tuple(units),
        memories=tuple(
            replace(m, byte_j=joules) for m, joules in zip(base.memories, outwards, strict=True)
        ),
    )


def _with_rates(base: Target, readings: Sequence[Reading]) -> Target:
    """Set the rate of what a reading isolates, from how long it really took."""
    slower = {
        r.isolates: float(np.clip(r.time_s / r.predicted.time_s, 1 / _MOST_FACTOR, _MOST_FACTOR))
        for r in readings
        if r.isolates and r.predicted.time_s > 0
    }
    units = tuple(
        replace(
            u, efficiency=min(1.0, max(0.01, u.efficiency / slower.get(f"unit {u.name}", 1.0)))
        )
        for u in base.units
    )
    rates = [m.bytes_per_s / slower.get(f"level {m.name}", 1.0) for m in base.memories]
    memories = tuple(
        replace(m, bytes_per_s=rate, core_bytes_per_s=m.core_bytes_per_s * rate / m.bytes_per_s)
        for m, rate in zip(base.memories, accumulate(rates, min), strict=True)
    )
    vector = base.vector_efficiency / slower.get("vector", 1.0)
    return replace(
        base,
        units=units,
        memories=memories,
        vector_efficiency=min(1.0, max(0.01, vector)),
        launch_s=base.launch_s * slower.get("launch", 1.0),
    )
