"""Emissions as data: the `carbon` section of every report, and its rows."""

from __future__ import annotations

from typing import Literal

from gcompile.energy.carbon import BuildEnergy, Carbon
from gcompile.report.quantity import format_energy, format_grams, printable
from gcompile.report.section import Section


class CarbonIntensity(Section):
    """How much the electricity emits, and who says so."""

    g_per_kwh: float
    """Grams of CO2 equivalent per kilowatt-hour."""
    zone: str | None
    """The country or grid region; null for a number that the user gave."""
    at: str | None
    """The year or time it holds for; null for a number that the user gave."""
    signal: Literal["average", "marginal"]
    source: str


class SciSection(Section):
    """Software Carbon Intensity, ISO/IEC 21031:2024: ((E · I) + M) per R."""

    energy_kwh: float
    """E: electricity of one functional unit."""
    intensity_g_per_kwh: float
    """I."""
    embodied_g: float | None
    """M; null where the user did not give it, and then counted as zero."""
    functional_unit: str
    """R."""
    score_g: float
    """Grams of CO2 equivalent per functional unit. Compilation is not part of it."""


class BuildCarbon(Section):
    """What the compilation itself emitted: an estimate from its CPU time."""

    cpu_s: float
    power_w: float
    """Of one busy core of the machine that compiled."""
    energy_j: float
    low_j: float
    high_j: float
    gco2e: float
    provenance: Literal["estimated"] = "estimated"


class CarbonSection(Section):
    """Grams of CO2 equivalent of the electricity of inferences and of the build."""

    intensity: CarbonIntensity
    provenance: Literal["estimated", "measured"]
    """Whether the joules were predicted or metered."""
    boundary: str
    """What the joules include."""
    unit: str
    """What one run is: an inference, or a batch of them."""
    gco2e: float
    """Of one unit."""
    low_gco2e: float
    high_gco2e: float
    units: int
    """For how many units the sum is."""
    units_gco2e: float
    build: BuildCarbon | None
    """Null where nothing was built."""
    sci: SciSection


def carbon_section(carbon: Carbon, unit: str = "inference") -> CarbonSection:
    """Return emissions as data."""
    grid, sci = carbon.intensity, carbon.sci
    return CarbonSection(
        intensity=CarbonIntensity(
            g_per_kwh=grid.g_per_kwh,
            zone=grid.zone,
            at=grid.at,
            signal=grid.signal,
            source=grid.source,
        ),
        provenance=carbon.provenance,
        boundary=carbon.boundary,
        unit=unit,
        gco2e=carbon.inference_g,
        low_gco2e=carbon.low_g,
        high_gco2e=carbon.high_g,
        units=carbon.inferences,
        units_gco2e=carbon.inferences_g,
        build=_build(carbon.build, carbon.build_g),
        sci=SciSection(
            energy_kwh=sci.energy_kwh,
            intensity_g_per_kwh=sci.g_per_kwh,
            embodied_g=sci.embodied_g,
            functional_unit=unit,
            score_g=sci.score_g,
        ),
    )


def carbon_rows(carbon: CarbonSection | None) -> list[tuple[str, str]]:
    """Return a label and a sentence for each thing a reader wants; none without a grid."""
    if carbon is None:
        return []
    rows = [("carbon", _emitted(carbon)), ("  grid", _grid(carbon.intensity))]
    rows.append(("  SCI", _sci(carbon.sci)))
    if carbon.build is not None:
        rows.append(("  build", _built(carbon.build)))
    return rows


def _build(build: BuildEnergy | None, grams: float | None) -> BuildCarbon | None:
    if build is None or grams is None:
        return None
    return BuildCarbon(
        cpu_s=build.cpu_s,
        power_w=build.power_w,
        energy_j=build.energy_j,
        low_j=build.low_j,
        high_j=build.high_j,
        gco2e=grams,
    )


def _emitted(carbon: CarbonSection) -> str:
    return (
        f"{format_grams(carbon.gco2e)} per {printable(carbon.unit)} "
        f"({format_grams(carbon.low_gco2e)} to {format_grams(carbon.high_gco2e)}, "
        f"{carbon.provenance}, {printable(carbon.boundary)} boundary); "
        f"{format_grams(carbon.units_gco2e)} per {carbon.units:,}"
    )


def _grid(grid: CarbonIntensity) -> str:
    where = " ".join(printable(part) for part in (grid.zone, grid.at) if part)
    place = f"{where}, " if where else ""
    return f"{grid.g_per_kwh:.4g} gCO2e/kWh, {place}{grid.signal}: {printable(grid.source)}"


def _sci(sci: SciSection) -> str:
    embodied = "0 (not given)" if sci.embodied_g is None else format_grams(sci.embodied_g)
    return (
        f"((E {sci.energy_kwh:.3g} kWh · I {sci.intensity_g_per_kwh:.4g} gCO2e/kWh) + "
        f"M {embodied}) per {printable(sci.functional_unit)} = {format_grams(sci.score_g)}"
    )


def _built(build: BuildCarbon) -> str:
    return (
        f"{format_grams(build.gco2e)}, estimated: {build.cpu_s:.1f} CPU seconds at "
        f"{build.power_w:.3g} W, {format_energy(build.energy_j)} "
        f"({format_energy(build.low_j)} to {format_energy(build.high_j)})"
    )
