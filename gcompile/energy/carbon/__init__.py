"""Carbon: grams of CO2 equivalent of an inference, of many, and of the build."""

from gcompile.energy.carbon.accounting import (
    INFERENCES,
    Accounting,
    Embodied,
    accounting,
    as_accounting,
    parse_embodied,
)
from gcompile.energy.carbon.assess import (
    BuildEnergy,
    Carbon,
    Sci,
    assess,
    build_energy,
    cpu_seconds,
)
from gcompile.energy.carbon.countries import zone_intensity
from gcompile.energy.carbon.intensity import Intensity, fixed_intensity
from gcompile.energy.carbon.providers import (
    PROVIDERS,
    ElectricityMaps,
    Provider,
    UkCarbonIntensity,
    WattTime,
    find_provider,
)

__all__ = [
    "INFERENCES",
    "PROVIDERS",
    "Accounting",
    "BuildEnergy",
    "Carbon",
    "ElectricityMaps",
    "Embodied",
    "Intensity",
    "Provider",
    "Sci",
    "UkCarbonIntensity",
    "WattTime",
    "accounting",
    "as_accounting",
    "assess",
    "build_energy",
    "cpu_seconds",
    "find_provider",
    "fixed_intensity",
    "parse_embodied",
    "zone_intensity",
]
