"""Lower power limits and clocks of a GPU: what an inference should cost there."""

from __future__ import annotations

from pydantic import Field

from gcompile.energy.power_advice import PowerAdvice, PowerPoint
from gcompile.report.quantity import format_energy, format_time
from gcompile.report.section import Section


class PowerPointSection(Section):
    """One inference at one setting, predicted."""

    limit_w: float
    clock_hz: float
    """The highest clock that is allowed."""
    energy_j: float
    time_s: float


class PowerSection(Section):
    """What settings of the GPU should cost. Nothing is set: see `bench --apply-power-cap`."""

    limits: list[PowerPointSection] = Field(default_factory=list)
    """Lower power limits that change something."""
    clocks: list[PowerPointSection] = Field(default_factory=list)
    """Lower clocks, at the power limit of the target."""


def power_section(advice: PowerAdvice) -> PowerSection:
    """The advice as data."""
    return PowerSection(
        limits=[_section(point) for point in advice.limits],
        clocks=[_section(point) for point in advice.clocks],
    )


def power_note(advice: PowerAdvice) -> str:
    """The advice as sentences."""
    now, limit, clock = advice.now, advice.best_limit, advice.best_clock
    head = f"Predicted at {now.limit_w:g} W and {now.clock_hz / 1e6:.0f} MHz: {_costs(now)}."
    if limit is None and clock is None:
        return f"{head} No lower power limit or clock should save joules."
    parts = [head]
    if limit is not None:
        parts.append(
            f"At a power limit of {limit.limit_w:g} W: {_costs(limit)}; `gcompile bench FOLDER "
            f"--measure --apply-power-cap {limit.limit_w:g}` tries it."
        )
    if clock is not None:
        megahertz = round(clock.clock_hz / 1e6)
        parts.append(
            f"At a clock of {megahertz} MHz: {_costs(clock)}; `nvidia-smi -lgc {megahertz}` sets "
            "it and `nvidia-smi -rgc` lets it go."
        )
    return " ".join(parts)


def _costs(point: PowerPoint) -> str:
    return f"{format_energy(point.energy_j)} in {format_time(point.time_s)}"


def _section(point: PowerPoint) -> PowerPointSection:
    return PowerPointSection(
        limit_w=point.limit_w,
        clock_hz=point.clock_hz,
        energy_j=point.energy_j,
        time_s=point.time_s,
    )
