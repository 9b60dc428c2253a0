"""What lower power limits and clocks of a GPU should cost, by the energy model.

At a limit the clock falls until the power holds it, P(s) = P_static + E(s) / t(s) ≤ limit, and
dynamic power goes with clock^n: see `gcompile.energy.gpu`. The exponent n is fitted on pairs of
capped and uncapped results of MLPerf; each target names its source.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from gcompile import ir
from gcompile.energy.estimate import EnergyModel, estimate
from gcompile.targets import Target, with_clock, with_power_limit

_STEPS = 6
_CLOCKS = (0.9, 0.8, 0.7, 0.6, 0.5)
_ROUND_W = 5.0
_LEAST_SAVING = 0.02
"""A prediction of less is nothing to act upon."""


@dataclass(frozen=True)
class PowerPoint:
    """One inference at one setting.

    Attributes:
        limit_w: The power limit.
        clock_hz: The highest clock allowed.
    """

    limit_w: float
    clock_hz: float
    energy_j: float
    time_s: float


@dataclass(frozen=True)
class PowerAdvice:
    """What an inference should cost at lower limits and clocks; predictions, nothing is set.

    Attributes:
        now: As the target is described.
        limits: Lower power limits that change something, falling.
        clocks: Lower clocks, falling.
    """

    now: PowerPoint
    limits: tuple[PowerPoint, ...]
    clocks: tuple[PowerPoint, ...]

    @property
    def best_limit(self) -> PowerPoint | None:
        """The limit with the fewest joules, where it saves some."""
        return self._best(self.limits)

    @property
    def best_clock(self) -> PowerPoint | None:
        """The clock with the fewest joules, where it saves some."""
        return self._best(self.clocks)

    def _best(self, points: tuple[PowerPoint, ...]) -> PowerPoint | None:
        best = min(points, key=lambda point: point.energy_j, default=self.now)
        return best if best.energy_j < (1 - _LEAST_SAVING) * self.now.energy_j else None


def power_advice(model: ir.Model, target: Target, energy: EnergyModel) -> PowerAdvice | None:
    """Price the model at lower limits and clocks; None where the target describes no limit."""
    if target.kind != "gpu" or target.power is None:
        return None
    now = _point(model, target, energy)
    return PowerAdvice(
        now,
        tuple(p for p in _at_limits(model, target, energy) if p.time_s > now.time_s),
        tuple(
            _point(model, with_clock(target, share * target.clock_hz), energy) for share in _CLOCKS
        ),
    )


def _at_limits(model: ir.Model, target: Target, energy: EnergyModel) -> Iterator[PowerPoint]:
    power = target.power
    assert power is not None
    lowest = max(power.lowest_limit_w, math.ceil(target.static_w + 1))
    for step in range(1, _STEPS + 1):
        watts = power.limit_w - (power.limit_w - lowest) * step / _STEPS
        watts = max(lowest, _ROUND_W * round(watts / _ROUND_W))
        yield _point(model, with_power_limit(target, watts), energy)


def _point(model: ir.Model, target: Target, energy: EnergyModel) -> PowerPoint:
    total = estimate(model, target, energy).total
    limit_w = target.power.limit_w if target.power else math.inf
    return PowerPoint(limit_w, target.clock_hz, total.energy_j, total.time_s)
