"""How much carbon dioxide a kilowatt-hour costs, and who says so."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from gcompile.errors import UsageError

JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True)
class Intensity:
    """Grams of CO2 equivalent per kilowatt-hour of electricity.

    Attributes:
        g_per_kwh: Zero or more.
        source: Who says so, with the licence where it asks to be named.
        zone: The country or grid region; None for a number that the user gave.
        at: The year or the time it holds for; None for a number that the user gave.
        signal: `average` shares out all emissions of the grid, `marginal` counts the power
            plants that would answer one more kilowatt-hour.
    """

    g_per_kwh: float
    source: str
    zone: str | None = None
    at: str | None = None
    signal: Literal["average", "marginal"] = "average"

    def grams(self, energy_j: float) -> float:
        """Return the grams of CO2 equivalent of an amount of electricity."""
        return energy_j / JOULES_PER_KWH * self.g_per_kwh

    def energy_j(self, grams: float) -> float:
        """Return the electricity that emits as much.

        Raises:
            UsageError: It emits nothing, so any amount would do.
        """
        if not self.g_per_kwh > 0:
            raise UsageError(
                f"Electricity of {self.g_per_kwh:g} gCO2e/kWh ({self.source}) emits nothing, so "
                "a carbon budget limits nothing; give the budget in joules."
            )
        return grams / self.g_per_kwh * JOULES_PER_KWH


def fixed_intensity(g_per_kwh: float) -> Intensity:
    """Return an intensity that the user knows.

    Raises:
        UsageError: It is negative, not finite, or in another unit by its size.
    """
    if not (0 <= g_per_kwh <= 5000 and math.isfinite(g_per_kwh)):
        raise UsageError(
            f"Carbon intensity {g_per_kwh:g} is not between 0 and 5000 gCO2e/kWh; "
            "give grams per kilowatt-hour, such as --carbon-intensity 350."
        )
    return Intensity(g_per_kwh, "given by the user")
